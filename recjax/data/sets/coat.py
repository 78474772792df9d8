"""Coat Shopping: self-selected ratings to learn from, ratings of random coats to test on."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from recjax.data.ids import IdMap
from recjax.data.named import PathLike
from recjax.data.schema import Dataset, Interactions
from recjax.data.sources import LocalFile, brought

COMPLETED = {
    "whole": LocalFile(
        "coat_pseudoGT_ratingM.ascii.gz", "fee71820f155a3f43ab50858734a23102c8328cf9bd0e586ed5a7db2fb084223"
    ),
    "factorised": LocalFile(
        "coat_mf_ips_ratingM.ascii.gz", "9705e4b79eb5a4ff7d730c85e8637c4e327e1f14f3b38e25e82c608290d4f0ff"
    ),
}
"""Ratings of all coats by all users, as two studies of reinforcement learning take them: see :func:`completed`."""


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


def completed(name: str, data_dir: PathLike | None = None) -> np.ndarray:
    """A completed matrix of ratings, ``f32[290, 300]``.

    Args:
      name: "whole" are the whole numbers 1 to 5 that EasyRL4Rec takes for the truth; "factorised" the real
        numbers of matrix factorisation with inverse propensities that the study of state encoders rounds. Both are
        in the code of Huang et al. (SIGIR 2022), github.com/BetsyHJ/RL4Rec.
      data_dir: where data sets lie that the user brings; the file is looked for in its folder ``coat``.

    Raises:
      ValueError: the file is not there, or has other content.
    """
    file = COMPLETED[name]
    return _matrix(brought("coat", (file,), data_dir)[file.name])
