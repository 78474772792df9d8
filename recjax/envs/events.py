"""Several events at once at the end of a history."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array


def append_events(row: Array, values: Array, there: Array) -> Array:
    """``row`` with those of ``values`` that are ``there`` at its end, in their order.

    >>> append_events(jnp.array([-1, 3, 4]), jnp.array([7, 8, 9]), jnp.array([True, False, True])).tolist()
    [4, 7, 9]

    Args:
      row: ``[L]``, the newest last; its oldest values make room.
      values: ``[K]``.
      there: ``bool[K]``.
    """
    slots, place, count = jnp.arange(there.shape[0]), jnp.cumsum(there) - 1, jnp.sum(there)
    moves = there[None] & (place[None] == slots[:, None])
    packed = jnp.sum(jnp.where(moves, values[None], 0), axis=1)
    whole = jnp.concatenate([row, packed.astype(row.dtype)])
    # Shifts by powers of two: to gather the row takes several times as long.
    for bit in range(slots.size.bit_length()):
        whole = jnp.where((count >> bit) & 1 == 1, jnp.roll(whole, -(1 << bit)), whole)
    return whole[: row.shape[0]]
