"""Features of items and users from files beside the log."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data.encoders import MultiHot
from recjax.data.faults import check_records, explained
from recjax.data.features import user_context
from recjax.data.ids import IdMap, as_names
from recjax.data.scan import ROW, Table
from recjax.data.schema import Dataset

LISTED = 5
"""How many ids a report names."""


@dataclass(frozen=True)
class ItemColumns:
    """Which column of an item file holds what, by name (by position as text, ``"0"``, without a header).

    Attributes:
      item: ids, as in the log.
      title: titles, or None.
      categories: lists of categories such as genres, or None.
      category_separator: between the categories of one item.
      numeric: columns of numbers; what is no finite number counts as missing.
    """

    item: str = "item"
    title: str | None = None
    categories: str | None = None
    category_separator: str = "|"
    numeric: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileReport:
    """What a file of features told of the users or items of a log.

    Attributes:
      source: the file.
      rows: rows of the file.
      used: rows that belong to an id of the log.
      ids: how many ids the log has.
      without_row: the first ids of the log that have no row.
      unused: the first keys of the file that are no id of the log.
      not_numbers: for each column of numbers that has any, used rows in which it holds something else than a
        finite number or nothing; they count as missing.
    """

    source: str
    rows: int
    used: int
    ids: int
    without_row: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    not_numbers: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows:,} rows, {self.used:,} of them for the {self.ids:,} ids of the log"]
        for what, count, names in (
            ("ids without a row", self.ids - self.used, self.without_row),
            ("rows of other ids", self.rows - self.used, self.unused),
        ):
            if count:
                shown = ", ".join(map(repr, names)) + (", ..." if count > len(names) else "")
                lines.append(f"  {what}: {count:,} ({shown})")
        lines += [f"  {name}: {n:,} values are no finite numbers and missing" for name, n in self.not_numbers.items()]
        return "\n".join(lines)


def with_item_file(
    dataset: Dataset,
    path: str | os.PathLike[str],
    columns: ItemColumns = ItemColumns(),
    *,
    separator: str | None = None,
    header: bool = True,
    quote: str | None = '"',
) -> tuple[Dataset, FileReport]:
    """The data set with item features from a file.

    Blanks around ids are taken off, and ``"10.0"`` is the item ``"10"`` (or the other way
    round) where the log has only one of them. Rows for items that are not in the log are
    left out; items without a row have an empty title, no category and missing numbers.
    The report counts both.

    Args:
      dataset: the log.
      path: a file as for :func:`recjax.data.read`.
      columns: which column holds what.
      separator: between fields.
      header: whether the first line names the columns.
      quote: the quoting character, None for none.

    Returns:
      The data set and what the file told of its items.

    Raises:
      ValueError: the file lists an item twice, has none of the log, lacks a column or cannot be parsed.
    """
    table, report = _rows(Table(Path(path), separator, header, quote), columns.item, dataset.items, "item")
    return _described(dataset, table, columns, report)


def with_items_of_log(dataset: Dataset, table: Table, columns: ItemColumns) -> Dataset:
    """The data set with item features that the log itself holds, of which the first row of each item counts.

    Args:
      dataset: the log.
      table: the file that it was read from.
      columns: which column holds what.

    Raises:
      ValueError: the file lacks a column or cannot be parsed.
    """
    source = str(table.path)
    wanted = (columns.item, columns.title, columns.categories, *columns.numeric)
    with explained(table):
        names = [name for name in dict.fromkeys(wanted) if name is not None]
        first = table.scan().select(names).unique(columns.item, keep="first", maintain_order=True).collect()
        keys = as_names(_column(first, columns.item, source)).str.strip_chars()
    first = first.with_columns(keys.alias(columns.item)).unique(columns.item, keep="first", maintain_order=True)
    rows, report = _in_order(first, keys.unique(maintain_order=True), columns.item, dataset.items, source, "item")
    return _described(dataset, rows, columns, report)[0]


def _described(
    dataset: Dataset, table: pl.DataFrame, columns: ItemColumns, report: FileReport
) -> tuple[Dataset, FileReport]:
    """The data set with the features in a table, which has a row for each item."""
    changes: dict[str, object] = {}
    if columns.title is not None:
        changes["titles"] = tuple(_text(table, columns.title, report.source).fill_null("").to_list())
    if columns.categories is not None:
        lists = _text(table, columns.categories, report.source).fill_null("").to_list()
        split = [[c.strip() for c in cell.split(columns.category_separator) if c.strip()] for cell in lists]
        encoder = MultiHot.fit(split)
        changes |= {"genres": encoder.categories, "multi_hot": encoder.encode(split)}
    if columns.numeric:
        numbers, report = _numbers(table, columns.numeric, report)
        changes |= {"numeric_names": columns.numeric, "numeric": numbers}
    return dataclasses.replace(dataset, **changes), report  # type: ignore[arg-type]


def with_user_file(
    dataset: Dataset,
    path: str | os.PathLike[str],
    user: str = "user",
    *,
    categorical: tuple[str, ...] = (),
    numeric: tuple[str, ...] = (),
    separator: str | None = None,
    header: bool = True,
    quote: str | None = '"',
) -> tuple[Dataset, FileReport]:
    """The data set with user features from a file: numbers standardised, categories one-hot.

    Ids are matched as in :func:`with_item_file`; users without a row have missing numbers
    and no category.

    Args:
      dataset: the log.
      path: a file as for :func:`recjax.data.read`.
      user: the column of ids, as in the log.
      categorical: columns of categories.
      numeric: columns of numbers; what is no finite number counts as missing, that is the mean.
      separator: between fields.
      header: whether the first line names the columns.
      quote: the quoting character, None for none.

    Returns:
      The data set and what the file told of its users.

    Raises:
      ValueError: the file lists a user twice, has none of the log, lacks a column or cannot be parsed.
    """
    table, report = _rows(Table(Path(path), separator, header, quote), user, dataset.users, "user")
    numbers, report = _numbers(table, numeric, report)
    categories = {name: _text(table, name, report.source).to_list() for name in categorical}
    names, context = user_context(categories, numeric, numbers)
    return dataclasses.replace(dataset, context_names=names, context=context), report


def _rows(table: Table, key: str, ids: IdMap, kind: str) -> tuple[pl.DataFrame, FileReport]:
    """The rows of a file in the order of an id map, null where an id has no row."""
    with explained(table):
        frame = table.scan().collect()
        check_records(table, int(frame[ROW][-1]) + 1 if frame.height else 0)
        keys = as_names(_column(frame, key, str(table.path))).str.strip_chars()
    return _in_order(frame.drop(ROW), keys, key, ids, str(table.path), kind)


def _in_order(
    frame: pl.DataFrame, keys: pl.Series, key: str, ids: IdMap, source: str, kind: str
) -> tuple[pl.DataFrame, FileReport]:
    """Rows with ``keys`` in the order of an id map, null where an id has no row."""
    names = pl.Series(ids.names, dtype=pl.String)
    found = _matched(keys, names)
    named = frame.with_columns(found.alias(key)).filter(found.is_not_null())
    report = FileReport(
        source=source,
        rows=frame.height,
        used=named.height,
        ids=len(ids),
        without_row=tuple(names.filter(~names.is_in(named[key].to_list())).head(LISTED)),
        unused=tuple(keys.filter(found.is_null()).fill_null("").head(LISTED)),
    )
    if len(ids) and not named.height:
        raise ValueError(
            f"{source}: no row belongs to any {kind} of the log. Column {key!r} has {list(report.unused)}, ...; the"
            f" log has {list(report.without_row)}, ... Say which column holds the ids of the log."
        )
    twice = named.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise ValueError(f"{source} lists {twice[key][0]!r} more than once; keep one row for each.")
    return names.alias(key).to_frame().join(named, on=key, how="left", maintain_order="left"), report


def _matched(keys: pl.Series, names: pl.Series) -> pl.Series:
    """The name that each key stands for, null for none: the same text, else the same whole number."""

    def whole(text: pl.Series) -> pl.Series:
        return text.str.replace(r"^([+-]?\d+)\.0+$", "$1")

    numbers = pl.DataFrame({"number": whole(names), "name": names}).filter(pl.col("number").is_unique())
    alike = whole(keys).replace_strict(numbers["number"], numbers["name"], default=None, return_dtype=pl.String)
    return keys.zip_with(keys.is_in(names.to_list()).fill_null(False), alike)


def _column(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    if name not in frame.columns:
        columns = [column for column in frame.columns if column != ROW]
        raise ValueError(f"{source}: there is no column {name!r}; the columns are {columns}.")
    return frame[name]


def _text(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    return _column(frame, name, source).cast(pl.String)


def _numbers(frame: pl.DataFrame, names: tuple[str, ...], report: FileReport) -> tuple[np.ndarray, FileReport]:
    """``f32[N, F]`` numbers, NaN where there is no finite one, and the report with how many are no numbers."""
    numbers, not_numbers = np.zeros((frame.height, len(names)), np.float32), {}
    for i, name in enumerate(names):
        text = _text(frame, name, report.source).str.strip_chars()
        number = text.cast(pl.Float32, strict=False)
        known = number.is_finite().fill_null(False)
        numbers[:, i] = number.zip_with(known, pl.Series([float("nan")], dtype=pl.Float32)).to_numpy()
        given = (text.fill_null("") != "") & ~known
        if given.any():
            not_numbers[name] = int(given.sum())
    return numbers, dataclasses.replace(report, not_numbers=not_numbers)
