"""Logs of shown items as tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from recjax.data import Dataset
from recjax.data.columns import no_column


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a log shows: its items, and the slots that they were shown in.

    Attributes:
      items: names, in the order of their numbers.
      positions: names of slots, likewise; one without a name where the log tells none.
      item: ``i32[n]`` of each row.
      position: ``i32[n]`` of each row.
    """

    items: list[str]
    positions: list[str]
    item: np.ndarray
    position: np.ndarray

    @classmethod
    def of(cls, log: pl.DataFrame, item: str, position: str | None) -> Shown:
        """That of a log, by the names of its columns."""
        items, shown = _numbered(column(log, item))
        if position is None:
            return cls(items, [""], shown, np.zeros(len(shown), np.int32))
        positions, slot = _numbered(column(log, position))
        return cls(items, positions, shown, slot)


def column(log: pl.DataFrame, name: str) -> pl.Series:
    """A column of a log.

    Raises:
      ValueError: there is none of this name, or it has missing values.
    """
    if name not in log.columns:
        raise no_column(name, log.columns)
    if log[name].null_count():
        raise ValueError(f"Column {name!r} has no value in {log[name].null_count():,} rows; leave these out.")
    return log[name]


def numbers(log: pl.DataFrame, name: str) -> np.ndarray:
    """``f64[n]``: a column of numbers.

    Raises:
      ValueError: there is none of this name, or it has something else.
    """
    try:
        return column(log, name).cast(pl.Float64).to_numpy()
    except pl.exceptions.InvalidOperationError:
        raise ValueError(f"Column {name!r} must hold numbers; it has {log[name][0]!r}.") from None


def bandit_log(dataset: Dataset) -> pl.DataFrame:
    """A data set of impressions as a log for :func:`evaluate`: the column ``item`` and one of each scalar extra.

    Raises:
      ValueError: the data set has no propensities.

    >>> from recjax import data
    >>> shown = data.Interactions(user=[0, 0], item=[1, 0])
    >>> extras = {"click": [1, 0], "propensity": [0.5, 0.5]}
    >>> names = data.IdMap(("a",)), data.IdMap(("x", "y"))
    >>> bandit_log(data.Dataset("small", shown, *names, extras=extras)).rows()
    [('y', 1, 0.5), ('x', 0, 0.5)]
    """
    if "propensity" not in dataset.extras:
        raise ValueError(
            f"{dataset.name!r} has no propensities, so nothing can be evaluated from it but its own policy."
        )
    extras = {name: np.asarray(values) for name, values in dataset.extras.items()}
    items = np.array(dataset.items.names, dtype=object)[dataset.interactions.item]
    return pl.DataFrame({"item": items} | {name: values for name, values in extras.items() if values.ndim == 1})


def _numbered(names: pl.Series) -> tuple[list[str], np.ndarray]:
    text = names.cast(pl.String)
    distinct = text.unique(maintain_order=True)
    rows = text.replace_strict(distinct, pl.Series(range(len(distinct)), dtype=pl.Int32), return_dtype=pl.Int32)
    return distinct.to_list(), rows.to_numpy()
