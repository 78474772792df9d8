"""What could be reached with users of the declared dynamics, by somebody who knows all of their state."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.catalogue import Choices, best_slate, dense_scorer
from recjax.envs.base import Oracle
from recjax.envs.choice import dynamics
from recjax.envs.choice.response_model import ResponseModel
from recjax.response import Response
from recjax.rewards import Reward, click
from recjax.types import Array, Revealed

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
    choose = partial(_choose, slate_size=slate_size, reward=reward)
    pairs = np.array(list(itertools.product(SATISFACTION_WORTH, BOREDOM_WEIGHT)), np.float32)
    family = LookAhead(jnp.asarray(pairs[:, 0]), jnp.asarray(pairs[:, 1]))
    return {
        "myopic": Oracle(choose, "the slate with the largest expected reward of this step, by true taste"),
        "look_ahead": Oracle(
            choose,
            "the same, where a user's satisfaction has a price and boredom more weight: the best of"
            f" {len(pairs)} such pairs, so a lower bound",
            family,
        ),
    }


def _choose(key: Array, users: Revealed, setting: LookAhead | None, *, slate_size: int, reward: Reward) -> Array:
    del key
    plan = LookAhead(jnp.float32(0.0), jnp.float32(1.0)) if setting is None else setting
    of_each = jax.vmap(partial(_choices, reward=reward), in_axes=(0, None, None, None))
    odds, values, nothing = of_each(users.state, users.params.factors, users.params.response_model, plan)
    choices = Choices(dense_scorer(odds), dense_scorer(values), nothing)
    return best_slate(choices, slate_size, exclude=users.observation.history)[1]


def _choices(
    user: dynamics.User,
    factors: dynamics.ItemFactors,
    response_model: ResponseModel,
    plan: LookAhead,
    *,
    reward: Reward,
) -> tuple[Array, Array, Array]:
    """Of one user: log-odds and values of all items ``f32[N]``, and the value of no click."""
    items = jnp.arange(factors.bias.shape[0])
    bored = plan.boredom_weight * dynamics.boredom(user, items, factors)
    attraction = dynamics.preference_logits(user, items, factors) - response_model.boredom_weight * bored
    appeal = attraction + response_model.bait * factors.bait
    pleasure = jax.nn.sigmoid(attraction)
    answer = Response(
        click=jnp.ones_like(pleasure), conversion=response_model.conversion_rate * pleasure, satisfaction=pleasure
    )
    change = response_model.satisfaction_rate * (pleasure - user.satisfaction)
    values = reward(answer) + plan.satisfaction_worth * change
    nothing = -plan.satisfaction_worth * response_model.no_click_decay * user.satisfaction
    return response_model.choice_scale * appeal - response_model.no_click_logit, values, nothing
