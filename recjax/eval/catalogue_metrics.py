"""Beyond accuracy, over the catalogue: which items does a policy show, and how often?

Every metric here is a function of exposure counts ``i32[N]``, how many slots showed each
item: count lists with :func:`exposure_counts`, or the whole loop with
:class:`recjax.eval.Exposure`. Where nothing was shown, coverage is 0 and the rest, being
means over slots, are NaN. Use ``jax.vmap`` for many counts at once. Columns of the catalogue
(counts, popularity, what is new) that are not one number an item, or of different lengths,
are a ``ValueError``.
"""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array, check_ids

HEAD_SHARE = 0.2
"""The share of items, most popular first, that is not the tail."""


def exposure_counts(ids: Array, num_items: int) -> Array:
    """How often each item occurs in lists of any shape.

    Args:
      ids: ``i32[...]``; ``PAD_ID`` and ids outside the catalogue are not counted.
      num_items: size of the catalogue.

    Returns:
      ``i32[N]``.

    Raises:
      ValueError: the ids are no integers, or ``num_items`` is below 1.

    >>> exposure_counts(jnp.array([[0, 2], [2, -1]]), num_items=4).tolist()
    [1, 0, 2, 0]
    """
    if num_items < 1:
        raise ValueError(f"num_items is {num_items}; a catalogue has at least one item.")
    return add_counts(jnp.zeros(num_items, jnp.int32), ids)


def add_counts(counts: Array, ids: Array) -> Array:
    """``counts`` with one more for every occurrence in ``ids``: one scatter."""
    num_items, ids = counts.shape[0], jnp.asarray(check_ids("ids", ids))
    return counts.at[jnp.where(ids < 0, num_items, ids)].add(1, mode="drop")


def coverage(counts: Array) -> Array:
    """The share of the catalogue that was shown at least once, in [0, 1].

    References:
      Ge, Delgado-Battenfeld, Jannach, "Beyond accuracy: evaluating recommender systems by
      coverage and serendipity", RecSys 2010 (catalogue coverage).
    """
    (counts,) = _columns(counts=counts)
    return jnp.mean(counts > 0, dtype=jnp.float32)


def is_tail(popularity: Array, head_share: float = HEAD_SHARE) -> Array:
    """The long tail: all items but the most popular ones.

    Args:
      popularity: ``f32[N]`` occurrences in the training log.
      head_share: the head is the ``head_share * N`` (rounded) most popular items; among
        equally popular ones, those with the lowest ids.

    Returns:
      ``bool[N]``.

    Raises:
      ValueError: ``head_share`` is outside [0, 1].
    """
    if not 0 <= head_share <= 1:
        raise ValueError(f"head_share is {head_share}; it is a share of the items, in [0, 1].")
    (popularity,) = _columns(popularity=popularity)
    order = jnp.argsort(-popularity, stable=True)
    return jnp.ones(popularity.shape, bool).at[order[: round(head_share * len(popularity))]].set(False)


def tail_coverage(counts: Array, popularity: Array, head_share: float = HEAD_SHARE) -> Array:
    """The share of the tail, see :func:`is_tail`, that was shown at least once, in [0, 1]."""
    counts, popularity = _columns(counts=counts, popularity=popularity)
    tail = is_tail(popularity, head_share)
    return jnp.sum(tail & (counts > 0)) / jnp.sum(tail)


def new_coverage(counts: Array, is_new: Array) -> Array:
    """The share of the new items that were shown at least once, in [0, 1]; NaN where none is new.

    Args:
      counts: ``i32[N]``.
      is_new: ``bool[N]``, see :class:`recjax.types.Items`.
    """
    counts, is_new = _columns(counts=counts, is_new=is_new)
    return jnp.sum(is_new & (counts > 0)) / jnp.sum(is_new)


def gini(counts: Array) -> Array:
    """The Gini coefficient of exposure over *all* items: 0 when equal, ``1 - 1/N`` when one item gets all.

    With counts ``x`` in increasing order, ``sum_i (2i - N - 1) x_i / (N sum_i x_i)``.
    """
    (counts,) = _columns(counts=counts)
    num_items = counts.shape[0]
    weights = (2 * jnp.arange(1, num_items + 1) - num_items - 1) / num_items
    return jnp.sum(weights * jnp.sort(_shares(counts)))


def self_information(popularity: Array) -> Array:
    """How surprising an item is, ``-log2 p`` bits, for each item.

    ``p = (n + 1) / (sum of n + N)``: the item's share of the interactions in the training
    log, with one interaction added to every item so that unseen ones have a finite value.

    Args:
      popularity: ``f32[N]`` occurrences ``n`` in the training log.

    Returns:
      ``f32[N]``.

    References:
      Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang, "Solving the apparent diversity-accuracy
      dilemma of recommender systems", PNAS 2010 (there ``p`` is the share of *users*).
    """
    (popularity,) = _columns(popularity=popularity)
    smoothed = popularity + 1
    return jnp.log2(jnp.sum(smoothed)) - jnp.log2(smoothed)


def novelty_information(counts: Array, popularity: Array) -> Array:
    """The mean :func:`self_information` of a shown slot, in bits."""
    counts, popularity = _columns(counts=counts, popularity=popularity)
    return _mean_over_slots(counts, self_information(popularity))


def novelty_new(counts: Array, is_new: Array) -> Array:
    """The share of the shown slots whose item is new to the catalogue, in [0, 1].

    Args:
      counts: ``i32[N]``.
      is_new: ``bool[N]``, see :class:`recjax.types.Items`.
    """
    counts, is_new = _columns(counts=counts, is_new=is_new)
    return _mean_over_slots(counts, is_new.astype(jnp.float32))


def exposure_popularity_lift(counts: Array, popularity: Array) -> Array:
    """How much more popular a shown slot is than an interaction of the log; 0 when equally so.

    :func:`recjax.eval.popularity_lift` with the whole log as one group and every slot and
    interaction weighing the same: ``(GAP_q - GAP_p) / GAP_p`` where ``GAP_q`` is the mean
    popularity of a slot and ``GAP_p`` that of an interaction.
    """
    counts, popularity = _columns(counts=counts, popularity=popularity)
    recommended, profile = _mean_over_slots(counts, popularity), _mean_over_slots(popularity, popularity)
    return (recommended - profile) / profile


def _shares(counts: Array) -> Array:
    counts = counts.astype(jnp.float32)
    return counts / jnp.sum(counts)


def _mean_over_slots(counts: Array, values: Array) -> Array:
    return jnp.sum(_shares(counts) * values)


def _columns(**columns: Array) -> tuple[Array, ...]:
    """The columns of a catalogue, each with one number an item."""
    arrays = {name: jnp.asarray(column) for name, column in columns.items()}
    if any(array.ndim != 1 for array in arrays.values()) or len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Metrics of a catalogue take one number an item, in arrays of one shape [N]; got {shapes}.")
    if "is_new" in arrays and arrays["is_new"].dtype != bool:
        raise ValueError(f"is_new has dtype {arrays['is_new'].dtype}; it must be boolean, one truth value an item.")
    return tuple(arrays.values())
