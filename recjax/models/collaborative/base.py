"""What collaborative models share: the registry, the user-item matrix, histories as rows of it."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from recjax.data import Interactions, behaviour_weights
from recjax.registry import Registry
from recjax.types import Array

WEIGHTS = ("binary", "behaviour", "rating")


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
      weight: ``f32[E]``, above 0.
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
      ValueError: an unknown weight, ids outside ``0 .. num_items``, no events, or ratings
        that are missing or negative.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"weight={weight!r} is not one of {WEIGHTS}.")
    bad = (interactions.item < 0) | (interactions.item > num_items)
    if bad.any():
        raise ValueError(f"Item id {interactions.item[bad][0]} is outside 0 .. {num_items} (num_items).")
    value = _event_weights(interactions, weight)
    kept = (interactions.item < num_items) & (value > 0)
    if not kept.any():
        raise ValueError("The log has no events of known items with a weight above 0; there is nothing to fit.")
    ids, user = np.unique(interactions.user[kept], return_inverse=True)
    pair, entry = np.unique(user.astype(np.int64) * num_items + interactions.item[kept], return_inverse=True)
    total = np.bincount(entry, weights=value[kept]).astype(np.float32)
    user, item = (pair // num_items).astype(np.int32), (pair % num_items).astype(np.int32)
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
    if interactions.rating is None or not (interactions.rating >= 0).all():
        raise ValueError("weight='rating' needs a rating of at least 0 for every event; use 'binary' or 'behaviour'.")
    return interactions.rating


def distinct(history: Array, num_items: int) -> Array:
    """The distinct known items of each history, ``i32[B, L]``; the other places hold ``num_items``."""
    known = (history >= 0) & (history < num_items)
    ordered = jnp.sort(jnp.where(known, history, num_items), axis=-1)
    repeated = jnp.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(repeated, num_items, ordered)


def multi_hot(history: Array, num_items: int) -> Array:
    """``f32[B, N]``: 1 for every known item of each history."""
    items = distinct(history, num_items)
    users = jnp.arange(len(history))[:, None]
    return jnp.zeros((len(history), num_items)).at[users, items].set(1.0, mode="drop")
