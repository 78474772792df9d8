"""What could be reached with users of the declared dynamics, by somebody who knows all of their state."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Oracle
from recjax.envs.choice import dynamics
from recjax.envs.choice.planning import Appraisal, grid, yardsticks
from recjax.envs.choice.response_model import ResponseModel
from recjax.response import Response
from recjax.rewards import Reward, click
from recjax.types import Array, PyTree

SATISFACTION_WORTH = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
BOREDOM_WEIGHT = (1.0, 1.5, 2.0, 3.0)


@struct.dataclass
class LookAhead:
    """A policy that looks ahead: two prices beside the reward of the next choice.

    Attributes:
      satisfaction_worth: of one unit of slow satisfaction, in units of reward: pleased users stay.
      boredom_weight: factor of boredom in what is thought of an item; above 1 spares topics for later.
    """

    satisfaction_worth: Array
    boredom_weight: Array


STILL = LookAhead(satisfaction_worth=0.0, boredom_weight=1.0)  # type: ignore[arg-type]
"""The plan that looks at this step alone."""


def oracles(slate_size: int, reward: Reward = click) -> dict[str, Oracle]:
    """The yardsticks of the declared dynamics.

    * ``myopic`` shows the slate with the largest expected reward of this step.
    * ``look_ahead`` adds to the reward of each choice what it does to the user's slow satisfaction, at a price, and
      weighs boredom more than users do. The best pair of the two is searched. Better policies may exist.

    Neither shows an item of the observed history, as the policies of a study do not.

    Args:
      slate_size: ``K``.
      reward: that is to be gained, linear in the signals of a slot.
    """
    family = grid(LookAhead, satisfaction_worth=SATISFACTION_WORTH, boredom_weight=BOREDOM_WEIGHT)
    what = "where a user's satisfaction has a price and boredom more weight"
    return yardsticks(partial(_appraise, reward=reward), slate_size, STILL, family, what)


def _appraise(user: dynamics.User, params: PyTree, world: PyTree, plan: LookAhead, *, reward: Reward) -> Appraisal:
    del world
    factors, model = params.factors, wary(params.response_model, plan)
    items = jnp.arange(factors.bias.shape[0])
    attraction = dynamics.attraction(user, items, model, factors)
    pleasure = jax.nn.sigmoid(attraction)
    answer = Response(click=jnp.ones_like(pleasure), conversion=model.conversion_rate * pleasure, satisfaction=pleasure)
    appeal = attraction + model.bait * factors.bait
    return appraisal(user, appeal, reward(answer), pleasure, model, plan)


def wary(response_model: ResponseModel, plan: LookAhead) -> ResponseModel:
    """The declared parameters as a policy with a plan sees them."""
    return response_model.replace(boredom_weight=plan.boredom_weight * response_model.boredom_weight)


def appraisal(
    user: dynamics.User, appeal: Array, reward: Array, pleasure: Array, response_model: ResponseModel, plan: LookAhead
) -> Appraisal:
    """What a plan expects where users choose, are pleased and tire of things as declared.

    Args:
      user: one user, whose observed history is not shown again.
      appeal: ``f32[N]``.
      reward: ``f32[N]`` expected of each item that is chosen.
      pleasure: ``f32[N]`` of each item that is chosen.
      response_model: the declared parameters.
      plan: says what satisfaction is worth.
    """
    change = response_model.satisfaction_rate * (pleasure - user.satisfaction)
    return Appraisal(
        logits=response_model.choice_scale * appeal - response_model.no_click_logit,
        values=reward + plan.satisfaction_worth * change,
        nothing=-plan.satisfaction_worth * response_model.no_click_decay * user.satisfaction,
        exclude=user.observation.history,
    )
