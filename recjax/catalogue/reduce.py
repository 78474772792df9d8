"""Reductions over every item of a catalogue that never hold more than a block of scores.

A reduction is a monoid: a summary of one block, and how two summaries merge. The
blocks go through ``lax.scan``, so temporary memory is ``[B, block_size]`` whatever the
size of the catalogue; a catalogue that fits into one block is one dense expression.

The order of scores is the same everywhere: higher first, then the lower id. NaN
counts as greater than every number, so a network that diverges shows at once, and an
item that scores ``-inf`` counts as excluded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue.items import BLOCK_SIZE, BlockScorer, Catalogue, as_scorer
from recjax.catalogue.select import best
from recjax.types import PAD_ID, Array, PyTree


def top_k(
    queries: PyTree, items: Catalogue, k: int, *, exclude: Array | None = None, block_size: int | None = None
) -> tuple[Array, Array]:
    """The ``k`` best items of each query, exactly.

    Args:
      queries: what ``items`` scores, every leaf with leading ``[B]``; ``[B, D]`` for an
        :class:`ItemIndex`.
      items: the catalogue.
      k: how many items; at most ``num_items``.
      exclude: ``i32[B, E]`` items that each query must not get; ``PAD_ID`` and ids
        outside the catalogue are ignored.
      block_size: items scored at once; by default what ``items`` prefers, and for inner
        products ``max(BLOCK_SIZE, 256 k)``.

    Returns:
      ``(scores f32[B, k], ids i32[B, k])``, best first and, among equal scores, the
      lowest id first. Slots that cannot be filled hold score ``-inf`` and ``PAD_ID``.

      For gradients, give the ids to :func:`score_at`.

    Raises:
      ValueError: ``k`` is not in ``1 .. num_items``, or ``block_size`` is below 1.

    >>> scores, ids = top_k(jnp.array([[1.0]]), jnp.array([[0.5], [2.0], [2.0]]), k=2)
    >>> ids.tolist(), scores.tolist()
    ([[1, 2]], [[2.0, 2.0]])
    """
    num_items = as_scorer(items).num_items
    if not 1 <= k <= num_items:
        raise ValueError(f"k is {k}, but the catalogue has {num_items} items; choose k in 1 .. {num_items}.")

    if block_size is None and not isinstance(items, BlockScorer):
        # Every block ends in a ranking of 2 k scores, so k sets how many items are worth one.
        block_size = max(BLOCK_SIZE, 256 * k)

    def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
        values, positions = best(scores, min(k, scores.shape[-1]))
        missing = ((0, 0), (0, k - values.shape[-1]))
        return (
            jnp.pad(values, missing, constant_values=-jnp.inf),
            jnp.pad(positions + start, missing, constant_values=PAD_ID),
        )

    def merge(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        scores, ids = (jnp.concatenate(pair, axis=-1) for pair in zip(earlier, later, strict=True))
        values, positions = lax.top_k(scores, k)
        return values, jnp.take_along_axis(ids, positions, axis=-1)

    scores, ids = _fold(summarise, merge, queries, items, exclude, block_size)
    return scores, jnp.where(scores == -jnp.inf, PAD_ID, ids)


def max_score(
    queries: PyTree, items: Catalogue, *, exclude: Array | None = None, block_size: int | None = None
) -> Array:
    """The best score of each query, ``f32[B]``; ``-inf`` when every item is excluded.

    The arguments are those of :func:`top_k`.
    """
    return _fold(lambda scores, _: scores.max(-1), jnp.maximum, queries, items, exclude, block_size)


def argmax(queries: PyTree, items: Catalogue, *, exclude: Array | None = None, block_size: int | None = None) -> Array:
    """The best item of each query, ``i32[B]``: :func:`top_k` with ``k = 1``."""
    return top_k(queries, items, 1, exclude=exclude, block_size=block_size)[1][:, 0]


def mean_score(
    queries: PyTree, items: Catalogue, *, exclude: Array | None = None, block_size: int | None = None
) -> Array:
    """The mean score of each query over the items that are not excluded, ``f32[B]``.

    NaN when every item is excluded. It is differentiable, and the backward pass scores
    the blocks again instead of keeping them. The arguments are those of :func:`top_k`.
    """

    def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
        counts = scores != -jnp.inf
        return jnp.where(counts, scores, 0.0).sum(-1), counts.sum(-1, dtype=jnp.float32)

    def merge(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        return earlier[0] + later[0], earlier[1] + later[1]

    total, count = _fold(summarise, merge, queries, items, exclude, block_size)
    return total / count


def sample(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    k: int,
    *,
    temperature: float | Array = 1.0,
    exclude: Array | None = None,
    block_size: int | None = None,
) -> Array:
    """``k`` items of each query, drawn without replacement from the Boltzmann distribution.

    The first has probability ``softmax(scores / temperature)``, the next the same over
    the items that are left (the Plackett-Luce model), by the Gumbel-top-k trick. The
    noise of an item depends on the blocks, so the same key gives the same draw for the
    same ``block_size`` only.

    Args:
      key: a key of ``jax.random``.
      queries: see :func:`top_k`.
      items: the catalogue.
      k: how many items; at most ``num_items``.
      temperature: above 0; may be traced.
      exclude: see :func:`top_k`.
      block_size: see :func:`top_k`.

    Returns:
      ``i32[B, k]`` in the order of drawing; ``PAD_ID`` once no item is left.

    Raises:
      ValueError: as :func:`top_k`, or a temperature that is not above 0.

    References:
      Kool, van Hoof, Welling, "Stochastic Beams and Where to Find Them", ICML 2019.
    """
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0 (use argmax for the limit at 0).")
    scorer = as_scorer(items)

    def score_block(queries: PyTree, start: Array | int, size: int) -> Array:
        scores = scorer.score_block(queries, start, size).astype(jnp.float32)
        return scores / temperature + jax.random.gumbel(jax.random.fold_in(key, start), scores.shape)

    perturbed = BlockScorer(score_block, scorer.num_items, block_size=scorer.block_size)
    return top_k(queries, perturbed, k, exclude=exclude, block_size=block_size)[1]


def score_at(queries: PyTree, items: Catalogue, ids: Array) -> Array:
    """The scores of given items, differentiable in queries and items.

    Args:
      queries: see :func:`top_k`.
      items: the catalogue.
      ids: ``i32[B, M]``.

    Returns:
      ``f32[B, M]``; ``-inf``, with zero gradient, for ids outside the catalogue.
    """
    scorer = as_scorer(items)
    known = (ids >= 0) & (ids < scorer.num_items)
    safe_ids = jnp.where(known, ids, 0)
    if scorer.score_ids is not None:
        scores = scorer.score_ids(queries, safe_ids).astype(jnp.float32)
    else:
        scores = _pick(queries, scorer, safe_ids)
    return jnp.where(known, scores, -jnp.inf)


def _pick(queries: PyTree, scorer: BlockScorer, ids: Array) -> Array:
    """Scores of ``ids`` for a scorer that can score blocks only."""

    def summarise(scores: Array, start: Array | int) -> Array:
        local = ids - start
        here = (local >= 0) & (local < scores.shape[-1])
        found = jnp.take_along_axis(scores, jnp.where(here, local, 0), axis=-1)
        return jnp.where(here, found, -jnp.inf)

    return _fold(summarise, jnp.maximum, queries, scorer, None, None)


def _fold(
    summarise: Callable[[Array, Array | int], Any],
    merge: Callable[[Any, Any], Any],
    queries: PyTree,
    items: Catalogue,
    exclude: Array | None,
    block_size: int | None,
) -> Any:
    """Merges the summaries of all blocks, lowest ids first."""
    scorer = as_scorer(items)
    num_items = scorer.num_items
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size is {block_size}; it must be at least 1, or None for the default.")
    size = min(block_size or scorer.block_size, num_items)

    def block(first: Array | int) -> Any:
        # The last block reaches back so that all blocks have one size; what it repeats is masked.
        start = first if size == num_items else jnp.minimum(first, num_items - size)
        scores = scorer.score_block(queries, start, size).astype(jnp.float32)
        scores = jnp.where((jnp.arange(size) < first - start)[None, :], -jnp.inf, scores)
        return summarise(_without(scores, start, exclude), start)

    if size == num_items:
        return block(0)
    # Differentiating a reduction scores the blocks again instead of keeping all of them.
    step = jax.checkpoint(lambda summary, first: (merge(summary, block(first)), None))
    return lax.scan(step, block(0), jnp.arange(size, num_items, size))[0]


def _without(scores: Array, start: Array | int, exclude: Array | None) -> Array:
    """Scores ``[B, size]`` of items from ``start`` with ``-inf`` at the excluded ones."""
    if exclude is None:
        return scores
    size = scores.shape[-1]
    local = exclude - start
    local = jnp.where(local < 0, size, local)
    rows = jnp.arange(scores.shape[0])[:, None]
    return scores.at[rows, local].set(-jnp.inf, mode="drop")
