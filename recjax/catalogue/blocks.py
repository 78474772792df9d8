"""Passing over a catalogue block by block.

Blocks go through ``lax.scan``, so temporary memory is ``[B, block_size]`` whatever the
size of the catalogue; a catalogue that fits into one block is one dense expression.

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

from recjax.catalogue.items import BLOCK_SIZE, BlockScorer, Catalogue, as_catalogue, as_scorer
from recjax.types import Array, PyTree

CACHED_SCORES = 2**21
"""Scores of a block on a CPU: as many as stay in its caches. Twice as many took four times as long an item."""

ACCELERATOR_SCORES = 2**25
"""Scores of a block elsewhere, where few large products beat many small ones: 128 MB of float32."""

FEW_EXCLUDED = 32
"""Excluded items of a query that are looked up in every block; more are sorted first."""


def scores_at_once() -> int:
    """How many scores suit the device."""
    return CACHED_SCORES if jax.default_backend() == "cpu" else ACCELERATOR_SCORES


def block_size_of(items: Catalogue, queries: PyTree, block_size: int | None) -> int:
    """How many items to score at once: the caller's choice, the scorer's, or what suits the device.

    Raises:
      ValueError: ``block_size`` is below 1.
    """
    items = as_catalogue(items)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size is {block_size}; it must be at least 1, or None for the default.")
    if block_size is None and isinstance(items, BlockScorer):
        block_size = items.block_size
    if block_size is None:
        batch = max(1, jax.tree.leaves(queries)[0].shape[0])
        power_of_two = 1 << max(scores_at_once() // batch, 1).bit_length() - 1
        block_size = max(BLOCK_SIZE // 8, min(4 * BLOCK_SIZE, power_of_two))
    return max(1, min(block_size, items.num_items))


def fold(
    summarise: Callable[[Array, Array | int], Any],
    merge: Callable[[Any, Any], Any],
    queries: PyTree,
    items: Catalogue,
    exclude: Array | None,
    size: int,
) -> Any:
    """Merges the summaries of all blocks, lowest ids first.

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
    num_items, exclude = scorer.num_items, arrange_excluded(exclude, size, scorer.num_items)

    def block(first: Array | int) -> Any:
        start = block_start(first, size, num_items)
        scores = scorer.score_block(queries, start, size).astype(jnp.float32)
        return summarise(masked(scores, first, start, exclude), start)

    if size == num_items:
        return block(0)
    # Differentiating a reduction scores the blocks again instead of keeping all of them.
    step = jax.checkpoint(lambda summary, first: (merge(summary, block(first)), None))
    return lax.scan(step, block(0), jnp.arange(size, num_items, size))[0]


def block_start(first: Array | int, size: int, num_items: int) -> Array | int:
    """Where the block that should begin at ``first`` begins: the last one reaches back to have the size of all."""
    return first if size == num_items else jnp.minimum(first, num_items - size)


def masked(scores: Array, first: Array | int, start: Array | int, exclude: Array | None) -> Array:
    """Scores of a block with ``-inf`` at what an earlier block had and at what is excluded."""
    position = jnp.arange(scores.shape[-1])
    return without(jnp.where((position < first - start)[None, :], -jnp.inf, scores), start, exclude)


def arrange_excluded(exclude: Array | None, size: int, num_items: int) -> Array | None:
    """Excluded ids as :func:`without` wants them: long lists that meet many blocks are sorted."""
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
