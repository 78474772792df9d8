"""Lists of item ids with repeats and padding."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array


def distinct_ids(ids: Array, num_items: int, fill: int | None = None) -> Array:
    """The distinct items of each list, ascending, with ``fill`` in the places of what is left over.

    Repeats leave their places among the items, ids outside the catalogue theirs behind them; with a ``fill`` of
    ``num_items`` or more, ``jnp.sort`` brings all of them to the end.

    >>> distinct_ids(jnp.array([[5, 2, -1, 5, 9]]), num_items=9).tolist()
    [[2, 5, 9, 9, 9]]
    >>> distinct_ids(jnp.array([[2, 2, 3]]), num_items=9, fill=-1).tolist()
    [[2, -1, 3]]

    Args:
      ids: ``i32[..., L]`` in any order; ids outside ``0 .. num_items - 1``, such as ``PAD_ID``, are left out.
      num_items: size of the catalogue.
      fill: ``num_items`` by default.

    Returns:
      ``i32[..., L]``.
    """
    fill = num_items if fill is None else fill
    ordered = jnp.sort(jnp.where((ids < 0) | (ids >= num_items), num_items, ids), axis=-1)
    first = jnp.ones_like(ordered[..., :1], bool)
    is_new = jnp.concatenate([first, ordered[..., 1:] != ordered[..., :-1]], axis=-1)
    return jnp.where(is_new & (ordered < num_items), ordered, fill)
