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

from recjax.types import PAD_ID


def _text(values: Any) -> pl.Series:
    series = values if isinstance(values, pl.Series) else pl.Series(values=list(values), strict=False)
    return series.cast(pl.String)


@dataclass(frozen=True)
class IdMap:
    """A one-to-one map between the names in a log and the rows ``0 .. N-1``.

    Names are strings; a number stands for its decimal text, so ``42`` and ``"42"`` are
    the same name. Tables that are looked up by these rows have :attr:`num_rows` rows:
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
      ValueError: a name occurs twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
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
          ValueError: a value is missing (None).
        """
        names = _text(values).unique(maintain_order=True)
        if names.null_count():
            raise ValueError("An id map cannot number missing values (None); drop those rows first.")
        return cls(tuple(names.to_list()))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return str(name) in self._row_of

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
          ``i32[len(values)]``; :attr:`oov` for names the map has not seen and for None.
        """
        names = _text(values)
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
        rows = np.asarray(ids).reshape(-1).tolist()
        bad = [row for row in rows if not PAD_ID <= row <= self.oov]
        if bad:
            raise ValueError(
                f"{bad[0]} is no id of this map: ids run from 0 to {len(self) - 1}, {self.oov} is OOV, -1 pads."
            )
        return [self.names[row] if 0 <= row < self.oov else None for row in rows]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the names as JSON; a crash leaves the previous file."""
        target = Path(path)
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"names": self.names}, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IdMap:
        """Reads what :meth:`save` wrote.

        Raises:
          ValueError: the file is not such a map.
        """
        try:
            names: Sequence[str] = json.loads(Path(path).read_text(encoding="utf-8"))["names"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ValueError(f"{path} is not an id map: expected JSON like {{'names': ['a', 'b']}}.") from None
        return cls(tuple(names))
