"""Coat Shopping: self-selected ratings to learn from, ratings of random coats to test on."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from recjax.data.ids import IdMap
from recjax.data.schema import Dataset, Interactions


def _matrix(path: Path) -> np.ndarray:
    with gzip.open(path, "rt", encoding="ascii") as rows:
        return np.loadtxt(rows, dtype=np.float32, ndmin=2)


def _names(path: Path) -> tuple[str, ...]:
    with gzip.open(path, "rt", encoding="ascii") as lines:
        return tuple(line.strip() for line in lines if line.strip())


def _ratings(path: Path) -> Interactions:
    matrix = _matrix(path)
    user, item = np.nonzero(matrix)
    return Interactions(user, item, rating=matrix[user, item])


def parse(files: dict[str, Path]) -> Dataset:
    """Ratings without times, in the order of the matrix: users, then items.

    ``test`` are ratings of coats drawn uniformly at random, so averages over them are
    unbiased. ``extras["propensity"]`` is the owner's estimate of the chance that the user chose to rate the coat.
    """
    log = _ratings(files["train.ascii.gz"])
    context, multi_hot = _matrix(files["user_features.ascii.gz"]), _matrix(files["item_features.ascii.gz"])
    return Dataset(
        name="coat",
        interactions=log,
        users=IdMap.fit(range(len(context))),
        items=IdMap.fit(range(len(multi_hot))),
        genres=_names(files["item_features_map.txt.gz"]),
        multi_hot=multi_hot,
        context_names=_names(files["user_features_map.txt.gz"]),
        context=context,
        test=_ratings(files["test.ascii.gz"]),
        extras={"propensity": _matrix(files["propensities.ascii.gz"])[log.user, log.item]},
    )
