"""What collaborative models share: the registry, the user-item matrix, histories as rows of it."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from recjax.catalogue import distinct_ids
from recjax.data import Interactions, behaviour_weights
from recjax.registry import Registry
from recjax.types import Array

WEIGHTS = ("binary", "behaviour", "rating")

MAX_ENTRY = 1e12
"""Largest entry of a user-item matrix: float32 holds the squares, and sums of billions of them."""


class CollaborativeModel(Protocol):
    """A pytree that scores every item for users who are known by their history only."""

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` items, padded with ``PAD_ID`` -> ``f32[B, N]``.

        A repeated item counts once; padding and unknown items (``N``) count nothing. The
        order of the history plays no part.
        """
        ...


collaborative_models: Registry = Registry("collaborative model")
"""Functions ``(interactions, num_items, **options) -> CollaborativeModel``."""


@dataclasses.dataclass(frozen=True)
class UserItemMatrix:
    """A sparse matrix with one row per user who has events, in compressed rows.

    Attributes:
      starts: ``i64[U + 1]``, where in the columns below each user begins.
      user: ``i32[E]`` row of each entry, ascending.
      item: ``i32[E]``, ascending within a row.
      weight: ``f32[E]``, above 0 and at most :data:`MAX_ENTRY`.
      num_items: ``N``.
      ids: ``i32[U]`` id of the user of each row, ascending.
    """

    starts: np.ndarray
    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    num_items: int
    ids: np.ndarray

    @property
    def num_users(self) -> int:
        """``U``."""
        return len(self.starts) - 1

    def transpose(self) -> UserItemMatrix:
        """One row per item instead, items without events included."""
        order = np.argsort(self.item, kind="stable")
        starts = np.searchsorted(self.item[order], np.arange(self.num_items + 1))
        columns = self.item[order], self.user[order], self.weight[order]
        return UserItemMatrix(starts, *columns, num_items=self.num_users, ids=np.arange(self.num_items))


def user_item_matrix(interactions: Interactions, num_items: int, weight: str = "binary") -> UserItemMatrix:
    """Sums a log into a user-item matrix.

    Args:
      interactions: the training log; events of unknown items (``item == num_items``) and
        events of weight 0 are left out.
      num_items: items in the catalogue.
      weight: ``binary`` gives 1 to every pair that occurs; ``behaviour`` adds up the
        weights of the behaviours of a pair; ``rating`` adds up its ratings.

    Raises:
      ValueError: an unknown weight, ids outside ``0 .. num_items``, no events, ratings that
        are missing, negative or infinite, or an entry above 1e12.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"weight={weight!r} is not one of {WEIGHTS}.")
    bad = np.flatnonzero((interactions.item < 0) | (interactions.item > num_items))
    if len(bad):
        raise ValueError(
            f"Item id {interactions.item[bad[0]]} is outside 0 .. {num_items} (num_items), in row {bad[0]}."
        )
    value = _event_weights(interactions, weight)
    kept = (interactions.item < num_items) & (value > 0)
    if not kept.any():
        raise ValueError("The log has no events of known items with a weight above 0; there is nothing to fit.")
    ids, user = np.unique(interactions.user[kept], return_inverse=True)
    pair, entry = np.unique(user.astype(np.int64) * num_items + interactions.item[kept], return_inverse=True)
    total = np.bincount(entry, weights=value[kept])
    user, item = (pair // num_items).astype(np.int32), (pair % num_items).astype(np.int32)
    largest = int(np.argmax(total))
    if not total[largest] <= MAX_ENTRY:
        raise ValueError(
            f"The entry of user {ids[user[largest]]} and item {item[largest]} is {total[largest]:g}; entries above"
            f" {MAX_ENTRY:g} overflow when they are squared. Scale the ratings down, or use weight='binary'."
        )
    total = total.astype(np.float32)
    return UserItemMatrix(
        starts=np.searchsorted(user, np.arange(user[-1] + 2)),
        user=user,
        item=item,
        weight=np.ones_like(total) if weight == "binary" else total,
        num_items=num_items,
        ids=ids,
    )


def _event_weights(interactions: Interactions, weight: str) -> np.ndarray:
    if weight == "binary":
        return np.ones(len(interactions), np.float32)
    if weight == "behaviour":
        return behaviour_weights(interactions)
    rating = np.full(len(interactions), np.nan) if interactions.rating is None else interactions.rating
    bad = np.flatnonzero(~((rating >= 0) & np.isfinite(rating)))
    if len(bad):
        raise ValueError(
            "weight='rating' needs a rating of at least 0, and a finite one, for every event;"
            f" row {bad[0]} has {rating[bad[0]]}. Use 'binary' or 'behaviour'."
        )
    return rating


def multi_hot(history: Array, num_items: int) -> Array:
    """``f32[B, N]``: 1 for every known item of each history."""
    items = distinct_ids(history, num_items)
    users = jnp.arange(len(history))[:, None]
    return jnp.zeros((len(history), num_items)).at[users, items].set(1.0, mode="drop")
