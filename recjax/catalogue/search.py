"""Search of a catalogue: exact top-k, argmax and Boltzmann samples.

Top-k goes by maxima of groups of neighbouring items. Only the ``k`` groups with the largest
maxima can hold one of the ``k`` best items: any other has ``k`` groups before it, each with
an item that is better, or as good with a lower id. So one pass over the catalogue stores the
maxima, and only ``k`` groups a query are scored again.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue.block_scores import (
    FEW_EXCLUDED,
    arrange_excluded,
    batch_of,
    block_size_of,
    reduce_scores,
    without,
)
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.columns import GROUP, top_k_by_columns
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.kernels import block_best, group_max
from recjax.catalogue.plan import Columns, Plan, plan_for
from recjax.catalogue.scorer import BlockScorer, Scorer
from recjax.types import PAD_ID, Array, PyTree

MAXIMA = 2**23
"""Maxima of groups that are held at once, over all queries and whatever the catalogue: 32 MB."""

MOST_BY_COLUMNS = 16
"""Items that are sought one after the other where queries are columns; more are sorted."""

CANDIDATES = 2**16
"""Items that are scored again at once, over all queries."""


def top_k(
    queries: PyTree,
    items: Catalogue,
    k: int,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> tuple[Array, Array]:
    """The ``k`` best items of each query, exactly.

    Args:
      queries: what ``items`` scores, every leaf with leading ``[B]``; ``[B, D]`` for an
        :class:`ItemIndex`.
      items: the catalogue; ``ItemIndex.cosine(vectors)`` for the nearest by angle.
      k: how many items; at most ``num_items``.
      exclude: ``i32[B, E]`` items that each query must not get; ``PAD_ID`` and ids
        outside the catalogue are ignored.
      block_size: items scored at once; by default what ``items`` asks for, or the plan says.
      plan: what suits the device, see :func:`plan_for`; by default the one for JAX's default device.

    Returns:
      ``(scores f32[B, k], ids i32[B, k])``, best first and, among equal scores, the
      lowest id first. Slots that cannot be filled hold score ``-inf`` and ``PAD_ID``. NaN
      counts as greater than every number, and an item that scores ``-inf`` as excluded.

      Scores are computed twice, in products of different shapes: items whose scores differ
      by less than rounding may change places at the end of the list. For gradients, give
      the ids to :func:`score_at`.

    Raises:
      ValueError: ``k`` is not in ``1 .. num_items``, or ``block_size`` is below 1.

    >>> scores, ids = top_k(jnp.array([[1.0]]), jnp.array([[0.5], [2.0], [2.0]]), k=2)
    >>> ids.tolist(), scores.tolist()
    ([[1, 2]], [[2.0, 2.0]])
    """
    scorer = as_scorer(items)
    num_items = scorer.num_items
    if not 1 <= k <= num_items:
        raise ValueError(f"k is {k}, but the catalogue has {num_items} items; choose k in 1 .. {num_items}.")
    size, group = block_size_of(scorer, queries, block_size, plan), _group_size(num_items, k)
    plan = plan or plan_for(num_items, batch_of(queries))
    columns = None if block_size is not None else plan.columns_of(scorer.block_size)
    if columns is not None and _columns_fit(scorer, k, exclude, columns):
        scores, ids = top_k_by_columns(queries, scorer, k, exclude, columns)
    elif scorer.random_access and batch_of(queries) and size >= 2 * group and 4 * k * group <= num_items > size:
        scores, ids = _by_groups(queries, scorer, k, exclude, size - size % group, group)
    else:
        # Each block ends in a ranking of 2 k scores, so k sets how many items are worth one.
        is_free = block_size is None and scorer.block_size is None
        size = min(max(size, 256 * k), num_items) if is_free else size
        scores, ids = _by_blocks(queries, scorer, k, exclude, size)
    return scores, jnp.where(scores == -jnp.inf, PAD_ID, ids)


def argmax(
    queries: PyTree,
    items: Catalogue,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """The best item of each query, ``i32[B]``: :func:`top_k` with ``k = 1`` in a single pass.

    ``PAD_ID`` when every item is excluded. The arguments are those of :func:`top_k`.
    """

    def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
        top, position = block_best(scores)
        return top, position + start

    def merge(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        # NaN is the greatest, and the first of equals stays.
        is_better = ~jnp.isnan(earlier[0]) & ((later[0] > earlier[0]) | jnp.isnan(later[0]))
        return jnp.where(is_better, later[0], earlier[0]), jnp.where(is_better, later[1], earlier[1])

    scorer = as_scorer(items)
    columns = (plan or plan_for(scorer.num_items, batch_of(queries))).columns_of(scorer.block_size)
    if columns is not None and block_size is None and _columns_fit(scorer, 1, exclude, columns):
        scores, ids = (found[:, 0] for found in top_k_by_columns(queries, scorer, 1, exclude, columns))
    else:
        size = block_size_of(scorer, queries, block_size, plan)
        scores, ids = reduce_scores(summarise, merge, queries, scorer, exclude, size)
    return jnp.where(scores == -jnp.inf, PAD_ID, ids)


def sample(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    k: int,
    *,
    temperature: float | Array = 1.0,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
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
      plan: see :func:`top_k`.

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
    size = block_size_of(items, queries, block_size, plan)

    def of_block(queries: PyTree, start: Array | int, size: int) -> Array:
        scores = scorer.score_block(queries, start, size).astype(jnp.float32)
        return scores / temperature + jax.random.gumbel(jax.random.fold_in(key, start), scores.shape)

    noisy = BlockScorer(of_block, scorer.num_items)
    # The noise is of all queries at once, so they cannot be searched for in parts.
    return top_k(queries, noisy, k, exclude=exclude, block_size=size)[1]


def best(scores: Array, k: int) -> tuple[Array, Array]:
    """``lax.top_k`` along the last axis of ``f32[B, n]``, faster where ``k`` is small against ``n``.

    Ties go to the lower position, as in ``lax.top_k``. Unlike there, zeros are equal
    whatever their sign, and so are NaNs.

    Returns:
      ``(scores f32[B, k], positions i32[B, k])``.
    """
    rows, n = scores.shape
    scores, group = _canonical(scores), 32
    if 4 * k * group > n:
        return lax.top_k(scores, k)
    padded = jnp.pad(scores, ((0, 0), (0, -n % group)), constant_values=-jnp.inf)
    groups = padded.reshape(rows, -1, group)
    # In the order of positions, so that the second ranking breaks ties like the first.
    chosen = jnp.sort(lax.top_k(group_max(padded, group), k)[1], axis=-1)
    candidates = jnp.take_along_axis(groups, chosen[:, :, None], axis=1).reshape(rows, k * group)
    values, positions = lax.top_k(candidates, k)
    return values, jnp.take_along_axis(chosen, positions // group, axis=-1) * group + positions % group


def _columns_fit(scorer: Scorer, k: int, exclude: Array | None, columns: Columns) -> bool:
    """Whether a search by columns is the faster one: few are sought and few are excluded."""
    num_items = scorer.num_items
    fits = columns.items >= num_items or (scorer.random_access and columns.items % GROUP == 0)
    return k <= MOST_BY_COLUMNS and _are_few(exclude) and fits and columns.queries * num_items <= MAXIMA * GROUP


def _are_few(exclude: Array | None) -> bool:
    return exclude is None or exclude.shape[-1] <= FEW_EXCLUDED


def _by_blocks(queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, size: int) -> tuple[Array, Array]:
    """Ranks every block and merges the rankings: for scorers that cannot score given items again."""

    def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
        values, positions = best(scores, min(k, scores.shape[-1]))
        missing = ((0, 0), (0, k - values.shape[-1]))
        return (
            jnp.pad(values, missing, constant_values=-jnp.inf),
            jnp.pad(positions + start, missing, constant_values=PAD_ID),
        )

    return reduce_scores(summarise, _merge, queries, scorer, exclude, size)


def _merge(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
    """The best of two rankings, where ``earlier`` has the lower ids."""
    scores, ids = (jnp.concatenate(pair, axis=-1) for pair in zip(earlier, later, strict=True))
    values, positions = lax.top_k(scores, earlier[0].shape[-1])
    return values, jnp.take_along_axis(ids, positions, axis=-1)


def _by_groups(
    queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, size: int, group: int
) -> tuple[Array, Array]:
    """Ranks the maxima of groups, then the items of the ``k`` best groups."""
    num_items, batch = scorer.num_items, batch_of(queries)
    num_blocks, num_groups = num_items // size, -(-num_items // group)
    arranged = arrange_excluded(exclude, size, num_items)

    def maxima(rows: Rows) -> tuple[Array, Array]:
        """``f32[B, size / group]``, the maxima of the groups of one block, and which group is the first."""
        scores = scorer.score_block(queries, rows.start, rows.size).astype(jnp.float32)
        scores = without(scores, jnp.asarray(rows.start), arranged)
        padded = jnp.pad(scores, ((0, 0), (0, -rows.size % group)), constant_values=-jnp.inf)
        # A block that is repeated begins below its first row.
        found = jnp.where(rows.start < rows.first, -jnp.inf, group_max(padded, group))
        return found, jnp.asarray(rows.start, jnp.int32) // group

    def rank(ranking: tuple[Array, Array], blocks: tuple[Array, Array]) -> tuple[Array, Array]:
        found, first_group = blocks
        scores = jnp.concatenate([ranking[0], found.swapaxes(0, 1).reshape(batch, -1)], axis=-1)
        values, positions = lax.top_k(scores, k)
        ranked_before = jnp.take_along_axis(ranking[1], jnp.minimum(positions, k - 1), axis=-1)
        return values, jnp.where(positions < k, ranked_before, positions - k + first_group[0])

    spans = -(-num_blocks * size * batch // (MAXIMA * group))
    blocks = Blocks(num_items, size, together=-(-num_blocks // spans), overlap=False)
    # What is there first stays among equals: a group in which nothing is left never takes the place of this one.
    nothing = (jnp.full((batch, k), -jnp.inf), jnp.full((batch, k), num_groups, jnp.int32))
    ranking = reduce_rows(maxima, rank, blocks, init=nothing)
    # In the order of ids, so that the ranking of items breaks ties like the ranking of groups.
    return _rank_candidates(queries, scorer, k, exclude, jnp.sort(ranking[1], axis=-1), group)


def _rank_candidates(
    queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, chosen: Array, group: int
) -> tuple[Array, Array]:
    """The ``k`` best items of the groups ``chosen: i32[B, k]``, which ascend."""

    def rank(arguments: tuple[PyTree, Array, Array | None]) -> tuple[Array, Array]:
        query, chosen, exclude = jax.tree.map(lambda leaf: leaf[None], arguments)
        ids = (chosen[:, :, None] * group + jnp.arange(group)[None, None]).reshape(1, -1)
        scores = scorer.score_ids(query, jnp.minimum(ids, scorer.num_items - 1)).astype(jnp.float32)
        scores = jnp.where(ids < scorer.num_items, scores, -jnp.inf)
        if exclude is not None:
            slot = jnp.minimum(jax.vmap(jnp.searchsorted)(chosen, exclude // group), k - 1)
            is_here = (exclude >= 0) & (jnp.take_along_axis(chosen, slot, axis=1) == exclude // group)
            position = jnp.where(is_here, slot * group + exclude % group, ids.shape[1])
            scores = scores.at[jnp.arange(1)[:, None], position].set(-jnp.inf, mode="drop")
        values, positions = lax.top_k(_canonical(scores), k)
        return values[0], jnp.take_along_axis(ids, positions, axis=1)[0]

    # Not a pass over the catalogue: each query has candidates of its own.
    chunk = max(1, CANDIDATES // (k * group))
    return lax.map(rank, (queries, chosen, exclude), batch_size=chunk)


def _canonical(scores: Array) -> Array:
    """One zero and one NaN, because ``lax.top_k`` ranks those of different sign apart."""
    return jnp.where(scores == 0, 0.0, jnp.where(jnp.isnan(scores), jnp.nan, scores))


def _group_size(num_items: int, k: int) -> int:
    """Neighbours of a group: ranking ``N / group`` maxima balances scoring ``k group`` items again."""
    return 2 ** min(6, max(3, round(math.log2(num_items / (5 * k)) / 2)))
