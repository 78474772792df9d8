"""What a data set owes to what is made of it, beyond what its own parts refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from recjax.data import Dataset


def check_dataset(dataset: Dataset) -> None:
    """Checks a data set: it has events, its numbers are numbers, its description can be written down.

    Ids outside the id maps, infinite ratings, names that occur twice and columns of another length cannot be
    in a :class:`~recjax.data.Dataset`: it raises when it is made.

    Args:
      dataset: the data set.

    Raises:
      AssertionError: what is not so, with the row where there is one.
    """
    assert len(dataset.interactions), f"{dataset.name} has no events."
    assert dataset.test is None or len(dataset.test), f"The test part of {dataset.name} has no events."
    # NaN stands for an unknown number; nothing stands for an infinite one.
    _check_rows("numeric", dataset.numeric, lambda x: ~np.isinf(x), "must be finite or NaN")
    _check_rows("context", dataset.context, np.isfinite, "must be finite")
    _check_rows("multi_hot", dataset.multi_hot, lambda x: np.isin(x, (0, 1)), "must be 0 or 1")
    json.dumps(dataset.describe())


def _check_rows(name: str, values: np.ndarray | None, allowed: Callable[[Any], np.ndarray], must: str) -> None:
    if values is None:
        return
    rows = allowed(values).reshape(len(values), -1).all(axis=1)
    assert rows.all(), f"Row {np.argmin(rows)}: {name} is {values[np.argmin(rows)]}; it {must}."
