"""What is wrong with a file that is no table as it was said to be: where it is wrong, and what to do."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import polars as pl

from recjax.data import times
from recjax.data.scan import Table

LONGEST_FIELD = 1_000
"""Lines that one quoted field may go over."""

_LONGEST_HEADER = 1 << 20
_SHOWN = 120
_DAMAGED = (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, csv.Error)
_NO_QUOTES = "If quotes are characters like any other in this file, say quote=None; else double or remove it."


@contextmanager
def explained(table: Table) -> Iterator[None]:
    """Errors of reading a table as one ``ValueError`` that names the file, the line where it is known, and a remedy."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except _DAMAGED as error:
        raise _explain(table, error) from error
    except ValueError as error:
        if str(table.path) in str(error):
            raise
        raise ValueError(f"{table.path}: {error}") from error


def check_header(table: Table) -> None:
    """Refuses a first line that is said to name the columns but looks like the data below it.

    Raises:
      ValueError: each of its fields is a number or a time where the field below it is one, at least one of them is,
        and they are not just 0, 1, 2, ..., with which nameless columns are written.
    """
    if table.kind != "csv" or not table.header:
        return
    with table.open() as lines:
        first = lines.readline(_LONGEST_HEADER)
        second = lines.readline(_LONGEST_HEADER)
    if len(first) == _LONGEST_HEADER:
        raise ValueError(f"{table.path}: the first line has over {_LONGEST_HEADER:,} characters; it is no table.")
    names, values = (_fields(table, line) for line in (first, second))
    if len(names) != len(values) or names == [str(i) for i in range(len(names))]:
        return
    kinds = [_kind(name) for name in names]
    if set(kinds) != {"text"} and kinds == [_kind(value) for value in values]:
        raise ValueError(
            f"{table.path}: the first line looks like data and not like names of columns: {_short(first)}."
            " If the file has no header, say header=False and give columns by their positions, else name them."
        )


def check_records(table: Table, records: int) -> None:
    """Refuses a file in which quotes make fields of what are rows.

    Args:
      table: the file.
      records: that the parser found, up to the last that is not blank.

    Raises:
      ValueError: a quote inside a field opens one that goes on in the next line; or a quoted field goes over more
        than :data:`LONGEST_FIELD` lines, or over three and more that look like rows.
    """
    if table.kind != "csv" or len(table.delimiter) > 1 or not table.quote:
        return
    with table.open_bytes() as content:
        quoted = any(table.quote.encode() in chunk for chunk in iter(partial(content.read, 1 << 20), b""))
    if quoted and _lines(table) > records + table.header:
        _check_quotes(table)


def _lines(table: Table) -> int:
    """The lines of a file up to the last that is not blank."""
    lines, blank = 0, 0
    with table.open_bytes() as content:
        for chunk in iter(partial(content.read, 1 << 20), b""):
            lines += chunk.count(b"\n")
            rest = chunk.rstrip(b"\r\n")
            blank = chunk[len(rest) :].count(b"\n") + (0 if rest else blank)
    return lines - blank + 1


def _check_quotes(table: Table) -> None:
    assert table.quote is not None
    q, separator = re.escape(table.quote), re.escape(table.delimiter)
    whole = rf"(?:{q}(?:[^{q}]|{q}{q})*{q}|[^{q}{separator}]*){separator}"
    opens_field = re.compile(rf"(?:{whole})*{q}(?:[^{q}]|{q}{q})*", re.DOTALL)
    opened, rows, width = 0, 0, -1
    with table.open() as lines:
        for number, line in enumerate(lines, start=1):
            width = line.count(table.delimiter) if number == 1 else width
            is_odd = line.count(table.quote) % 2 == 1
            if opened:
                rows += line.count(table.delimiter) == width
                length = number - opened
                if length >= LONGEST_FIELD or (is_odd and rows >= 3 and rows > length / 2):
                    raise ValueError(
                        f"{table.path}, line {opened}: a quote opens a field that goes on to line {number}"
                        f"{'' if is_odd else ' and further'} and swallows what look like rows. {_NO_QUOTES}"
                    )
                opened = 0 if is_odd else opened
            elif is_odd:
                if not opens_field.fullmatch(line):
                    raise ValueError(
                        f"{table.path}, line {number}: a quote inside a field: {_short(line)}. {_NO_QUOTES}"
                    )
                opened, rows = number, 0
    if opened:
        raise ValueError(f"{table.path}, line {opened}: a quote opens a field that is never closed. {_NO_QUOTES}")


def _explain(table: Table, error: Exception) -> ValueError:
    where = str(table.path)
    try:
        if table.kind == "csv" and len(table.delimiter) == 1 and table.quote:
            _check_quotes(table)
        found = _wide_row(table) or _bad_bytes(table) or _text_after_quote(table) or _bad_json(table)
    except ValueError as reason:
        return reason
    except _DAMAGED as damage:
        return ValueError(f"{where} is damaged: {damage}. Fetch it or compress it again.")
    message = str(error).split("\n\n")[0]
    return ValueError(found or f"{where} cannot be read as {table.kind}: {message[: 3 * _SHOWN]}")


def _wide_row(table: Table) -> str | None:
    if table.kind != "csv":
        return None
    with table.open() as lines:
        if len(table.delimiter) == 1:
            reader = csv.reader(lines, delimiter=table.delimiter, quotechar=table.quote or None)
            rows = ((reader.line_num, row) for row in reader)
        else:
            rows = ((number, line.rstrip("\r\n").split(table.delimiter)) for number, line in enumerate(lines, start=1))
        _, first = next(rows, (0, []))
        for number, row in rows:
            if len(row) > len(first):
                return (
                    f"{table.path}, line {number} has {len(row)} fields where the first line has {len(first)}:"
                    f" {_short(str(row))}. Put quotes around fields that contain {table.delimiter!r}, or say which"
                    " separator is used."
                )
    return None


def _bad_bytes(table: Table) -> str | None:
    if table.kind == "parquet":
        return None
    with table.open_bytes() as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return (
                    f"{table.path}, line {number} is not UTF-8 (byte 0x{byte:02x}); convert the file first, e.g."
                    " iconv -f latin1 -t utf8 FILE."
                )
    return None


def _text_after_quote(table: Table) -> str | None:
    if table.kind != "csv" or not table.quote or len(table.delimiter) > 1:
        return None
    q, separator = re.escape(table.quote), re.escape(table.delimiter)
    after = re.compile(rf"(?:^|{separator}){q}(?:[^{q}]|{q}{q})*{q}[^{q}{separator}\r\n]")
    with table.open() as lines:
        for number, line in enumerate(lines, start=1):
            if after.search(line):
                return f"{table.path}, line {number}: text follows a quoted field: {_short(line)}. {_NO_QUOTES}"
    return None


def _bad_json(table: Table) -> str | None:
    if table.kind != "jsonl":
        return None
    with table.open() as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip() and not isinstance(json.loads(line, parse_int=_int64), dict):
                    return f"{table.path}, line {number} is no JSON object: {_short(line)}."
            except (ValueError, RecursionError) as error:
                return f"{table.path}, line {number} cannot be read as JSON ({error}): {_short(line)}."
    return None


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError("a whole number of more than 64 bits; write it as text, in quotes")
    return int(digits)


def _fields(table: Table, line: str) -> list[str]:
    if len(table.delimiter) > 1:
        return line.rstrip("\r\n").split(table.delimiter)
    try:
        return next(csv.reader([line], delimiter=table.delimiter, quotechar=table.quote or None), [])
    except csv.Error:
        return []


def _kind(field: str) -> str:
    if times.is_number(field):
        return "number"
    return "time" if field[:1].isdigit() and pl.select(times.parse(pl.lit(field), "iso")).item() is not None else "text"


def _short(text: str) -> str:
    text = text.rstrip("\r\n")
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
