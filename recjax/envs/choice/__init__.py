"""Response models: how a user chooses within a slate, buys, tires and leaves."""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.envs.choice.response_model import Description, ResponseModel, as_arrays, describe

__all__ = ["Description", "ResponseModel", "as_arrays", "describe"]

lazy(__name__)
