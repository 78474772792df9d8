"""MovieTweetings: film ratings that people posted, snapshot of 100,000."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from recjax.data.feature_files import ItemColumns, with_item_file
from recjax.data.named import NamedSet, datasets
from recjax.data.readers import Columns, read
from recjax.data.schema import Dataset
from recjax.data.sources import LocalFile

_TITLE = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})\)\s*")


def _parse(files: dict[str, Path]) -> Dataset:
    dataset, _ = read(
        files["ratings.dat.gz"],
        Columns(user=0, item=1, rating=2, time=3),
        name="movietweetings",
        separator="::",
        header=False,
        time_format="s",
    )
    films = ItemColumns(item="0", title="1", categories="2")
    dataset, _ = with_item_file(dataset, files["movies.dat.gz"], films, separator="::", header=False)
    split = [_TITLE.fullmatch(title) for title in dataset.titles or ()]
    return dataclasses.replace(
        dataset,
        titles=tuple(m["title"] if m else title for m, title in zip(split, dataset.titles or (), strict=True)),
        numeric_names=("year",),
        numeric=np.array([[float(m["year"]) if m else np.nan] for m in split], np.float32),
    )


datasets.register(
    "movietweetings",
    NamedSet(
        name="movietweetings",
        summary="100,000 film ratings (0 to 10) of 16,554 users, 2013; titles, years, genres",
        terms="MIT",
        origin="Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec workshop 2013",
        parse=_parse,
        files=(
            LocalFile("ratings.dat.gz", "c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6"),
            LocalFile("movies.dat.gz", "e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc"),
        ),
    ),
)
