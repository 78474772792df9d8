"""A log and what is known of its items, from files and a schema alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from recjax.data.columns import Columns
from recjax.data.faults import check_header, explained
from recjax.data.feature_files import FileReport, ItemColumns, with_item_file, with_items_of_log
from recjax.data.log_schema import LogSchema, behaviours_of
from recjax.data.readers import read
from recjax.data.scan import FORMATS, ROW, Table
from recjax.data.schema import Dataset
from recjax.data.usual_names import OF_LOGS, guess_items, guess_log
from recjax.data.validate import Report


class LogFile(NamedTuple):
    """A log that was read from a file.

    Attributes:
      dataset: the log with what is known of its items.
      schema: how it was read, with what was guessed.
      guessed: the columns that were guessed, by what they hold.
      report: on the rows of the log.
      about_items: on the rows of the file of items, None without one.
      unread: columns of the log that nothing was read from.
    """

    dataset: Dataset
    schema: LogSchema
    guessed: dict[str, str]
    report: Report
    about_items: FileReport | None
    unread: tuple[str, ...] = ()


def is_log_file(name: str) -> bool:
    """Whether a name is that of a file: it ends as tables do, has a folder, or there is such a file.

    >>> is_log_file("clicks.csv.gz"), is_log_file("data/clicks"), is_log_file("ml-100k")
    (True, True, False)
    """
    path = Path(name)
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    return suffix.lower() in FORMATS or path.name != name or path.is_file()


def read_log(
    path: str | os.PathLike[str],
    schema: LogSchema = LogSchema(),  # noqa: B008 (frozen)
    items: str | os.PathLike[str] | None = None,
) -> LogFile:
    """Reads a log from a file, and what is known of its items from another file or from the same one.

    Args:
      path: a file as for :func:`recjax.data.read`.
      schema: which columns hold what; those that are None are guessed from :data:`recjax.data.USUAL_NAMES`.
      items: a file with a row for each item, or None.

    Raises:
      ValueError: a file is missing or cannot be read, a column is missing or cannot be guessed, a word is given no
        behaviour that there is, or rows cannot be used (:class:`recjax.data.BadRowsError`).
    """
    table = _table(path, schema)
    names = _names(table)
    schema, guessed = guess_log(schema, names, str(path))
    about_path = table if items is None else _table(items, schema)
    schema, more = guess_items(schema, _names(about_path), str(about_path.path), in_log=items is None)
    dataset, report = _read(path, schema)
    about = ItemColumns(
        (schema.item if items is None else schema.items_key) or "",
        schema.title, schema.categories, schema.category_separator, schema.numeric,
    )  # fmt: skip
    file_report = None
    if items is not None:
        dataset, file_report = with_item_file(
            dataset, items, about, separator=schema.separator, header=schema.header, quote=_quote(schema)
        )
    elif about.title or about.categories or about.numeric:
        dataset = with_items_of_log(dataset, table, about)
    held = [getattr(schema, what) for what in OF_LOGS]
    held += [] if items is not None else [schema.title, schema.categories, *schema.numeric]
    unread = tuple(name for name in names if name not in held)
    return LogFile(dataset, schema, guessed | more, report, file_report, unread)


def _read(path: str | os.PathLike[str], schema: LogSchema) -> tuple[Dataset, Report]:
    extras = () if schema.propensity is None else (schema.propensity,)
    columns = Columns(schema.user or "", schema.item or "", schema.time, schema.rating, schema.behaviour, extras)
    whole: dict[tuple[str, ...], str] = {("drop",): "drop", ("raise",): "raise"}
    dataset, report = read(
        path,
        columns,
        separator=schema.separator,
        header=schema.header,
        quote=_quote(schema),
        time_format=schema.time_format,
        behaviours=behaviours_of(schema.behaviours, has_column=schema.behaviour is not None),
        on_bad=whole.get(schema.on_bad, tuple(set(schema.on_bad) - set(schema.allow))),
        allow=schema.allow,
    )
    if schema.propensity is not None:
        dataset = dataclasses.replace(dataset, extras={"propensity": dataset.extras[schema.propensity]})
    return dataset, report


def _table(path: str | os.PathLike[str], schema: LogSchema) -> Table:
    try:
        return Table(Path(path), schema.separator, schema.header, _quote(schema))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None


def _quote(schema: LogSchema) -> str | None:
    return '"' if schema.quotes else None


def _names(table: Table) -> list[str]:
    with explained(table):
        check_header(table)
        return [name for name in table.scan().collect_schema().names() if name != ROW]
