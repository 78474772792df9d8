"""Replay that draws windows of consecutive steps uniformly, with replacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.replay import ring
from recjax.replay.base import Batch, Buffer, Memory
from recjax.replay.ring import Ring
from recjax.types import Array


def uniform(window: int = 1, *, truncated_share: float = 0.125) -> Memory:
    """A uniform ring buffer of windows.

    The ring holds ``T = capacity // U`` rows of all ``U`` users. ``add`` writes one row,
    a contiguous slice at a cursor that seeds share. ``sample`` draws with replacement
    among all whole windows that the ring holds: ``window`` consecutive steps of one user
    which never run over the cursor, so old and new steps never mix. A window may run
    over the end of an episode; see :class:`~recjax.replay.Batch`.

    Until ``window`` rows are written no whole window exists, and every sampled row has
    ``valid`` False. A next observation is not stored: it is the observation of the following
    row, or, where an episode was truncated, one of those that are stored apart.

    Args:
      window: consecutive steps in a sample, the ``n`` of n-step returns.
      truncated_share: how many of the steps that the ring holds may be truncated, in (0, 1]. Where more
        are, as in episodes of fewer than ``1 / truncated_share`` steps, windows with the oldest of them are
        not ``valid``; 1 never loses one and stores every next observation.

    Returns:
      What the agent asks for; ``.make(capacity)`` is the buffer.

    Raises:
      ValueError: an argument is out of range; at ``make``, ``capacity`` is below 1; at ``init``,
        it holds no whole window of all users; at ``add``, shapes or dtypes are not those of ``init``.
    """
    ring.check_windows(window, truncated_share)

    def make(capacity: int) -> Buffer:
        init = ring.of_capacity(capacity, window, truncated_share)
        return Buffer(init, ring.push, lambda key, state, batch_size: _sample(key, state, batch_size, window))

    return Memory(make, window)


def _sample(key: Array, state: Ring, batch_size: int, window: int) -> Batch:
    user_key, start_key = jax.random.split(key)
    user = jax.random.randint(user_key, (batch_size, 1), 0, state.num_users)[:, 0]
    # Ages count from the oldest row, so whole windows are contiguous whatever the cursor.
    whole_windows = state.filled - window + 1
    age = jax.random.randint(start_key, (batch_size, 1), 0, jnp.maximum(whole_windows, 1))[:, 0]
    row = (state.oldest + age) % state.num_rows
    experience, is_whole = ring.windows(state, row, user, window)
    chance = 1.0 / (jnp.maximum(whole_windows, 1) * state.num_users)
    return Batch(
        experience=experience,
        valid=is_whole & (whole_windows > 0),
        indices=row * state.num_users + user,
        probabilities=jnp.full(batch_size, chance, jnp.float32),
    )
