"""What could be reached with VirtualTaobao's users, by somebody who has their networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.envs.base import Oracle
from recjax.envs.sims.taobao_networks import ACTION_SIZE, GROUPS, NOISE_SIZE, Networks, draw_user, expected_clicks
from recjax.types import Array, Revealed

CORNERS, SCREENED_ON, KEPT, BASES, NEIGHBOURS = 256, 32, 64, 8, 256
"""Corners of the box that are tried, users they are tried on, those kept, those searched around, vectors around one."""


def oracles(networks: Networks, max_steps: int, threshold: float | None) -> dict[str, Oracle]:
    """The yardsticks. Clicks are a needle in a box, so all of them choose among corners of it, drawn at random.

    * ``constant`` shows one vector to all, the best of a few that get the most clicks.
    * ``myopic`` shows the one of many such vectors that this user clicks most at this turn.
    * ``look_ahead`` shows, of vectors around a good one, that which this user clicks most among those far enough from
      recent ones to keep the user. The best such place of a few is searched. Better policies may exist.

    Args:
      networks: of the users.
      max_steps: turns of a session.
      threshold: within which of a recent vector users leave, or None if they leave by themselves.
    """
    good = jax.jit(_screened)(networks, jnp.linspace(0, max_steps - 1, 4).astype(jnp.int32))
    # Vectors that differ in so many signs are farther from each other than the threshold.
    flips = 1 + int((0.0 if threshold is None else threshold) ** 2 / 4)
    signs = _signs(min(flips, ACTION_SIZE))
    return {
        "constant": Oracle(_constant, f"one vector for all, the best of {BASES} by clicks", good[:BASES]),
        "myopic": Oracle(
            partial(_best, around=good, threshold=None), f"of {KEPT} good vectors the one that is clicked most now"
        ),
        "look_ahead": Oracle(
            partial(_best, around=signs, threshold=threshold),
            f"of {NEIGHBOURS} vectors around a good one, the one that is clicked most among those that keep the user,"
            f" for the best of {BASES}: a lower bound",
            good[:BASES],
        ),
    }


def keeps(actions: Array, recent: Array, turn: Array, threshold: float) -> Array:
    """Which of ``actions: f32[P, 27]`` are farther than a threshold from all recent vectors, ``bool[P]``.

    Args:
      actions: that may be shown at turn ``turn: i32[]``.
      recent: ``f32[W, 27]`` what was shown before, the newest last; only the last ``turn`` of them were.
      turn: turns so far.
      threshold: a distance.
    """
    distance = jnp.linalg.norm(actions[:, None] - recent[None], axis=-1)
    width = recent.shape[0]
    return jnp.all((distance > threshold) | (jnp.arange(width) < width - turn)[None], axis=-1)


def _screened(networks: Networks, turns: Array) -> Array:
    """The corners ``f32[KEPT, 27]`` that get the most clicks of some users at some turns, the best first."""
    corners = jax.random.rademacher(jax.random.key(0), (CORNERS, ACTION_SIZE), jnp.float32)
    uniform = jax.random.uniform(jax.random.key(1), (SCREENED_ON, NOISE_SIZE + len(GROUPS)))
    users = jax.vmap(draw_user, in_axes=(None, 0))(networks, uniform)
    at_turn = jax.vmap(expected_clicks, in_axes=(None, None, 0, None))
    clicks = jax.vmap(at_turn, in_axes=(None, 0, None, None))(networks, users, turns, corners)
    return corners[jax.lax.top_k(jnp.mean(clicks, axis=(0, 1)), KEPT)[1]]


def _signs(flips: int) -> Array:
    """``f32[NEIGHBOURS, 27]`` of ones, where ``flips`` of each row but the first are -1."""
    order = np.random.default_rng(0).permuted(np.tile(np.arange(ACTION_SIZE), (NEIGHBOURS, 1)), axis=1)
    signs = np.where(order < flips, -1.0, 1.0)
    signs[0] = 1.0
    return jnp.asarray(signs, jnp.float32)


def _constant(key: Array, users: Revealed, setting: Array) -> Array:
    del key
    return jnp.broadcast_to(setting, (users.observation.history.shape[0], ACTION_SIZE))


def _best(key: Array, users: Revealed, setting: Array | None, *, around: Array, threshold: float | None) -> Array:
    del key
    actions = around if setting is None else setting[None] * around

    def of_one(user: Any, networks: Networks) -> Array:
        clicks = expected_clicks(networks, user.features, user.turn, actions)
        if threshold is not None:
            clicks = jnp.where(keeps(actions, user.recent, user.turn, threshold), clicks, -1.0)
        return actions[jnp.argmax(clicks)]

    return jax.vmap(of_one, in_axes=(0, None))(users.state, users.params)
