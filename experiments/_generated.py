"""A generated log for smoke runs. All scripts have the same one, so that they share compiled programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from recjax import data
from recjax.data import Dataset

USERS, EVENTS, ITEMS, GENRES = 64, 12, 40, 8


def ring() -> Dataset:
    """Users who walk along a ring of items, each of one of eight genres, whose titles say where they stand."""
    user, step = np.divmod(np.arange(USERS * EVENTS), EVENTS)
    item = (np.random.default_rng(0).integers(0, ITEMS, USERS)[user] + step) % ITEMS
    frame = pl.DataFrame({"user": user, "item": item, "timestamp": step})
    dataset, _ = data.from_frame(frame, data.Columns(time="timestamp"), time_format="s", name="ring")
    number = np.array(list(map(int, dataset.items.names)))
    return dataclasses.replace(
        dataset,
        titles=tuple(f"part {n % 6} of {n // 6}" for n in number),
        genres=tuple("abcdefgh"),
        multi_hot=(number[:, None] % GENRES == np.arange(GENRES)[None]).astype(np.float32),
    )
