"""Logs made to order."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from recjax.data import Columns, Dataset, from_frame


def walking_log(users: int = 48, events: int = 12, items: int = 30, *, seed: int = 0) -> Dataset:
    """Users who walk along a ring of items, from a random one on: what comes next is certain.

    Items have titles of two words that say where they stand, and one of three genres.

    Args:
      users: how many.
      events: of each.
      items: length of the ring.
      seed: of where users begin.

    >>> dataset = walking_log(users=2, events=3, items=5)
    >>> np.diff(dataset.interactions.user).tolist()
    [0, 0, 1, 0, 0]
    """
    user, step = np.divmod(np.arange(users * events), events)
    item = (np.random.default_rng(seed).integers(0, items, users)[user] + step) % items
    frame = pl.DataFrame({"user": user, "item": item, "timestamp": step})
    dataset, _ = from_frame(frame, Columns(time="timestamp"), time_format="s", name="ring")
    number = np.array(list(map(int, dataset.items.names)))
    return dataclasses.replace(
        dataset,
        titles=tuple(f"part {n % 6} of {n // 6}" for n in number),
        genres=tuple("abc"),
        multi_hot=(number[:, None] % 3 == np.arange(3)[None]).astype(np.float32),
    )
