"""Top-k with a column for each query, so that every reduction over items runs along registers.

A row for each query (:mod:`recjax.catalogue.search`) suits few queries and devices with fast reductions along rows;
on a CPU with many queries, columns take about half the time beyond that of the product. The result is the same.
Of blocks of items, only the maxima of groups of neighbours are kept, and of those the maxima of groups of
groups; the items of the ``k`` best groups of a query are scored again.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue.block_scores import batch_of
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.items import ItemIndex
from recjax.catalogue.kernels import as_integers, as_scores
from recjax.catalogue.plan import Columns
from recjax.catalogue.scorer import Scorer
from recjax.types import Array, PyTree

GROUP = 8
"""Neighbours of a group."""

OUTER = 16
"""Neighbouring groups of a group of groups."""


def top_k_by_columns(
    queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, columns: Columns
) -> tuple[Array, Array]:
    """The ``k`` best items of each query, ``(f32[B, k], i32[B, k])``; an excluded item has the score ``-inf``.

    Args:
      queries: leading ``[B]``.
      scorer: with random access, unless one block is the whole catalogue.
      k: at most a few: the largest is sought ``k`` times.
      exclude: ``i32[B, E]`` or None.
      columns: sizes of blocks; ``items`` is a multiple of ``GROUP``, or all of them.
    """
    find = _in_one_block if columns.items >= scorer.num_items else _in_blocks

    def of_some(queries: PyTree, exclude: Array | None) -> tuple[Array, Array]:
        values, ids = find(queries, scorer, k, exclude, columns.items)
        return values.T, ids.T

    return by_queries(of_some, queries, exclude, columns)


def by_queries(
    of_some: Callable[[PyTree, Array | None], tuple[Array, Array]],
    queries: PyTree,
    exclude: Array | None,
    columns: Columns,
) -> tuple[Array, Array]:
    """Answers at most ``columns.queries`` queries at a time, in blocks of equal size."""
    batch = batch_of(queries)
    blocks = -(-batch // columns.queries)
    together = -(-batch // blocks)
    if blocks == 1:
        return of_some(queries, exclude)

    def put(answers: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        cut = lambda leaf: lax.dynamic_slice_in_dim(leaf, start, together)  # noqa: E731
        some = of_some(*jax.tree.map(cut, (queries, exclude)))
        return jax.tree.map(lambda x, y: lax.dynamic_update_slice_in_dim(x, y, start, axis=0), answers, some), None

    shapes = jax.eval_shape(of_some, *jax.tree.map(lambda leaf: leaf[:1], (queries, exclude)))
    blank = jax.tree.map(lambda leaf: jnp.zeros((batch, *leaf.shape[1:]), leaf.dtype), shapes)
    # Queries of the last block that an earlier one had are answered twice, with the same result.
    return lax.scan(put, blank, jnp.minimum(jnp.arange(0, batch, together), batch - together))[0]


def _in_one_block(queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, size: int) -> tuple[Array, Array]:
    return best_rows(scores_of(queries, scorer, Rows(0, 0, scorer.num_items), exclude), k)


def best_rows(scores: Array, k: int) -> tuple[Array, Array]:
    """The ``k`` largest scores of each column ``f32[n, B]`` and their rows, ``(f32[k, B], i32[k, B])``."""
    groups = _first_largest(_group_max(as_integers(scores), GROUP), k)
    items = _members(groups, GROUP)
    keys = as_integers(jnp.take_along_axis(scores, items, axis=0, mode="clip"))
    return _ranked(jnp.where(items < len(scores), keys, _excluded()), items, k)


def _in_blocks(queries: PyTree, scorer: Scorer, k: int, exclude: Array | None, size: int) -> tuple[Array, Array]:
    batch, num_items = batch_of(queries), scorer.num_items

    def evaluate(rows: Rows) -> tuple[Array, Array]:
        scores = scores_of(queries, scorer, rows, exclude)
        return _group_max(as_integers(scores), GROUP), jnp.asarray(rows.start // GROUP)

    def merge(held: Array, found: tuple[Array, Array]) -> Array:
        return lax.dynamic_update_slice_in_dim(held, found[0], found[1], axis=0)

    held = jnp.zeros((-(-num_items // GROUP), batch), jnp.int32)
    maxima = reduce_rows(evaluate, merge, Blocks(num_items, size, overlap=False), init=held)
    near = _members(_first_largest(_group_max(maxima, OUTER), k), OUTER)
    best = _first_largest(jnp.take_along_axis(_padded(maxima, OUTER), near, axis=0, mode="clip"), k)
    items = _members(jnp.take_along_axis(near, best, axis=0), GROUP)
    scores = scorer.score_ids(queries, jnp.minimum(items, num_items - 1).T).T
    unwanted = items >= num_items
    if exclude is not None:
        unwanted |= jnp.any(items[:, None] == exclude.T[None], axis=1)
    return _ranked(jnp.where(unwanted, _excluded(), as_integers(scores)), items, k)


def scores_of(queries: PyTree, scorer: Scorer, rows: Rows, exclude: Array | None) -> Array:
    """Scores ``f32[size, B]`` of a block, ``-inf`` where an item is excluded."""
    if isinstance(scorer, ItemIndex):
        scores = scorer.block(rows.start, rows.size).columns(queries)
    else:
        scores = scorer.score_block(queries, rows.start, rows.size).T
    if exclude is not None:
        here = exclude.T - rows.start
        column = jnp.arange(scores.shape[1])[None]
        # Written before the scores become integers, so that these are never stored.
        scores = scores.at[jnp.where(here < 0, rows.size, here), column].set(-jnp.inf, mode="drop")
    return scores


def _excluded() -> Array:
    return as_integers(jnp.float32(-jnp.inf))


def _padded(keys: Array, group: int) -> Array:
    return jnp.pad(keys, ((0, -len(keys) % group), (0, 0)), constant_values=_excluded())


def _group_max(keys: Array, group: int) -> Array:
    """Maxima of groups of neighbours, ``i32[n, B] -> i32[ceil(n / group), B]``."""
    return _padded(keys, group).reshape(-1, group, keys.shape[1]).max(1)


def _members(groups: Array, group: int) -> Array:
    """The rows of groups, ``i32[k, B] -> i32[k group, B]``."""
    return (groups[:, None] * group + jnp.arange(group)[None, :, None]).reshape(-1, groups.shape[1])


def _first_largest(keys: Array, k: int) -> Array:
    """The rows of the ``k`` largest of each column, the first ones among equals: ``i32[k, B]``, fewer of fewer rows."""
    return _largest(keys, jnp.arange(len(keys))[:, None], min(k, len(keys)))[1]


def _largest(keys: Array, names: Array, k: int) -> tuple[Array, Array]:
    """The ``k`` largest of each column of ``i32[n, B]``, the lowest name first among equals, and their names."""
    values, found = [], []
    for _ in range(k):
        top = keys.max(0)
        name = jnp.min(jnp.where(keys == top[None], names, jnp.iinfo(jnp.int32).max), axis=0)
        keys = jnp.where(names == name[None], jnp.iinfo(jnp.int32).min, keys)
        values.append(top)
        found.append(name)
    return jnp.stack(values), jnp.stack(found)


def _ranked(keys: Array, items: Array, k: int) -> tuple[Array, Array]:
    values, ids = _largest(keys, items, k)
    return as_scores(values), ids
