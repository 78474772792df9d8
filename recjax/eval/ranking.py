"""Ranking metrics: does an ordering of items put the relevant ones first?

Every metric here is a function of the *ranks* of one user's relevant items,
``f32[..., R]``: 1 for the best position, ``inf`` for a relevant item that the ranking does
not hold, NaN for padding. Ranks come from a recommended list (:func:`positions`) or from
scores of the whole catalogue (:func:`recjax.eval.target_ranks`), so both are measured by
the same formulas.

One rule for what is missing: a user without relevant items has no value, NaN, and is
left out of means; a user with relevant items and an empty or short list scores what the
missing slots would have scored, 0.

>>> import jax.numpy as jnp
>>> ranked = jnp.array([[7, 3, 5], [2, 9, -1], [1, 2, 3]])
>>> relevant = jnp.array([[3, 8], [9, -1], [-1, -1]])
>>> ranks = positions(ranked, relevant)
>>> ranks.tolist()
[[2.0, inf], [2.0, nan], [nan, nan]]
>>> recall(ranks, k=3).tolist()
[0.5, 1.0, nan]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recjax.types import PAD_ID, Array, check_ids


def positions(ranked: Array, relevant: Array, *, num_items: int | None = None) -> Array:
    """The ranks of relevant items in a list.

    Args:
      ranked: ``i32[..., M]`` recommended items, best first. ``PAD_ID`` marks empty slots;
        an item that is repeated counts where it stands first.
      relevant: ``i32[..., R]`` relevant items padded with ``PAD_ID``, in any order, or
        ``i32[...]`` for one held-out item a user. Repeats count once.
      num_items: size of the catalogue. Give it where lists may hold the id of unknown items
        (:meth:`recjax.data.IdMap.encode`): all of them have one id, and an unknown item in a
        list is not the unknown item that is relevant, which can only be missed.

    Returns:
      ``f32[..., R]``: slot of each relevant item, from 1; ``inf`` where it is not listed;
      NaN for padding and repeats.

    Raises:
      ValueError: the leading shapes differ, or ids are no integers.
    """
    ranked, relevant = (jnp.asarray(check_ids(*ids)) for ids in (("ranked", ranked), ("relevant", relevant)))
    if relevant.ndim == ranked.ndim - 1:
        relevant = relevant[..., None]
    if not ranked.ndim or ranked.shape[:-1] != relevant.shape[:-1]:
        raise ValueError(
            f"ranked has shape {ranked.shape} and relevant {relevant.shape}; give one list of relevant items"
            f" for each ranked list, so that the leading shapes agree."
        )
    found = relevant[..., :, None] == only_items(ranked, num_items)[..., None, :]
    slots = jnp.arange(1, ranked.shape[-1] + 1, dtype=jnp.float32)
    slots = slots.reshape((1,) * (found.ndim - 1) + (-1,))
    ranks = jnp.min(jnp.where(found, slots, jnp.inf), axis=-1, initial=jnp.inf)
    return jnp.where(distinct(relevant), ranks, jnp.nan)


def only_items(ids: Array, num_items: int | None) -> Array:
    """``ids`` with ``PAD_ID`` in place of those outside a catalogue of ``num_items``; as they are for None."""
    return ids if num_items is None else jnp.where(ids < num_items, ids, PAD_ID)


def distinct(ids: Array) -> Array:
    """Which entries of ``i32[..., R]`` are items, and not repeats of an earlier entry: ``bool[..., R]``."""
    earlier = jnp.tril(jnp.ones((ids.shape[-1],) * 2, bool), k=-1)
    earlier = earlier.reshape((1,) * (ids.ndim - 1) + earlier.shape)
    repeated = jnp.any((ids[..., :, None] == ids[..., None, :]) & earlier, axis=-1)
    return (ids >= 0) & ~repeated


def hit_rate(ranks: Array, k: int) -> Array:
    """1 where a relevant item is among the first ``k``, else 0.

    Args:
      ranks: ``f32[..., R]``, see :func:`positions`.
      k: cutoff, at least 1.

    Returns:
      ``f32[...]``; NaN for users without relevant items.

    Raises:
      ValueError: ``ranks`` are no numbers or have no axis, or ``k`` is no integer above 0.
    """
    ranks = _checked_ranks(ranks)
    return _where_defined(ranks, jnp.any(_hits(ranks, k), axis=-1))


def recall(ranks: Array, k: int) -> Array:
    """The share of the relevant items that are among the first ``k``: ``hits / R``.

    The divisor is the number of relevant items also where it exceeds ``k``. Arguments and
    result are those of :func:`hit_rate`.
    """
    ranks = _checked_ranks(ranks)
    return jnp.sum(_hits(ranks, k), axis=-1) / _num_relevant(ranks)


def precision(ranks: Array, k: int) -> Array:
    """The share of the first ``k`` slots that hold a relevant item: ``hits / k``.

    Short lists are divided by ``k`` too. Arguments and result are those of :func:`hit_rate`.
    """
    ranks = _checked_ranks(ranks)
    return _where_defined(ranks, jnp.sum(_hits(ranks, k), axis=-1) / k)


def ndcg(ranks: Array, k: int) -> Array:
    """Normalised discounted cumulative gain with gain 1 for a relevant item.

    ``DCG = sum of 1 / log2(1 + rank)`` over the hits, divided by its value for a list that
    begins with all relevant items. Arguments and result are those of :func:`hit_rate`.

    References:
      Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002;
      the discount is the one of Burges et al., ICML 2005.
    """
    ranks = _checked_ranks(ranks)
    dcg = jnp.sum(jnp.where(_hits(ranks, k), 1 / jnp.log2(1 + ranks), 0.0), axis=-1)
    slots = jnp.arange(1, k + 1, dtype=jnp.float32)
    ideal = jnp.concatenate([jnp.zeros(1), jnp.cumsum(1 / jnp.log2(1 + slots))])
    return dcg / ideal[jnp.minimum(_num_relevant(ranks), k).astype(jnp.int32)]


def reciprocal_rank(ranks: Array, k: int | None = None) -> Array:
    """One over the rank of the first relevant item, 0 beyond ``k``; its mean over users is MRR.

    Args:
      ranks: ``f32[..., R]``, see :func:`positions`.
      k: cutoff, or None for the whole ranking.

    Returns:
      ``f32[...]``; NaN for users without relevant items.
    """
    ranks = _checked_ranks(ranks)
    first = jnp.min(jnp.where(jnp.isnan(ranks), jnp.inf, ranks), axis=-1, initial=jnp.inf)
    hit = first < jnp.inf if k is None else first <= _checked(k)
    return _where_defined(ranks, jnp.where(hit, 1 / first, 0.0))


def average_precision(ranks: Array, k: int) -> Array:
    """The mean of precision at the rank of each hit; its mean over users is MAP.

    The sum over hits is divided by ``min(R, k)``, so a list that begins with relevant items
    only scores 1 even where ``R > k``. (TREC's ``map_cut`` divides by ``R``.) Arguments and
    result are those of :func:`hit_rate`.
    """
    ranks = _checked_ranks(ranks)
    ordered = jnp.sort(ranks, axis=-1)
    hits_so_far = jnp.arange(1, ranks.shape[-1] + 1, dtype=jnp.float32).reshape((1,) * (ranks.ndim - 1) + (-1,))
    total = jnp.sum(jnp.where(_hits(ordered, k), hits_so_far / ordered, 0.0), axis=-1)
    return total / jnp.minimum(_num_relevant(ranks), k)


def ranking_metrics(ranks: Array, ks: Sequence[int]) -> dict[str, Array]:
    """All ranking metrics at all cutoffs.

    Args:
      ranks: ``f32[..., R]``, see :func:`positions`.
      ks: cutoffs.

    Returns:
      ``f32[...]`` for each of ``hit_rate@k``, ``recall@k``, ``precision@k``, ``ndcg@k``,
      ``map@k``, ``mrr@k``, and ``mrr`` without a cutoff.

    Raises:
      ValueError: as :func:`hit_rate`.
    """
    return _at_all(_checked_ranks(ranks), tuple(_checked(k) for k in ks))


@partial(jax.jit, static_argnums=1)
def _at_all(ranks: Array, ks: tuple[int, ...]) -> dict[str, Array]:
    at_k = {
        "hit_rate": hit_rate,
        "recall": recall,
        "precision": precision,
        "ndcg": ndcg,
        "map": average_precision,
        "mrr": reciprocal_rank,
    }
    values = {f"{name}@{k}": metric(ranks, k) for k in ks for name, metric in at_k.items()}
    return values | {"mrr": reciprocal_rank(ranks)}


def _checked(k: int) -> int:
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k is {k}; a ranking is cut at 1 or more items, a Python integer.")
    return int(k)


def _checked_ranks(ranks: Array) -> Array:
    ranks = jnp.asarray(ranks)
    if not ranks.ndim or not (jnp.issubdtype(ranks.dtype, jnp.floating) or jnp.issubdtype(ranks.dtype, jnp.integer)):
        raise ValueError(
            f"ranks has shape {ranks.shape} and dtype {ranks.dtype}; ranking metrics take the ranks f32[..., R] of"
            " relevant items that positions() or target_ranks() return."
        )
    return ranks


def _hits(ranks: Array, k: int) -> Array:
    return ranks <= _checked(k)


def _num_relevant(ranks: Array) -> Array:
    return jnp.sum(~jnp.isnan(ranks), axis=-1, dtype=jnp.float32)


def _where_defined(ranks: Array, values: Array) -> Array:
    return jnp.where(_num_relevant(ranks) > 0, values, jnp.nan)
