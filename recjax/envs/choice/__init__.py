"""Choice models: how a user chooses within a slate. The response model: how one buys, tires and leaves besides."""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.envs.choice.models import (
        ChoiceModel,
        exponential_cascade,
        multinomial_logit,
        multinomial_proportional,
        proportional_cascade,
    )
    from recjax.envs.choice.response_model import Description, ResponseModel, as_arrays, describe

__all__ = [
    "ChoiceModel",
    "Description",
    "ResponseModel",
    "as_arrays",
    "describe",
    "exponential_cascade",
    "multinomial_logit",
    "multinomial_proportional",
    "proportional_cascade",
]

lazy(__name__)
