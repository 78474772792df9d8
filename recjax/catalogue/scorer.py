"""What a catalogue is to the operations over every item: a scorer of blocks and of given items."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
from jax import lax

from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.plan import BLOCK_SIZE
from recjax.types import Array, PyTree


class Scorer(Protocol):
    """Items ``0 .. N-1`` that queries can score: what every operation of :mod:`recjax.catalogue` takes as ``items``.

    Queries are an array ``[B, ...]`` or a pytree of such, of whatever form the scorer knows.
    :class:`ItemIndex` and :class:`BlockScorer` are scorers, and so is any class with these members.
    """

    @property
    def num_items(self) -> int:
        """Size of the catalogue (``N``)."""

    @property
    def block_size(self) -> int | None:
        """Items to score at once when the caller does not say; None for what suits the device."""

    @property
    def random_access(self) -> bool:
        """Whether :meth:`score_ids` costs as much as its ids, rather than a pass over the catalogue."""

    def score_block(self, queries: PyTree, start: Array | int, size: int) -> Array:
        """Scores ``[B, size]`` of the items ``start .. start + size - 1``.

        ``start`` may be traced, ``size`` is a Python integer, and ``start + size <= num_items`` always.
        """

    def score_ids(self, queries: PyTree, ids: Array) -> Array:
        """Scores ``[B, M]`` of given items ``ids i32[B, M]``, all of them in ``0 .. N-1``."""


@dataclasses.dataclass(frozen=True, eq=False)
class BlockScorer:
    """A :class:`Scorer` from any function that scores a block of neighbouring items.

    It is compared and hashed by identity and is not a pytree: build it inside the
    function that is traced, over whatever arrays its functions close over.

    Attributes:
      of_block: ``(queries, start, size) -> [B, size]``, see :meth:`Scorer.score_block`.
      num_items: size of the catalogue.
      of_ids: ``(queries, ids [B, M]) -> [B, M]``, see :meth:`Scorer.score_ids`. Without it,
        given items are picked out of the blocks in a pass over the catalogue.
      block_size: items to score at once when the caller does not say.
    """

    of_block: Callable[[PyTree, Array | int, int], Array]
    num_items: int
    of_ids: Callable[[PyTree, Array], Array] | None = None
    block_size: int = BLOCK_SIZE

    @property
    def random_access(self) -> bool:
        """Whether there is a function of ids."""
        return self.of_ids is not None

    def score_block(self, queries: PyTree, start: Array | int, size: int) -> Array:
        """See :meth:`Scorer.score_block`."""
        return self.of_block(queries, start, size)

    def score_ids(self, queries: PyTree, ids: Array) -> Array:
        """See :meth:`Scorer.score_ids`."""
        return self.of_ids(queries, ids) if self.of_ids is not None else _picked(self, queries, ids)


def dense_scorer(scores: Array) -> tuple[Array, BlockScorer]:
    """Scores of every item, computed before, as ``(queries, items)`` of catalogue operations.

    >>> queries, items = dense_scorer(jnp.array([[0.5, 2.0, 1.0]]))
    >>> items.score_ids(queries, jnp.array([[2, 0]])).tolist()
    [[1.0, 0.5]]

    Args:
      scores: ``f32[B, N]``.
    """

    def of_block(queries: Array, start: Array | int, size: int) -> Array:
        return lax.dynamic_slice_in_dim(queries, start, size, axis=-1)

    def of_ids(queries: Array, ids: Array) -> Array:
        return jnp.take_along_axis(queries, ids, axis=-1)

    num_items = scores.shape[-1]
    return scores, BlockScorer(of_block, num_items, of_ids, block_size=num_items)


def _picked(scorer: Scorer, queries: PyTree, ids: Array) -> Array:
    """Scores of ``ids`` out of the blocks that hold them, ``f32[B, M]``."""

    def evaluate(rows: Rows) -> Array:
        scores = scorer.score_block(queries, rows.start, rows.size).astype(jnp.float32)
        local = ids - rows.start
        is_here = (ids >= rows.first) & (local < rows.size)
        return jnp.where(is_here, jnp.take_along_axis(scores, jnp.where(is_here, local, 0), axis=-1), -jnp.inf)

    size = min(scorer.block_size or BLOCK_SIZE, scorer.num_items)
    return reduce_rows(evaluate, jnp.maximum, Blocks(scorer.num_items, size), remat=True)
