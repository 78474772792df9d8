"""Logs from CSV, TSV, Parquet and JSON lines, read in batches so that memory stays bounded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data.columns import BEHAVIOURS, UNKNOWN, Columns, as_text, extra, is_doubtful, parse, resolve_time_format
from recjax.data.faults import check_header, check_records, explained
from recjax.data.frames import Frame, as_lazy
from recjax.data.ids import IdMap
from recjax.data.scan import ROW, Table
from recjax.data.schema import Dataset, Interactions
from recjax.data.validate import KINDS, MENDINGS, BadRowsError, Report, kinds_to_drop, repeats
from recjax.types import Behaviour

BATCH_ROWS = 500_000
"""Rows that are in memory as text at a time."""

LISTED = 5
"""How many lines a report names for each kind of problem."""

LISTED_WORDS = 10
"""How many words without a meaning a report names."""


@dataclass
class _Ids:
    """Numbers names in the order of their first appearance, batch by batch; blanks around them are taken off."""

    rows: dict[str, int] = field(default_factory=dict)

    def encode(self, names: pl.Series, distinct: pl.Series | None = None) -> np.ndarray:
        """The numbers of names; ``distinct``, if given, are the different ones of them in their order."""
        distinct = names.unique(maintain_order=True) if distinct is None else distinct
        rows = [self.rows.setdefault(name, len(self.rows)) for name in distinct.str.strip_chars().to_list()]
        if not rows:
            return np.empty(0, np.int32)
        return names.replace_strict(distinct, pl.Series(rows, dtype=pl.Int32), return_dtype=pl.Int32).to_numpy()

    def freeze(self) -> IdMap:
        return IdMap(tuple(self.rows))


def read(
    path: str | os.PathLike[str],
    columns: Columns = Columns(),  # noqa: B008 (frozen)
    *,
    name: str | None = None,
    separator: str | None = None,
    header: bool = True,
    quote: str | None = '"',
    time_format: str = "auto",
    behaviours: Mapping[str, Behaviour] | Behaviour = BEHAVIOURS,
    on_bad: str | Collection[str] = "raise",
    allow: Collection[str] = (),
) -> tuple[Dataset, Report]:
    """Reads a log from a file.

    The rows keep the order of the file, which also decides between events of equal time.
    (Only if the file states times finer than a second are the rows sorted by those, so
    that the order within a second is not lost when :class:`Interactions` keeps seconds.)
    Users and items are numbered in the order of their first appearance.

    The file is parsed in batches of :data:`BATCH_ROWS` rows. Memory holds the text of a
    few batches, the distinct names, and the numeric columns of the log: 25 bytes a row,
    and about three times that for a moment, while the columns are joined and duplicates
    are looked for. Ten million rows of five columns take about 1 GB at the peak.

    Args:
      path: ``.csv``, ``.tsv``, ``.txt``, ``.dat``, ``.data``, ``.jsonl`` or ``.ndjson``,
        each also with ``.gz``; or ``.parquet``. UTF-8.
      columns: which column holds what.
      name: of the data set; default: the name of the file.
      separator: between fields, one character or several such as ``"::"``. Default: a comma for
        ``.csv``, a tab for ``.tsv``; other text files must say it.
      header: whether the first line names the columns; if not, use positions.
      quote: the quoting character, None for none.
      time_format: ``"auto"`` (one for the whole file, from the first time in it, see
        :func:`recjax.data.times.detect`; times in another unit are rows that cannot be used), ``"s"``, ``"ms"``,
        ``"us"``, ``"ns"``, ``"iso"`` or a pattern such as ``"%m/%d/%Y"``.
      behaviours: what the words of the behaviour column mean; or the behaviour of every event, for files without
        such a column. There the default is RATING where there is a rating column, else CLICK.
      on_bad: what to do with rows that cannot be used: ``"raise"``, ``"drop"``, or a set
        of the kinds to drop (:data:`recjax.data.KINDS`), any other kind raising.
      allow: kinds to keep as they are, of ``"doubtful_user"``, ``"doubtful_item"``, ``"negative_rating"`` and
        ``"duplicate"``.

    Returns:
      The data set and the report of what was found.

    Raises:
      BadRowsError: (a ValueError) there are rows that cannot be used and that ``on_bad``
        does not drop; its ``report`` has counts and line numbers of all kinds.
      ValueError: the file cannot be parsed, is damaged, or lacks a column; its first line looks like data; quotes
        make fields of what are rows; ids are floats that may have been other numbers. The message names the file,
        and the line where there is one.
      FileNotFoundError: there is no such file.
    """
    table = Table(Path(path), separator, header, quote)
    reading = _Reading(columns, time_format, behaviours, on_bad, allow)
    with explained(table):
        frame = table.scan()
        if not set(columns.keys().values()) & set(frame.collect_schema().names()):
            check_header(table)
        return reading.run(frame, name or Path(path).name.split(".")[0], str(path), table)


def from_frame(
    frame: Frame,
    columns: Columns = Columns(),  # noqa: B008 (frozen)
    *,
    name: str = "frame",
    time_format: str = "auto",
    behaviours: Mapping[str, Behaviour] | Behaviour = BEHAVIOURS,
    on_bad: str | Collection[str] = "raise",
    allow: Collection[str] = (),
) -> tuple[Dataset, Report]:
    """Reads a log from a table in memory; like :func:`read`, with rows numbered from 1.

    Args:
      frame: a polars, pandas or pyarrow table, a mapping from names to columns, a NumPy structured array, or
        whatever else speaks Arrow (``__arrow_c_stream__``).
      columns: which column holds what.
      name: of the data set.
      time_format: as in :func:`read`; columns of times need none.
      behaviours: as in :func:`read`.
      on_bad: as in :func:`read`.
      allow: as in :func:`read`.

    Raises:
      BadRowsError: as in :func:`read`.
      ValueError: as in :func:`read`; also for what is no table, and for columns that differ in length.

    >>> dataset, report = from_frame({"user": ["ann", "bob", "ann"], "item": [10, 10, 20]})
    >>> dataset.interactions.user.tolist(), dataset.items.names
    ([0, 1, 0], ('10', '20'))
    """
    reading = _Reading(columns, time_format, behaviours, on_bad, allow)
    return reading.run(as_lazy(frame).with_row_index(ROW), name, name)


class _Tally:
    """Counts of the rows that cannot be used or were mended, and where the first of each kind stand."""

    def __init__(self) -> None:
        self.total, self.last_row = 0, -1
        self.counts = dict.fromkeys((*KINDS, *MENDINGS), 0)
        self.rows: dict[str, list[int]] = {kind: [] for kind in self.counts}
        self.words: Counter[str] = Counter()

    def add(self, kind: str, rows: np.ndarray) -> None:
        self.counts[kind] += len(rows)
        self.rows[kind] = sorted([*self.rows[kind], *rows[:LISTED].tolist()])[:LISTED]

    def usable(self, batch: pl.DataFrame, distinct: Mapping[str, pl.Series], allowed: frozenset[str]) -> pl.Series:
        """Counts what is in a batch with these users and items; whether each of its rows can be used."""
        rows, usable, blanks = batch[ROW].to_numpy(), np.ones(batch.height, bool), np.zeros(batch.height, bool)
        self.total += batch.height
        self.last_row = max(self.last_row, int(rows[-1]) if len(rows) else -1)
        found = {kind: batch[kind].to_numpy() for kind in KINDS if kind in batch.columns}
        for kind, ids in distinct.items():
            stripped = ids.str.strip_chars()
            if len(doubtful := ids.filter(is_doubtful(stripped))):
                found[f"doubtful_{kind}"] = batch[kind].is_in(doubtful.to_list()).fill_null(False).to_numpy()
            if len(padded := ids.filter((stripped != ids) & (stripped != ""))):
                blanks |= batch[kind].is_in(padded.to_list()).fill_null(False).to_numpy()
        for kind, bad in found.items():
            self.add(kind, rows[bad])
            usable &= ~bad | (kind in allowed)
        self.add("blanks", rows[blanks])
        if UNKNOWN in batch.columns:
            words = batch[UNKNOWN].drop_nulls().value_counts(sort=True).head(10 * LISTED_WORDS)
            self.words.update(dict(words.iter_rows()))
        return pl.Series(usable)

    def of(self, kinds: Collection[str]) -> dict[str, int]:
        """The counts of the kinds that occurred."""
        return {kind: self.counts[kind] for kind in kinds if self.counts[kind]}


@dataclass(frozen=True)
class _Reading:
    """The options of one call of :func:`read`, and what it does with a lazy frame."""

    columns: Columns
    time_format: str
    behaviours: Mapping[str, Behaviour] | Behaviour
    on_bad: str | Collection[str]
    allow: Collection[str]

    def __post_init__(self) -> None:
        kinds_to_drop(self.on_bad, self.allow)
        words = self.behaviours if isinstance(self.behaviours, Mapping) else {"behaviours=": self.behaviours}
        if self.columns.behaviour is not None and words is not self.behaviours:
            raise ValueError(
                f"Give either a behaviour column (here {self.columns.behaviour!r}) or one behaviour for every event"
                f" (behaviours={self.behaviours!r}), not both."
            )
        known = {int(b) for b in Behaviour}
        for word, meaning in words.items():
            if meaning not in known:
                raise ValueError(f"{word!r} stands for {meaning!r}, which is none of {[str(b) for b in Behaviour]}.")

    def run(self, frame: pl.LazyFrame, name: str, source: str, table: Table | None = None) -> tuple[Dataset, Report]:
        """Reads a frame, which is that of a table unless it was in memory."""
        drop, allowed = kinds_to_drop(self.on_bad, self.allow), frozenset(self.allow)
        parsed, time_format = self._parsed(frame)
        tally, ids = _Tally(), {"user": _Ids(), "item": _Ids()}
        parts: dict[str, list[np.ndarray]] = {
            column: [] for column in parsed.collect_schema() if column not in {*tally.counts, UNKNOWN}
        }
        for batch in parsed.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            distinct = {kind: batch[kind].unique(maintain_order=True) for kind in ids}
            usable = tally.usable(batch, distinct, allowed)
            good, known = (batch, distinct) if usable.all() else (batch.filter(usable), {})
            for column, numbers in parts.items():
                of = ids.get(column)
                numbers.append(good[column].to_numpy() if of is None else of.encode(good[column], known.get(column)))
        if table is not None:
            check_records(table, tally.last_row + 1)

        joined = {column: np.concatenate(parts.pop(column) or [np.empty(0)]) for column in list(parts)}
        microseconds, rows = joined.pop("time", None), joined.pop(ROW)
        seconds = None if microseconds is None else microseconds // 1_000_000
        log = Interactions(
            joined.pop("user"), joined.pop("item"), seconds, joined.pop("rating", None), joined.pop("behaviour")
        )
        repeated = repeats(log, microseconds)
        tally.add("duplicate", rows[repeated])
        keep = np.flatnonzero(~repeated | ("duplicate" in allowed))
        if microseconds is not None and np.any(microseconds % 1_000_000):
            keep = keep[np.argsort(microseconds[keep], kind="stable")]

        listed = [row for found in tally.rows.values() for row in found]
        line_of = {row: row + 1 for row in listed} if table is None else table.line_numbers(listed)
        report = Report(
            source=source,
            rows=tally.total,
            kept=len(keep),
            counts=tally.of(KINDS),
            lines={kind: tuple(line_of[row] for row in found) for kind, found in tally.rows.items() if found},
            dropped=drop,
            allowed=allowed,
            time_format=time_format,
            mended=tally.of(MENDINGS),
            unknown_behaviours=dict(tally.words.most_common(LISTED_WORDS)),
        )
        if report.unsettled:
            raise BadRowsError(report)
        extras = {str(key): joined[extra(key)][keep] for key in self.columns.extras}
        return Dataset(name, log.take(keep), ids["user"].freeze(), ids["item"].freeze(), extras=extras), report

    def _parsed(self, frame: pl.LazyFrame) -> tuple[pl.LazyFrame, str | None]:
        columns = self.columns
        words, behaviour = BEHAVIOURS, Behaviour.CLICK if columns.rating is None else Behaviour.RATING
        if isinstance(self.behaviours, Behaviour):
            behaviour = self.behaviours
        else:
            words = self.behaviours
        text = as_text(frame, columns)
        time_format = None
        if columns.time is not None:
            time_format = resolve_time_format(text, frame, columns.time, self.time_format)
        guessed = self.time_format == "auto"
        return parse(text, columns, time_format, guessed, words, behaviour), time_format
