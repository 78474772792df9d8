"""Beyond accuracy, between users: how much of what they are shown, or consume, do they have in common?

Lists are item ids ``i32[U, L]``, one row a user, padded with ``PAD_ID`` anywhere. Ids outside the catalogue are no
items, and repeats in a list count once. Users whose list holds no item are left out.
"""

from __future__ import annotations

import jax.numpy as jnp

from recjax.eval.catalogue_metrics import exposure_counts
from recjax.eval.ranking import distinct, only_items
from recjax.types import PAD_ID, Array, check_ids


def inter_user_diversity(slates: Array, num_items: int) -> Array:
    """How far the slates of two users are from holding the same items, the mean over all pairs of users.

    ``1 - |A and B| / K`` for slates of ``K`` slots, the Hamming distance of recommendation lists. It is counted item by
    item, ``sum_i c_i (c_i - 1)`` with ``c_i`` the users who are shown item ``i``, so no array of pairs is written.

    Args:
      slates: ``i32[U, K]``.
      num_items: size of the catalogue.

    Returns:
      ``f32[]`` in [0, 1]: 0 where all users are shown the same, 1 where no two of them share an item; NaN with fewer
      than two users.

    Raises:
      ValueError: ``slates`` are no integers ``[U, K]``, or ``num_items`` is below 1.

    References:
      Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang, "Solving the apparent diversity-accuracy dilemma of recommender
      systems", PNAS 2010 (there "personalization").

    >>> float(inter_user_diversity(jnp.array([[0, 1], [1, 2], [3, 4]]), num_items=5)).__round__(4)
    0.8333
    """
    slates = _lists("slates", slates, num_items)
    users = jnp.sum(jnp.any(slates >= 0, axis=-1), dtype=jnp.float32)
    counts = exposure_counts(jnp.where(distinct(slates), slates, PAD_ID), num_items).astype(jnp.float32)
    pairs = users * (users - 1)
    shared = jnp.sum(counts * (counts - 1)) / jnp.where(pairs > 0, pairs, jnp.nan)
    return 1 - shared / slates.shape[-1]


def mean_jaccard(lists: Array, num_items: int, *, partner: Array | None = None) -> Array:
    """The mean Jaccard index ``|A and B| / |A or B|`` of the items of pairs of users.

    Of lists of consumed items it is the homogeneity of Chaney et al., who pair each user with the one of the most
    similar taste. One number is written for each user and item.

    Args:
      lists: ``i32[U, L]``.
      num_items: size of the catalogue.
      partner: ``i32[U]`` with whom each user is compared; by default everybody with everybody else.

    Returns:
      ``f32[]`` in [0, 1]; NaN without a pair.

    Raises:
      ValueError: ``lists`` are no integers ``[U, L]``, ``partner`` does not name a user for each, or ``num_items`` is
        below 1.

    References:
      Chaney, Stewart, Engelhardt, "How algorithmic confounding in recommendation systems increases homogeneity and
      decreases utility", RecSys 2018.

    >>> lists = jnp.array([[0, 1], [1, 2], [3, 4]])
    >>> [round(float(mean_jaccard(lists, 5, partner=partner)), 4) for partner in (None, jnp.array([1, 0, 0]))]
    [0.1111, 0.2222]
    """
    lists = _lists("lists", lists, num_items)
    everybody = jnp.arange(len(lists))
    items = jnp.where(lists < 0, num_items, lists)
    has = jnp.zeros((len(lists), num_items), jnp.float32).at[everybody[:, None], items].set(1, mode="drop")
    size = jnp.sum(has, axis=-1)
    if partner is None:
        shared, sizes = has @ has.T, (size[:, None], size[None])
        is_pair = everybody[:, None] != everybody[None]
    else:
        other = _partners(partner, len(lists))
        shared, sizes = jnp.sum(has * has[other], axis=-1), (size, size[other])
        is_pair = everybody != other
    is_pair &= (sizes[0] > 0) & (sizes[1] > 0)
    return jnp.nanmean(jnp.where(is_pair, shared / (sizes[0] + sizes[1] - shared), jnp.nan))


def _lists(name: str, ids: Array, num_items: int) -> Array:
    """Lists of a catalogue, with negative numbers in place of what is no item."""
    if num_items < 1:
        raise ValueError(f"num_items is {num_items}; a catalogue has at least one item.")
    ids = only_items(jnp.asarray(check_ids(name, ids)), num_items)
    if ids.ndim != 2:
        raise ValueError(f"{name} has shape {ids.shape}; it must be [U, L], one list a user.")
    return ids


def _partners(partner: Array, users: int) -> Array:
    """Rows of users, checked."""
    rows = jnp.asarray(check_ids("partner", partner))
    if rows.shape != (users,):
        raise ValueError(f"partner has shape {rows.shape}; it must be [{users}], the row of another user for each.")
    return rows
