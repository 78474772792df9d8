"""A costly function of items, computed block by block and once for each of the different items."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from recjax.types import Array

BLOCK = 64
"""Items that are computed at once."""


def each_once(encode: Callable[[Array, Array], Array], ids: Array, num_items: int) -> Array:
    """``encode`` of every item of ``ids``, at the cost of the different ones among them.

    Blocks without an item are skipped, and the backward pass computes every block again, so that time and
    memory grow with the number of different items, and neither with the catalogue nor with repetitions.

    Args:
      encode: ``(items i32[BLOCK], the number of the block i32[]) -> [BLOCK, D]``; row by row a function of the
        item, but for randomness.
      ids: integers of any shape ``[...]`` in ``0 .. num_items - 1``.
      num_items: ``N``.

    Returns:
      ``[..., D]``.

    >>> each_once(lambda items, number: 10.0 * items[:, None], jnp.array([[7, 2], [2, 7]]), 9)[..., 0].tolist()
    [[70.0, 20.0], [20.0, 70.0]]
    """
    count = min(ids.size, num_items)
    blocks = max(1, -(-count // BLOCK))
    wanted, where = jnp.unique(ids.ravel(), size=blocks * BLOCK, fill_value=num_items, return_inverse=True)
    different = jnp.sum(wanted < num_items)
    wanted = jnp.minimum(wanted, num_items - 1).reshape(blocks, BLOCK)
    encode = jax.checkpoint(encode)
    shape = jax.eval_shape(encode, wanted[0], jnp.int32(0))

    def block(number: Array, items: Array) -> tuple[Array, Array]:
        made = lax.cond(
            number * BLOCK < different, encode, lambda *_: jnp.zeros(shape.shape, shape.dtype), items, number
        )
        return number + 1, made

    _, made = lax.scan(block, jnp.int32(0), wanted)
    return made.reshape(blocks * BLOCK, -1)[where.reshape(ids.shape)]
