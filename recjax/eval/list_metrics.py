"""Beyond accuracy, within a list: diversity, serendipity, calibration, popularity lift.

Lists are item ids ``i32[..., K]`` padded with ``PAD_ID`` anywhere. An id outside the
catalogue, such as the one that :meth:`recjax.data.IdMap.encode` gives to unknown items, is
no item either: its slot counts as empty. A list that a metric says nothing about (too
short, no genres) has the value NaN and is left out of means.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp

from recjax.catalogue.vectors import inverse_norm
from recjax.eval.ranking import distinct, only_items
from recjax.types import Array, check_ids

FEW_SLOTS = 12
"""Slots whose vectors are read and added one after the other."""


def intra_list_diversity(slates: Array, content: Array) -> Array:
    """The mean of ``1 - cosine`` over all pairs of items of a list.

    Args:
      slates: ``i32[..., K]``.
      content: ``f32[N, F]`` one content vector an item (genres, text). The cosine with a
        vector of zeros is 0.

    Returns:
      ``f32[...]`` in [0, 2], in [0, 1] for content without negative numbers; NaN for
      lists with fewer than two items.

    Raises:
      ValueError: ``slates`` are no integers or ``content`` is no matrix.

    References:
      Smyth, McClave, "Similarity vs. diversity", ICCBR 2001; Ziegler, McNee, Konstan,
      Lausen, "Improving recommendation lists through topic diversification", WWW 2005.

    >>> genres = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> intra_list_diversity(jnp.array([[0, 1], [0, 2], [2, -1]]), genres).tolist()
    [0.0, 1.0, nan]
    """
    shown, items = _listed("slates", slates, "content", content)
    # One vector an item, which a loop computes once: nothing is normalised again for every slate.
    scale = inverse_norm(jnp.asarray(content))
    total = _sum_of_slots(content * scale, items, shown)
    # Over ordered pairs a != b, the cosines sum to |sum x|^2 - sum |x|^2: no [K, K] matrix is needed.
    cosines = jnp.sum(total**2, axis=-1) - jnp.sum(shown & (scale[:, 0] > 0)[items], axis=-1)
    count = jnp.sum(shown, axis=-1, dtype=jnp.float32)
    return jnp.where(count > 1, 1 - cosines / jnp.maximum(count * (count - 1), 1), jnp.nan)


def serendipity(slates: Array, relevant: Array, expected: Array, *, num_items: int | None = None) -> Array:
    """The share of a list that is relevant and that a primitive model would not have recommended.

    ``|(slate without expected) and relevant| / |slate|``. What is expected is up to the
    caller, and belongs with the number: most often the list of the most popular items.

    Args:
      slates: ``i32[..., K]``; repeats of an item fill slots but count once.
      relevant: ``i32[..., R]`` padded.
      expected: ``i32[..., E]`` the primitive model's recommendations, padded.
      num_items: size of the catalogue. Two unknown items have one id; give the size where
        lists may hold any, so that one is not taken for the other.

    Returns:
      ``f32[...]`` in [0, 1]; NaN for users without relevant items, 0 for empty lists.

    Raises:
      ValueError: ids are no integers, or the lists are of different users.

    References:
      Ge, Delgado-Battenfeld, Jannach, "Beyond accuracy: evaluating recommender systems by
      coverage and serendipity", RecSys 2010; divided by the length of the list.
    """
    slates, relevant, expected = _same_users(slates=slates, relevant=relevant, expected=expected)
    # A relevant item that is unknown cannot be recommended, but its user has a relevant item.
    has_relevant = jnp.any(relevant >= 0, axis=-1)
    slates, relevant = only_items(slates, num_items), only_items(relevant, num_items)
    lucky = distinct(slates) & _contains(relevant, slates) & ~_contains(expected, slates)
    share = jnp.sum(lucky, axis=-1) / jnp.maximum(jnp.sum(slates >= 0, axis=-1), 1)
    return jnp.where(has_relevant, share, jnp.nan)


def genre_distribution(ids: Array, multi_hot: Array) -> Array:
    """The share of each genre in a list; an item's weight is split evenly over its genres.

    Args:
      ids: ``i32[..., L]``.
      multi_hot: ``f32[N, G]`` of zeros and ones. Items without genres are passed over.

    Returns:
      ``f32[..., G]`` that sums to 1; NaN where no item of the list has a genre.

    Raises:
      ValueError: ``ids`` are no integers or ``multi_hot`` is no matrix.
    """
    listed, genres = _rows("ids", ids, "multi_hot", multi_hot)
    per_item = jnp.sum(genres, axis=-1, keepdims=True)
    counts = listed[..., None] & (per_item > 0)
    total = jnp.sum(jnp.where(counts, genres / jnp.maximum(per_item, 1), 0.0), axis=-2)
    return total / jnp.sum(total, axis=-1, keepdims=True)


def calibration(slates: Array, profiles: Array, multi_hot: Array, *, alpha: float = 0.01) -> Array:
    """How far the genres of a list are from those of the user's profile; lower is better.

    ``KL(p || q')`` in nats with ``p`` the genre distribution of the profile, ``q`` that of
    the list, and ``q' = (1 - alpha) q + alpha p``, which keeps it finite.

    Args:
      slates: ``i32[..., K]``.
      profiles: ``i32[..., L]`` what the user liked before.
      multi_hot: ``f32[N, G]`` of zeros and ones.
      alpha: smoothing in (0, 1); Steck uses 0.01.

    Returns:
      ``f32[...]``, 0 when equal, at most ``-log alpha``; NaN where the list or the profile
      has no item with a genre.

    Raises:
      ValueError: ``alpha`` is outside (0, 1), ids are no integers, or the lists and the
        profiles are of different users.

    References:
      Steck, "Calibrated Recommendations", RecSys 2018.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie strictly between 0 and 1, e.g. 0.01.")
    slates, profiles = _same_users(slates=slates, profiles=profiles)
    p, q = genre_distribution(profiles, multi_hot), genre_distribution(slates, multi_hot)
    smoothed = (1 - alpha) * q + alpha * p
    return jnp.sum(jnp.where(p == 0, 0.0, p * jnp.log(p / smoothed)), axis=-1)


def popularity_lift(slates: Array, profiles: Array, popularity: Array) -> Array:
    """How much more popular the recommendations of a group of users are than their profiles.

    ``(GAP_q - GAP_p) / GAP_p`` where the group average popularity ``GAP`` is the mean over
    users of the mean popularity of their recommended (``q``) or profile (``p``) items.

    Args:
      slates: ``i32[U, K]`` recommendations to the users of the group.
      profiles: ``i32[U, L]`` what they interacted with before.
      popularity: ``f32[N]``; only ratios matter, so counts and shares give the same.

    Returns:
      ``f32[]``, 0 when equally popular; users without items are left out of that mean.

    Raises:
      ValueError: ids are no integers, the lists and the profiles are of different users, or
        ``popularity`` has not one number an item.

    References:
      Abdollahpouri, Mansoury, Burke, Mobasher, "The connection between popularity bias,
      calibration, and fairness in recommendation", RecSys 2020.
    """
    slates, profiles = _same_users(slates=slates, profiles=profiles)
    gap_q, gap_p = (jnp.nanmean(_mean_popularity(ids, popularity)) for ids in (slates, profiles))
    return (gap_q - gap_p) / gap_p


def _mean_popularity(ids: Array, popularity: Array) -> Array:
    listed, popularity = _rows("ids", ids, "popularity", popularity, ndim=1)
    return jnp.sum(jnp.where(listed, popularity, 0.0), axis=-1) / jnp.sum(listed, axis=-1)


def _sum_of_slots(table: Array, items: Array, shown: Array) -> Array:
    """The sum of the rows of ``table [N, F]`` at ``items [..., K]`` that are shown, slot by slot where they are few."""

    def total(items: Array, shown: Array) -> Array:
        return jnp.sum(jnp.where(shown[..., None], table[items], 0.0), axis=-2)

    slots = items.shape[-1]
    if not 0 < slots <= FEW_SLOTS:
        return total(items, shown)
    # XLA then adds what it reads; of all slots at once it would first store every row.
    return functools.reduce(jnp.add, (total(items[..., slot, None], shown[..., slot, None]) for slot in range(slots)))


def _rows(name: str, ids: Array, table_name: str, table: Array, *, ndim: int = 2) -> tuple[Array, Array]:
    """Which ids are items of a table ``[N, ...]``, and its rows at the ids; an arbitrary row where none is."""
    listed, rows = _listed(name, ids, table_name, table, ndim=ndim)
    return listed, jnp.asarray(table)[rows]


def _listed(name: str, ids: Array, table_name: str, table: Array, *, ndim: int = 2) -> tuple[Array, Array]:
    """Which ids are items of a table ``[N, ...]``, and the ids, 0 where none is."""
    ids, table = jnp.asarray(check_ids(name, ids)), jnp.asarray(table)
    if table.ndim != ndim or not len(table):
        wanted = "[N, F], one row an item" if ndim == 2 else "[N], one number an item"
        raise ValueError(f"{table_name} has shape {table.shape}; it must be {wanted}.")
    listed = (ids >= 0) & (ids < len(table))
    return listed, jnp.where(listed, ids, 0)


def _same_users(**lists: Array) -> tuple[Array, ...]:
    """The lists as ids, whose leading shapes, all but the last axis, agree."""
    ids = {name: jnp.asarray(check_ids(name, value)) for name, value in lists.items()}
    if len({value.shape[:-1] for value in ids.values()}) > 1 or any(value.ndim == 0 for value in ids.values()):
        shapes = ", ".join(f"{name} {value.shape}" for name, value in ids.items())
        raise ValueError(
            f"Give one list of each kind a user, so that all shapes but the last axis agree; got {shapes}."
        )
    return tuple(ids.values())


def _contains(ids: Array, queries: Array) -> Array:
    """``bool[..., K]``: which of ``queries [..., K]`` are items of ``ids [..., R]``."""
    return jnp.any((queries[..., :, None] == ids[..., None, :]) & (ids >= 0)[..., None, :], axis=-1)
