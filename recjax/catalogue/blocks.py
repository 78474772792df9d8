"""The one reduction over rows: blocks of a static size, evaluated and merged in order.

Every pass over a catalogue is this function: over items for top-k, maxima, sums, their gradients, ranks and
cached vectors, over queries for the mean cross-entropy. It never holds more than one block beside what
is merged, whatever the number of rows.

A catalogue that is sharded over devices by rows changes this function alone: each device reduces the rows of its own
shard, with ``first`` and ``start`` counted from the first row of the shard, and what the devices found is merged by
``merge`` in the order of shards, which is the order of ids, so that ties stay with the lowest id. Without
``init``, ``merge`` is associative. With it, values are added or written at their rows: sums are added over
devices, and written rows stay on the device of their shard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from recjax.types import Array


class Rows(NamedTuple):
    """The rows of one block, ``start .. start + size - 1``.

    Attributes:
      first: rows below it belong to an earlier block and must not count again.
      start: the first row; below ``first`` where the last block reaches back to have the size of all.
      size: how many rows, a Python integer.
    """

    first: Array | int
    start: Array | int
    size: int


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How rows are cut into blocks.

    Attributes:
      num_rows: how many rows there are.
      size: rows of a block, in ``1 .. num_rows``.
      together: how many blocks are merged at once, their values stacked along a new leading axis, for values
        that are small and dear to merge. Where fewer are left, the last block is repeated, with ``first`` beyond
        its rows. None merges the value of every block as it is.
      overlap: whether the last block reaches back to have the size of all. Otherwise it is a shorter block that
        is evaluated apart, so that every block starts at a multiple of ``size``.
    """

    num_rows: int
    size: int
    together: int | None = None
    overlap: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.num_rows:
            raise ValueError(f"size is {self.size}; blocks of {self.num_rows} rows have 1 .. {self.num_rows}.")


def reduce_rows(
    evaluate: Callable[[Rows], Any],
    merge: Callable[[Any, Any], Any],
    blocks: Blocks,
    *,
    init: Any = None,
    upto: Array | None = None,
    remat: bool = False,
) -> Any:
    """Evaluates all blocks, the lowest rows first, and merges their values.

    >>> x = jnp.arange(10.0)
    >>> def total(rows):
    ...     block = lax.dynamic_slice_in_dim(x, rows.start, rows.size)
    ...     return jnp.where(rows.start + jnp.arange(rows.size) >= rows.first, block, 0).sum()
    >>> reduce_rows(total, jnp.add, Blocks(10, size=4)).item()
    45.0

    Args:
      evaluate: ``rows -> value`` of one block.
      merge: ``(earlier, value) -> merged``.
      blocks: how rows are cut.
      init: what the first value is merged into; without it, the first value itself is what others are
        merged into, and one block is one plain expression.
      upto: ``i32[]`` traced, at most ``num_rows``: blocks that begin there or later are left out. It needs
        ``init`` and overlapping blocks, and cannot be differentiated in reverse.
      remat: whether differentiating evaluates the blocks again rather than store what they need.

    Raises:
      ValueError: ``upto`` comes without ``init``, or with blocks that do not overlap.
    """
    if upto is not None and (init is None or not blocks.overlap):
        raise ValueError(f"upto needs init and overlapping blocks; init is {init} and the blocks are {blocks}.")
    size, stride = blocks.size, blocks.size * (blocks.together or 1)
    of_full_size = blocks.num_rows if blocks.overlap else blocks.num_rows - blocks.num_rows % size

    def one(first: Array | int) -> Any:
        is_only = size == of_full_size and blocks.together is None
        return evaluate(Rows(first, first if is_only else jnp.minimum(first, of_full_size - size), size))

    def values(first: Array | int) -> Any:
        return one(first) if blocks.together is None else lax.map(one, first + jnp.arange(blocks.together) * size)

    def step(merged: Any, first: Array) -> tuple[Any, None]:
        return merge(merged, values(first)), None

    merged, begin = (values(0), stride) if init is None else (init, 0)
    if upto is not None:
        merged = lax.fori_loop(0, -(-upto // stride), lambda i, merged: step(merged, i * stride)[0], merged)
    elif begin < of_full_size:
        step = jax.checkpoint(step) if remat else step
        merged = lax.scan(step, merged, jnp.arange(begin, of_full_size, stride))[0]
    if of_full_size < blocks.num_rows:
        rest = evaluate(Rows(of_full_size, of_full_size, blocks.num_rows - of_full_size))
        if blocks.together is not None:
            rest = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], rest)
        merged = merge(merged, rest)
    return merged
