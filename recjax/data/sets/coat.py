"""Coat Shopping: self-selected ratings to learn from, ratings of random coats to test on."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from recjax.data.ids import IdMap
from recjax.data.named import NamedSet, datasets
from recjax.data.schema import Dataset, Interactions
from recjax.data.sources import LocalFile


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


def _parse(files: dict[str, Path]) -> Dataset:
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


datasets.register(
    "coat",
    NamedSet(
        name="coat",
        summary="6,960 self-selected and 4,640 uniformly random ratings of 300 coats; features, propensities",
        terms="research use, cite the paper",
        origin="Cornell; Schnabel et al., Recommendations as Treatments, ICML 2016",
        parse=_parse,
        files=(
            LocalFile("train.ascii.gz", "a87bd9e7eaf3b89f976df3f25d4aa5d5d871be8a00b58947df9e6e015559bd37"),
            LocalFile("test.ascii.gz", "de6714ab105a5e0be8166be7fd313901b29f9a09c3bea307901457d1d71847e6"),
            LocalFile("propensities.ascii.gz", "a72e3142a413623c4a6b9d20c4f70fcc017e0db67cc3eb242116f69fb8fb9661"),
            LocalFile("item_features.ascii.gz", "edea8217ec5606779b4d3bf819f7591dc63bcd5194d619e8048c2322d07630b1"),
            LocalFile("item_features_map.txt.gz", "2675dfaa38b89a9cbb1997f0cfcd46ed7e0e366dc515d12d95508d1f356e5d25"),
            LocalFile("user_features.ascii.gz", "d8f9531b601c54a7272602f8b21fa6cb4652cbf122e35d8615ea9645ebbf1b1f"),
            LocalFile("user_features_map.txt.gz", "3b8c825ad4445d4a46a400629c5fb43c805ff5a7982b2e436b69e7262c8a013a"),
        ),
    ),
)
