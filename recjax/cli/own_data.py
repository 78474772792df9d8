"""Your own file on the command line: which columns it has, what was guessed, and what is wrong with it in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recjax.cli.terminal import Terminal
from recjax.data import BadRowsError, LogFile, Report, read_schema
from recjax.study import Source, StudyConfig, open_source

SCHEMA = "schema.json"
"""Where a run leaves the schema of the file that it has read."""

SHOWN = 8
"""Columns at most that are named as not read."""

ALLOWABLE = ("doubtful_user", "doubtful_item", "negative_rating")


def opened(study: StudyConfig, schema: Path | None, console: Terminal) -> Source:
    """The log of a study, read and checked; what was read of a file and what was guessed is printed.

    Args:
      study: the options.
      schema: a file with more of them, which those on the command line go before.
      console: where to print.

    Raises:
      ValueError: in one line, what is wrong with the options or the file.
    """
    if schema is not None:
        of_file, items = read_schema(schema)
        study = dataclasses.replace(study, schema=study.schema.over(of_file))
        if items is not None and study.items_file is None:
            study = dataclasses.replace(study, items=items)
    with in_one_line():
        source = open_source(study)
    if source.file is not None:
        print_facts(console, source.file)
    return source


@contextmanager
def in_one_line() -> Iterator[None]:
    """Rows that cannot be used as one line that names the options which settle it."""
    try:
        yield
    except BadRowsError as error:
        raise ValueError(_bad_rows(error.report)) from None


def print_facts(console: Terminal, file: LogFile) -> None:
    """Prints what was read, which column holds what, and which of that was guessed."""
    schema, report = file.schema, file.report
    kinds = [f"{count:,} {kind}" for kind, count in report.counts.items() if kind in report.dropped]
    left_out = f"; left out: {', '.join(kinds)}" if kinds else ""
    named = ("user", "item", "time", "rating", "behaviour", "propensity", "items_key", "title", "categories")
    columns = {what: getattr(schema, what) for what in named if getattr(schema, what) is not None}
    guess = [f"{what} {column!r}{' (guessed)' if what in file.guessed else ''}" for what, column in columns.items()]
    lines = [f"{report.source}: {report.rows:,} rows, {report.kept:,} kept{left_out}", f"Columns: {', '.join(guess)}"]
    if file.unread:
        more = f" and {len(file.unread) - SHOWN} more" if len(file.unread) > SHOWN else ""
        names = ", ".join(repr(name[:40]) for name in file.unread[:SHOWN])
        lines.append(f"Not read: {names}{more}. Where one holds times, ratings, … say so: --time, --rating, …")
    if file.about_items is not None:
        lines.append(str(file.about_items))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bad_rows(report: Report) -> str:
    found = []
    for kind in report.unsettled:
        words = ""
        if kind == "bad_behaviour":
            listed = report.unknown_behaviours.items()
            words = ": " + ", ".join(f"{word[:40]!r} {count:,}" for word, count in listed)
        lines = ", ".join(map(str, report.lines[kind]))
        found.append(f"{report.counts[kind]:,} {kind}{words} (line {lines})")
    fix = f"Leave them out with --on-bad {' '.join(['duplicate', *(k for k in report.unsettled if k != 'duplicate')])}"
    if "bad_behaviour" in report.unsettled:
        word = next((word for word in report.unknown_behaviours if word), "word")
        fix += f", or say what the words mean: --behaviours {word}=cart"
    kept = [kind for kind in report.unsettled if kind in ALLOWABLE]
    if kept:
        fix += f", or keep them with --allow {' '.join(kept)}"
    if report.unsettled and {"bad_time", "mixed_time"} & set(report.unsettled):
        fix += f", or say how times are written with --time-format (now {report.time_format})"
    return f"{report.source}: of {report.rows:,} rows, {'; '.join(found)}. {fix}."
