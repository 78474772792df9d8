"""Cached item vectors, refreshed while the network that makes them learns.

Making the vectors of a whole catalogue costs ``O(N)`` at every step. A :class:`CachedIndex`
stores them instead: after an update, the rows that the batch touched are made again at once,
and all of them every so many updates. In between, the other rows are stale as far as the
update changed what items share (feature weights); where each item has a row of its own and
nothing else, no row ever is.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.items import ItemIndex
from recjax.catalogue.plan import BLOCK_SIZE
from recjax.types import Array, shared

VectorsOf = Callable[[Array], Array]
"""``ids i32[M] -> [M, D]``, vectors of given items; all ids in ``0 .. N-1``."""


@struct.dataclass
class CachedIndex:
    """The item vectors of a catalogue, and how old they are.

    Attributes:
      vectors: ``[N, D]``.
      drift: ``f32[]`` the largest change of any number that the last full refresh made: how
        wrong the stalest vector had become. 0 before the first.
      age: ``i32[]`` updates since all vectors were made.
    """

    vectors: Array
    drift: Array
    age: Array = shared()

    @property
    def index(self) -> ItemIndex:
        """What the operations of :mod:`recjax.catalogue` take as ``items``."""
        return ItemIndex(self.vectors)


def build_index(vectors_of: VectorsOf, num_items: int) -> CachedIndex:
    """The vectors of all items, computed block by block.

    Args:
      vectors_of: what makes them.
      num_items: ``N``.

    Raises:
      ValueError: there are no items.

    >>> cached = build_index(lambda ids: ids[:, None] * 10.0, num_items=3)
    >>> cached.vectors.tolist(), int(cached.age)
    ([[0.0], [10.0], [20.0]], 0)
    """
    if num_items < 1:
        raise ValueError(f"num_items is {num_items}; an index has at least one item.")
    like = jax.eval_shape(vectors_of, jnp.zeros(1, jnp.int32))
    empty = jnp.zeros((num_items, *like.shape[1:]), like.dtype)
    vectors, _ = _recomputed(empty, vectors_of, jnp.ones((), bool))
    return CachedIndex(vectors, drift=jnp.zeros((), jnp.float32), age=jnp.zeros((), jnp.int32))


def refresh(cached: CachedIndex, touched: Array, vectors_of: VectorsOf, every: int | None) -> CachedIndex:
    """The cached vectors after an update of what ``vectors_of`` computes with.

    Args:
      cached: before; donate it, and it is written in place.
      touched: ``i32[M]`` items whose own rows the update changed; repeats are fine, and ids
        outside the catalogue, such as ``PAD_ID``, are ignored.
      vectors_of: after the update.
      every: updates between full refreshes; None recomputes the touched rows only.

    Raises:
      ValueError: ``every`` is below 1.

    >>> cached = build_index(lambda ids: ids[:, None] * 10.0, num_items=3)
    >>> cached = refresh(cached, jnp.array([1, -1]), lambda ids: ids[:, None] * 11.0, every=2)
    >>> cached.vectors.tolist(), int(cached.age)
    ([[0.0], [11.0], [20.0]], 1)
    >>> cached = refresh(cached, jnp.array([1]), lambda ids: ids[:, None] * 12.0, every=2)
    >>> cached.vectors.tolist(), int(cached.age), float(cached.drift)
    ([[0.0], [12.0], [24.0]], 0, 4.0)
    """
    if every is not None and every < 1:
        raise ValueError(f"every is {every}; it must be at least 1, or None to recompute the touched rows only.")
    num_items = cached.vectors.shape[0]
    known = (touched >= 0) & (touched < num_items)
    rows = vectors_of(jnp.where(known, touched, 0))
    vectors = cached.vectors.at[jnp.where(known, touched, num_items)].set(rows, mode="drop")
    age = cached.age + 1
    is_due = jnp.zeros((), bool) if every is None else age >= every
    vectors, change = _recomputed(vectors, vectors_of, is_due)
    return CachedIndex(vectors, drift=jnp.where(is_due, change, cached.drift), age=jnp.where(is_due, 0, age))


def _recomputed(vectors: Array, vectors_of: VectorsOf, is_due: Array) -> tuple[Array, Array]:
    """All vectors, if they are due, written over the old ones block by block; and the largest change."""
    num_items = vectors.shape[0]
    size = min(BLOCK_SIZE, num_items)

    def evaluate(rows: Rows) -> tuple[Array, Array | int]:
        return vectors_of(rows.start + jnp.arange(size)), rows.start

    def write(state: tuple[Array, Array], block: tuple[Array, Array | int]) -> tuple[Array, Array]:
        (vectors, change), (new, start) = state, block
        old = lax.dynamic_slice_in_dim(vectors, start, size)
        change = jnp.maximum(change, jnp.max(jnp.abs(new - old)).astype(jnp.float32))
        # A change is never below 0. Writing what depends on it makes XLA read before it writes; it
        # would otherwise copy the whole array to be able to do so in any order.
        new = jnp.where(change < 0, old, new)
        return lax.dynamic_update_slice_in_dim(vectors, new, start, 0), change

    # No blocks rather than a branch: XLA copies what a branch may or may not write. The age has no
    # seed axis, so under vmap over seeds the number of blocks has none either.
    init = vectors, jnp.zeros((), jnp.float32)
    return reduce_rows(evaluate, write, Blocks(num_items, size), init=init, upto=jnp.where(is_due, num_items, 0))
