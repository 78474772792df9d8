"""What a bandit knows of a user and an item, and which of its models answers for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from recjax.types import Array, Items, Observation, shown_items

NUMBERS = ("multi_hot", "numeric", "vectors")
"""Kinds of features of items that are numbers as they are."""


class FeatureMap(Protocol):
    """What is known of users and of what may be shown to them, as numbers in which rewards are linear."""

    def __call__(self, observation: Observation, items: Items, choices: Array) -> Array:
        """Returns ``f32[B, M, D]``.

        Args:
          observation: of a batch of users.
          items: what a platform knows of the items.
          choices: ``i32[B, M]`` items, or positions in the candidates where there are any, all of them in range.
        """
        ...


def item_features(observation: Observation, items: Items, choices: Array) -> Array:
    """``[v, 1]`` with all numbers ``v`` that are known of an item, ``f32[B, M, F + 1]``, see :class:`FeatureMap`.

    Of candidates that have features ``f32[B, M, F]`` these are taken; else those of the items whose kind is
    "multi_hot", "numeric" or "vectors", in the order of their names.

    Raises:
      ValueError: the features of candidates are no array.
    """
    candidates = observation.candidates
    if candidates is not None and candidates.features is not None:
        if not isinstance(candidates.features, jax.Array):
            raise ValueError(
                "Candidates.features is no array, so a linear model cannot read it; give a FeatureMap of your own."
            )
        return affine(jnp.take_along_axis(candidates.features, choices[:, :, None], axis=1))
    ids = shown_items(choices, observation)
    known = [feature.values[ids] for _, feature in sorted(items.features.items()) if feature.kind in NUMBERS]
    return affine(jnp.concatenate([jnp.zeros((*ids.shape, 0)), *known], axis=-1))


def context_features(observation: Observation, items: Items, choices: Array) -> Array:
    """``[x, 1]`` with the user's context ``x``, the same for every item: ``f32[B, M, C + 1]``, see :class:`FeatureMap`.

    It is for one model an item (:func:`item_models`), the "disjoint" models of LinUCB.
    """
    del items
    user = _user(observation)
    return jnp.broadcast_to(user[:, None], (*choices.shape, user.shape[-1]))


def crossed_features(observation: Observation, items: Items, choices: Array) -> Array:
    """Products of ``[x, 1]`` of the user and ``[v, 1]`` of the item, ``f32[B, M, (C + 1) (F + 1)]``.

    One model then knows what each kind of users likes of items; see :class:`FeatureMap`.
    """
    item = item_features(observation, items, choices)
    crossed = _user(observation)[:, None, :, None] * item[:, :, None, :]
    return crossed.reshape(*choices.shape, -1)


def affine(numbers: Array) -> Array:
    """``[x, 1]`` of ``x: f32[..., F]``, where ``F`` may be 0."""
    return jnp.concatenate([numbers, jnp.ones((*numbers.shape[:-1], 1))], axis=-1)


def _user(observation: Observation) -> Array:
    """``[x, 1]``, ``f32[B, C + 1]``."""
    context = observation.context
    return affine(jnp.zeros((len(observation.history), 0)) if context is None else context)


@dataclasses.dataclass(frozen=True)
class Models:
    """How many models there are, and which answers: one for all, one a user, or one an item.

    Attributes:
      row_of: ``(observation) -> i32[B]`` the user's model, in ``0 .. count - 1`` (-1 is the last); None for one model
        of all users.
      count: how many models of users there are.
      per_item: whether every item has a model, instead of users.
    """

    row_of: Callable[[Observation], Array] | None = None
    count: int = 1
    per_item: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; there is at least 1 model.")

    def number(self, num_items: int) -> int:
        """How many models there are with so many items."""
        return num_items if self.per_item else self.count

    def rows(self, observation: Observation, choices: Array) -> Array:
        """The models that answer for ``choices: i32[B, M]``: ``i32[1, 1]``, ``i32[B, 1]`` or ``i32[B, M]``."""
        if self.per_item:
            return shown_items(choices, observation)
        if self.row_of is None:
            return jnp.zeros((1, 1), jnp.int32)
        return self.row_of(observation)[:, None] % self.count


ONE_MODEL = Models()
"""One model of all users and items."""


def user_models(row_of: Callable[[Observation], Array], count: int) -> Models:
    """One model for each of ``count`` users, or kinds of users.

    Args:
      row_of: ``(observation) -> i32[B]`` which one a user is, in ``0 .. count - 1``. An observation has no id of the
        user, so it is read off the context, or the history.
      count: how many there are.

    Raises:
      ValueError: ``count`` is below 1.
    """
    return Models(row_of, count)


def item_models() -> Models:
    """One model for each item, of what is known of the user; memory is ``N * D**2``."""
    return Models(per_item=True)
