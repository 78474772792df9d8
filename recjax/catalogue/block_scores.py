"""Scores of blocks without what is excluded, and their reduction over the whole catalogue.

The order of scores is the same everywhere: higher first, then the lower id. NaN counts
as greater than every number, so a network that diverges shows at once, and an item that
scores ``-inf`` counts as excluded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.plan import Plan, plan_for
from recjax.types import Array, PyTree

FEW_EXCLUDED = 32
"""Excluded items of a query that are looked up in every block; more are sorted first."""


def block_size_of(items: Catalogue, queries: PyTree, block_size: int | None = None, plan: Plan | None = None) -> int:
    """How many items to score at once: the caller's choice, the scorer's, or the plan's.

    Raises:
      ValueError: ``block_size`` is below 1.
    """
    scorer = as_scorer(items)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size is {block_size}; it must be at least 1, or None for the default.")
    size = scorer.block_size if block_size is None else block_size
    if size is None:
        size = (plan or plan_for(scorer.num_items, batch_of(queries))).block_size
    return max(1, min(size, scorer.num_items))


def batch_of(queries: PyTree) -> int:
    """How many queries there are."""
    return jax.tree.leaves(queries)[0].shape[0]


def reduce_scores(
    summarise: Callable[[Array, Array | int], Any],
    merge: Callable[[Any, Any], Any],
    queries: PyTree,
    items: Catalogue,
    exclude: Array | None,
    size: int,
) -> Any:
    """Merges the summaries of the scores of all blocks, lowest ids first.

    Args:
      summarise: ``(scores f32[B, size], start) -> summary`` with ``-inf`` where an item is
        excluded or belongs to another block.
      merge: ``(earlier, later) -> summary``.
      queries: what ``items`` scores.
      items: the catalogue.
      exclude: ``i32[B, E]`` or None.
      size: items of a block.
    """
    scorer = as_scorer(items)
    exclude = arrange_excluded(exclude, size, scorer.num_items)

    def evaluate(rows: Rows) -> Any:
        scores = scorer.score_block(queries, rows.start, size).astype(jnp.float32)
        return summarise(masked(scores, rows, exclude), rows.start)

    # Differentiating a reduction scores the blocks again instead of storing all of them.
    return reduce_rows(evaluate, merge, Blocks(scorer.num_items, size), remat=True)


def masked(scores: Array, rows: Rows, exclude: Array | None) -> Array:
    """Scores of a block with ``-inf`` at what an earlier block had and at what is excluded."""
    position = jnp.arange(scores.shape[-1])
    return without(jnp.where((position < rows.first - rows.start)[None, :], -jnp.inf, scores), rows.start, exclude)


def arrange_excluded(exclude: Array | None, size: int, num_items: int) -> Array | None:
    """Excluded ids as :func:`without` takes them: long lists that meet many blocks are sorted."""
    if exclude is None or exclude.shape[-1] <= FEW_EXCLUDED or size == num_items:
        return exclude
    return jnp.sort(exclude, axis=-1)


def without(scores: Array, start: Array | int, exclude: Array | None) -> Array:
    """Scores ``[B, size]`` of items from ``start`` with ``-inf`` at the excluded ones.

    Lists of more than ``FEW_EXCLUDED`` ids in front of several blocks must be sorted
    (:func:`arrange_excluded`): each block then looks at its own part of them only.
    """
    if exclude is None:
        return scores
    size, width = scores.shape[-1], exclude.shape[-1]
    rows = jnp.arange(scores.shape[0])[:, None]

    def drop(scores: Array, ids: Array) -> Array:
        local = ids - start
        return scores.at[rows, jnp.where(local < 0, size, local)].set(-jnp.inf, mode="drop")

    if width <= FEW_EXCLUDED or isinstance(start, int):
        return drop(scores, exclude)
    begin = jnp.sum(exclude < start, axis=1, dtype=jnp.int32)
    end = jnp.sum(exclude < start + size, axis=1, dtype=jnp.int32)

    def drop_some(state: tuple[Array, Array]) -> tuple[Array, Array]:
        scores, done = state
        taken = (begin + done)[:, None] + jnp.arange(FEW_EXCLUDED)[None]
        ids = jnp.take_along_axis(exclude, jnp.minimum(taken, width - 1), axis=1)
        return drop(scores, jnp.where(taken < end[:, None], ids, -1)), done + FEW_EXCLUDED

    more = lambda state: jnp.any(begin + state[1] < end)  # noqa: E731
    return lax.while_loop(more, drop_some, (scores, jnp.int32(0)))[0]
