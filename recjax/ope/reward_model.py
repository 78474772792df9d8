"""The simplest model of rewards: the mean of each item and slot, from other rows than those that it predicts."""

from __future__ import annotations

import dataclasses

import numpy as np

FOLDS = 3
"""Parts of a log, each predicted from the others, so that no row takes part in its own prediction."""

PRIOR = 10.0
"""Rows of the overall mean that every item starts with."""


@dataclasses.dataclass(frozen=True)
class ItemRewards:
    """Mean rewards of items, cross-fitted.

    Attributes:
      means: ``f64[FOLDS, positions, items]``; those of a fold are from all others.
      fold: ``i32[n]`` of each row.
      position: ``i32[n]`` of each row.
      item: ``i32[n]`` of each row.
    """

    means: np.ndarray
    fold: np.ndarray
    position: np.ndarray
    item: np.ndarray

    def predicted(self) -> np.ndarray:
        """``f64[n]``: the predicted reward of what was shown."""
        return self.means[self.fold, self.position, self.item]

    def expected(self, policy: np.ndarray) -> np.ndarray:
        """``f64[n]``: the predicted reward of a policy, given as ``f64[positions, items]``."""
        return (self.means * policy).sum(-1)[self.fold, self.position]


def fit_item_rewards(
    reward: np.ndarray, item: np.ndarray, position: np.ndarray, group: np.ndarray | None = None, *, seed: int = 0
) -> ItemRewards:
    """Means of items and slots, drawn to the overall mean as if by :data:`PRIOR` more rows.

    Args:
      reward: ``f64[n]``.
      item: ``i32[n]`` from 0.
      position: ``i32[n]`` from 0.
      group: ``i32[n]`` from 0; rows of one group are in one fold. None takes every row for itself.
      seed: of the folds.

    References:
      Narita, Yasui, Yata, "Debiased Off-Policy Evaluation for Recommendation Systems", RecSys 2021, on cross-fitting.
    """
    group = np.arange(len(reward)) if group is None else group
    fold = np.random.default_rng(seed).permutation(int(group.max()) + 1)[group] % FOLDS
    shape = FOLDS, int(position.max()) + 1, int(item.max()) + 1
    cell = np.ravel_multi_index((fold, position, item), shape)
    size = np.prod(shape)
    total, count = (np.bincount(cell, of, size).reshape(shape) for of in (reward, np.ones_like(reward)))
    total, count = total.sum(0) - total, count.sum(0) - count
    overall = total.sum((1, 2), keepdims=True) / np.maximum(count.sum((1, 2), keepdims=True), 1)
    return ItemRewards((total + PRIOR * overall) / (count + PRIOR), fold, position, item)
