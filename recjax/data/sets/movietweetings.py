"""MovieTweetings: film ratings that people posted, snapshot of 100,000."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from recjax.data.feature_files import ItemColumns, with_item_file
from recjax.data.readers import Columns, read
from recjax.data.schema import Dataset

_TITLE = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})\)\s*")


def parse(files: dict[str, Path]) -> Dataset:
    """Ratings with the titles, years and genres of films."""
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
