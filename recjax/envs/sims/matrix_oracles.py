"""What could be reached with users who answer with a matrix, by somebody who knows it and who they are."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.envs.base import Oracle
from recjax.types import PAD_ID, Array, Revealed

PRICES = (0.0, 0.1, 0.3, 1.0, 3.0)


class Plan(NamedTuple):
    """What a policy must know of the rules: see :func:`recjax.envs.matrix`."""

    slate_size: int
    max_steps: int
    repeats: bool


def oracles(plan: Plan) -> dict[str, Oracle]:
    """The yardsticks of a matrix environment; each shows items that keep the user, as long as there are some.

    * ``myopic`` shows the items that the user rates highest.
    * ``same_for_all`` shows those that users rate highest on average. It knows nothing of the user, but knows what all
      like and what they were shown, so it goes around well-liked items that are unlike each other.
    * ``look_ahead`` is the myopic one with two differences: an item has a price for the share of what the user likes
      more than average that it puts out of reach for a while, the best of some prices; and the last slate of a session
      is not chosen to keep the user. Better policies may exist.
    """
    choose = partial(_choose, plan=plan)
    return {
        "myopic": Oracle(choose, "the items that the user rates highest among those that keep the user"),
        "same_for_all": Oracle(
            partial(choose, personal=False), "the items that users rate highest on average among those that keep them"
        ),
        "look_ahead": Oracle(
            choose,
            f"as myopic, with a price (the best of {len(PRICES)}) of liked items that an item puts out of reach, and"
            " a last slate that need not keep the user: a lower bound",
            jnp.asarray(PRICES),
        ),
    }


def _choose(key: Array, users: Revealed, price: Array | None, *, plan: Plan, personal: bool = True) -> Array:
    del key
    of_each = jax.vmap(partial(_scores, plan=plan, personal=personal), in_axes=(0, None, None))
    return jax.lax.top_k(of_each(users.state, users.params, price), plan.slate_size)[1]


def _scores(user: Any, params: Any, price: Array | None, *, plan: Plan, personal: bool) -> Array:
    """Of all items for one user, ``f32[N]``: below all others those that drive away, and below these repeats."""
    scores = params.rewards[user.user] if personal else params.average
    items = jnp.arange(scores.shape[0])
    below = jnp.zeros(scores.shape)
    if params.leaving is not None:
        put_off = params.leaving.puts_off(items, user.shown[-params.leaving.window :])
        if price is not None:
            worth = jnp.maximum(scores - jnp.mean(scores), 0.0)
            scores = scores - price * params.leaving.crowding(worth / jnp.maximum(jnp.sum(worth), 1e-6))
            put_off &= user.steps < plan.max_steps - 1
        below += put_off
    if not plan.repeats:
        place = jnp.where(user.shown == PAD_ID, items.shape[0], user.shown)
        below += jnp.zeros(scores.shape).at[place].set(2.0, mode="drop")
    return scores - below * (jnp.max(scores) - jnp.min(scores) + 1.0)
