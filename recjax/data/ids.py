"""Numbers for the names that users and items have in a log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recjax._files import write_text
from recjax.types import PAD_ID

EXACT = 2**53
"""From here on, floats are not every whole number."""


def plain_floats(column: pl.Expr) -> pl.Expr:
    """Floats as ids are written: ``"42"`` for 42.0, null for NaN."""
    whole = (column == column.floor()) & (column.abs() < EXACT)
    text = pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(column.cast(pl.String))
    return pl.when(column.is_not_nan()).then(text)


def as_names(values: Iterable[Any]) -> pl.Series:
    """Ids as text, null where there is none: for None, NaN, NaT, pandas' NA and an empty text.

    A number stands for its decimal text, a float that is a whole number for that number.

    >>> as_names([42, "42", 42.0, 2**53 + 1, float("nan"), None]).to_list()
    ['42', '42', '42', '9007199254740993', None, None]

    Raises:
      ValueError: a value is neither text nor a number, or a float so large that it may have been another whole
        number; the message names its row, counted from 0.
    """
    if isinstance(values, str):
        raise ValueError(f"Ids are a list, got the text {values!r}; give [{values!r}].")
    if isinstance(values, pl.Series):
        series = values
    else:
        series = _series(np.asarray(values) if hasattr(values, "__array__") else list(values))
    if series.dtype == pl.Object:
        series = _series(series.to_list())
    if series.dtype.is_float():
        inexact = (series.fill_nan(None).abs() >= EXACT).fill_null(False)
        if inexact.any():
            row = int(inexact.arg_max() or 0)
            raise ValueError(inexact_id(row, series[row]))
        return pl.select(plain_floats(pl.lit(series))).to_series()
    names = series.cast(pl.String)
    return names.set(names == "", None) if (names == "").any() else names


def _series(values: np.ndarray | list[Any]) -> pl.Series:
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"Ids are one column, got shape {values.shape}.")
        if values.dtype.kind in "iu":
            return pl.Series(values)
        if values.dtype.kind == "f":
            return pl.Series(values if values.itemsize > 2 else values.astype(np.float32))
        if values.dtype.kind in "mM":
            raise ValueError(f"Ids are text or numbers, got an array of {values.dtype}.")
        values = values.tolist()
    types = set(map(type, values)) - {type(None)}
    if types <= {str}:
        return pl.Series(values=values, dtype=pl.String)
    if types == {float}:
        return pl.Series(values=values, dtype=pl.Float64)
    return pl.Series([_name(row, value) for row, value in enumerate(values)], dtype=pl.String)


def _name(row: int, value: Any) -> str | None:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.datetime64) and np.isnat(value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        if abs(float(value)) >= EXACT:
            raise ValueError(inexact_id(row, float(value)))
        return as_names(pl.Series([value]))[0]
    raise ValueError(f"Row {row} has the id {value!r}; ids are text or numbers, got a {type(value).__name__}.")


def inexact_id(row: int, value: float) -> str:
    """What to say of an id that is a float of :data:`EXACT` or more."""
    return (
        f"Row {row} has the id {value!r}, a float of 2**53 or more, which may have been another whole number;"
        " give such ids as integers or as text."
    )


@dataclass(frozen=True)
class IdMap:
    """A one-to-one map between the names in a log and the rows ``0 .. N-1``.

    Names are strings; a number stands for its decimal text, so ``42``, ``42.0`` and ``"42"``
    are the same name. None, NaN, NaT, pandas' NA and an empty text are missing values and
    name nobody. Tables that are looked up by these rows have :attr:`num_rows` rows:
    row ``N`` for names that the map has not seen, the last row for padding.

    >>> items = IdMap.fit(["b", "a", "b"])
    >>> items.encode(["a", "b", "never seen"]).tolist()
    [1, 0, 2]
    >>> items.decode([0, 1, -1])
    ['b', 'a', None]
    >>> len(items), items.oov, items.num_rows
    (2, 2, 4)

    Attributes:
      names: the name of each row.

    Raises:
      ValueError: a name occurs twice, or is no text or an empty one.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(self.names) or not set(map(type, self.names)) <= {str}:
            wrong = next((name for name in self.names if not isinstance(name, str) or not name), None)
            if wrong is not None:
                raise ValueError(f"The names of an id map are texts, got {wrong!r}; IdMap.fit takes numbers too.")
        if len(self._row_of) != len(self.names):
            seen: set[str] = set()
            twice = next(name for name in self.names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ValueError(
                f"The name {twice!r} occurs twice in an id map; use IdMap.fit, which numbers each name once."
            )

    @classmethod
    def fit(cls, values: Iterable[Any]) -> IdMap:
        """Numbers the names of ``values`` in the order of their first appearance.

        Raises:
          ValueError: a value is missing, or neither text nor a number.
        """
        names = as_names(values)
        if names.null_count():
            row = int(names.is_null().arg_max() or 0)
            raise ValueError(f"An id map cannot number missing values; row {row} has none. Drop such rows first.")
        return cls(tuple(names.unique(maintain_order=True).to_list()))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return as_names([name])[0] in self._row_of

    @property
    def oov(self) -> int:
        """The row that stands for every name that the map has not seen: ``N``."""
        return len(self.names)

    @property
    def num_rows(self) -> int:
        """Rows of a table that is looked up by encoded histories: ``N + 2``."""
        return len(self.names) + 2

    def encode(self, values: Iterable[Any]) -> np.ndarray:
        """The rows of names.

        Args:
          values: names (strings, or numbers that stand for their decimal text).

        Returns:
          ``i32[len(values)]``; :attr:`oov` for names the map has not seen and for missing values.

        Raises:
          ValueError: a value is neither text nor a number.
        """
        names = as_names(values)
        distinct = names.unique().drop_nulls()
        rows = pl.Series([self._row_of.get(name, self.oov) for name in distinct.to_list()], dtype=pl.Int32)
        if not len(distinct):
            return np.full(len(names), self.oov, np.int32)
        return names.replace_strict(distinct, rows, default=self.oov, return_dtype=pl.Int32).to_numpy()

    def decode(self, ids: Any) -> list[str | None]:
        """The names of rows; None for padding and for the out-of-vocabulary row.

        Raises:
          ValueError: an id is neither a row, nor ``oov``, nor ``PAD_ID``.
        """
        given = np.asarray(ids)
        if given.size and given.dtype.kind not in "iu":
            raise ValueError(f"Ids are whole numbers, got an array of {given.dtype}.")
        rows = given.reshape(-1).tolist()
        bad = [row for row in rows if not PAD_ID <= row <= self.oov]
        if bad:
            raise ValueError(
                f"{bad[0]} is no id of this map: ids run from 0 to {len(self) - 1}, {self.oov} is OOV, -1 pads."
            )
        return [self.names[row] if 0 <= row < self.oov else None for row in rows]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the names as JSON; a crash leaves the previous file."""
        write_text(path, json.dumps({"names": self.names}, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IdMap:
        """Reads what :meth:`save` wrote.

        Raises:
          ValueError: the file is not such a map.
        """
        try:
            names: Sequence[str] = json.loads(Path(path).read_text(encoding="utf-8"))["names"]
            return cls(tuple(names))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not an id map: expected JSON like {{'names': ['a', 'b']}} ({error})."
            ) from None
