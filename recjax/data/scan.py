"""Table files as lazy polars frames of text, and the way back from a record to its line in the file."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

ROW = "__row__"
"""Name of the column that numbers the records of a file from 0."""

FORMATS = {
    ".csv": ("csv", ","),
    ".tsv": ("csv", "\t"),
    ".txt": ("csv", None),
    ".dat": ("csv", None),
    ".data": ("csv", None),
    ".jsonl": ("jsonl", None),
    ".ndjson": ("jsonl", None),
    ".parquet": ("parquet", None),
}
"""Kind and separator of files, by the end of their names."""
_UNIT_SEPARATOR = "\x1f"  # stands in no text file, so a line scanned with it stays whole


@dataclass(frozen=True)
class Table:
    """Where a table lies and how it is written.

    Attributes:
      path: a file; CSV and JSON lines may be compressed (``.gz``).
      separator: between the fields of a line, one character or several (``"::"``). Default:
        a comma for ``.csv``, a tab for ``.tsv``; other text files must say it.
      header: whether the first line names the columns; if not, they are named ``"0"``,
        ``"1"``, ... by position.
      quote: the character around fields that contain the separator, or None. Separators
        of several characters know no quotes.

    Raises:
      ValueError: no such format, or no separator for a text file that needs one.
      FileNotFoundError: no such file.
    """

    path: Path
    separator: str | None = None
    header: bool = True
    quote: str | None = '"'

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {str(self.path)!r}.")
        if self._suffix not in FORMATS:
            raise ValueError(f"Cannot tell the format of {str(self.path)!r}; name it with one of {', '.join(FORMATS)}.")
        if self.kind == "csv" and not self.delimiter:
            raise ValueError(f"{str(self.path)!r} needs a separator, e.g. separator='\\t' or separator='::'.")

    @property
    def _suffix(self) -> str:
        return (Path(self.path.stem) if self.path.suffix == ".gz" else self.path).suffix.lower()

    @property
    def kind(self) -> str:
        """``"csv"``, ``"jsonl"`` or ``"parquet"``."""
        return FORMATS[self._suffix][0]

    @property
    def delimiter(self) -> str:
        """The separator that is in force; empty if none is known."""
        return self.separator or FORMATS[self._suffix][1] or ""

    def scan(self) -> pl.LazyFrame:
        """A lazy frame of the file's columns, text for text files, and of :data:`ROW`."""
        if self.kind == "parquet":
            return pl.scan_parquet(self.path, row_index_name=ROW)
        if self.kind == "jsonl":
            return self._scan_jsonl()
        frame = self._scan_csv() if len(self.delimiter) == 1 else self._scan_lines()
        return frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))

    def _scan_csv(self) -> pl.LazyFrame:
        frame = pl.scan_csv(
            self.path,
            has_header=self.header,
            separator=self.delimiter,
            quote_char=self.quote,
            infer_schema=False,
            row_index_name=ROW,
        )
        if self.header:
            return frame
        names = [name for name in frame.collect_schema().names() if name != ROW]
        return frame.rename({name: str(position) for position, name in enumerate(names)})

    def _scan_lines(self) -> pl.LazyFrame:
        """Whole lines, split by a separator of several characters, which CSV parsers do not know."""
        with self.open() as lines:
            first = next(lines, "").rstrip("\r\n").split(self.delimiter)

        def no_more_fields(lines: pl.Series) -> pl.Series:
            if (lines.str.count_matches(self.delimiter, literal=True) >= len(first)).any():
                raise pl.exceptions.ComputeError("found more fields")
            return lines

        names = first if self.header else [str(position) for position in range(len(first))]
        lines_only = pl.scan_csv(
            self.path,
            has_header=False,
            skip_lines=int(self.header),
            separator=_UNIT_SEPARATOR,
            quote_char=None,
            infer_schema=False,
            row_index_name=ROW,
            new_columns=["line"],
        )
        whole = pl.col("line").map_batches(no_more_fields, return_dtype=pl.String, is_elementwise=True)
        parts = whole.str.splitn(self.delimiter, len(names))
        fields = [parts.struct.field(f"field_{i}").alias(name) for i, name in enumerate(names)]
        return lines_only.select(ROW, *fields).with_columns(pl.exclude(ROW).replace("", None))

    def _scan_jsonl(self) -> pl.LazyFrame:
        source: Path | bytes = self.path
        with self.open_bytes() as content:
            # The parser does not know the mark, so what follows it is handed over as a whole.
            if content.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
                source = content.read()
        names = pl.scan_ndjson(source, infer_schema_length=1000).collect_schema().names()
        return pl.scan_ndjson(source, schema=dict.fromkeys(names, pl.String), row_index_name=ROW)

    @contextmanager
    def open_bytes(self) -> Iterator[IO[bytes]]:
        """The bytes of the file, decompressed; what they begin with says whether they are."""
        with self.path.open("rb") as raw:
            is_compressed = raw.read(2) == b"\x1f\x8b"
        with self.path.open("rb") as raw:
            yield gzip.GzipFile(fileobj=raw) if is_compressed else raw  # type: ignore[misc]

    @contextmanager
    def open(self) -> Iterator[IO[str]]:
        """The text of the file, decompressed, without a mark of byte order."""
        with self.open_bytes() as content:
            yield io.TextIOWrapper(content, encoding="utf-8-sig", errors="replace", newline="\n")

    def line_numbers(self, records: Iterable[int]) -> dict[int, int]:
        """The 1-based line on which each record starts; for Parquet, its 1-based row.

        Counts lines as the parsers count records: JSON lines skips blank ones, and a CSV
        record goes on while a quote is open.
        """
        wanted = set(records)
        if self.kind == "parquet" or not wanted:
            return {record: record + 1 for record in wanted}
        last, found, inside_quotes = max(wanted), {}, False
        is_json = self.kind == "jsonl"
        quote = self.quote if self.kind == "csv" and len(self.delimiter) == 1 else None
        record = -1 if self.header and not is_json else 0
        with self.open() as lines:
            for number, line in enumerate(lines, start=1):
                if is_json and not line.strip():
                    continue
                if not inside_quotes:
                    if record in wanted:
                        found[record] = number
                    if record == last:
                        break
                    record += 1
                if quote and line.count(quote) % 2:
                    inside_quotes = not inside_quotes
        return found
