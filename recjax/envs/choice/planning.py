"""Policies of somebody who knows what each choice of a user brings, at once and later."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import Choices, best_slate, dense_scorer
from recjax.envs.base import Choose, Oracle
from recjax.types import Array, PyTree, Revealed

Plan = TypeVar("Plan")


class Appraisal(NamedTuple):
    """What one user is expected to do with each item (or candidate), and what that is worth.

    Attributes:
      logits: ``f32[N]`` of choosing each, less that of choosing nothing.
      values: ``f32[N]`` what follows when it is chosen.
      nothing: ``f32[]`` what follows when nothing is.
      exclude: ``i32[E]`` what must not be shown, padded with ``PAD_ID``.
    """

    logits: Array
    values: Array
    nothing: Array
    exclude: Array


Appraise = Callable[[PyTree, PyTree, PyTree, Any], Appraisal]
"""``(state of one user, params, world, plan) -> Appraisal``."""


def planner(appraise: Appraise, slate_size: int, still: Any) -> Choose:
    """The policy that shows the slate of the largest expected value.

    Args:
      appraise: says what is expected of one user.
      slate_size: ``K``.
      still: the plan of an oracle without settings, which looks at this step alone.
    """

    def choose(key: Array, users: Revealed, setting: PyTree) -> Array:
        del key
        plan = still if setting is None else setting
        found = jax.vmap(appraise, in_axes=(0, None, None, None))(users.state, users.params, users.world, plan)
        choices = Choices(dense_scorer(found.logits), dense_scorer(found.values), found.nothing)
        return best_slate(choices, slate_size, exclude=found.exclude)[1]

    return choose


def yardsticks(appraise: Appraise, slate_size: int, still: Plan, family: Plan, what: str) -> dict[str, Oracle]:
    """The myopic optimum, and the best plan of a family.

    Args:
      appraise: says what is expected of one user under a plan.
      slate_size: ``K``.
      still: the plan that looks at this step alone.
      family: plans, leaves ``[P]``.
      what: what they weigh beside the reward of a step, in words.
    """
    choose = planner(appraise, slate_size, still)
    count = jax.tree.leaves(family)[0].shape[0]
    # A family of one, so that both are the same compiled program.
    alone = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32)[None], still)
    return {
        "myopic": Oracle(choose, "the slate with the largest expected reward of this step, by true taste", alone),
        "look_ahead": Oracle(choose, f"the same, {what}: the best of {count} such plans, so a lower bound", family),
    }


def grid(plan: Callable[..., Plan], **values: tuple[float, ...]) -> Plan:
    """All combinations of values of a plan's fields, leaves ``f32[P]``.

    >>> grid(dict, a=(1.0, 2.0), b=(0.0, 5.0))["b"].tolist()
    [0.0, 5.0, 0.0, 5.0]
    """
    points = np.array(list(itertools.product(*values.values())), np.float32)
    return plan(**{name: jnp.asarray(points[:, column]) for column, name in enumerate(values)})
