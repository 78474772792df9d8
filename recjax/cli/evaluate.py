"""``recjax evaluate``: what policies would earn, from a log of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recjax.cli.terminal import Terminal
from recjax.ope.columns import LogColumns
from recjax.report.terminal import rich_table

if TYPE_CHECKING:
    import polars as pl

    from recjax.ope import Policy

UNIFORM = "uniform"


def evaluate(
    log: str,
    policy: tuple[str, ...],
    columns: Annotated[LogColumns, tyro.conf.arg(name="")] = LogColumns(),  # noqa: B008 (frozen)
    estimators: tuple[str, ...] = (),
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> None:
    """Estimate what policies would earn, from a log of another one that tells its probabilities.

    Args:
      log: The log, a row for each shown item: a file (CSV, TSV, Parquet or JSON lines), or a named data set.
      policy: Policies to evaluate: `uniform`; NAME=COLUMN, a column of the log with the probability of what was shown
        (NAME=COLUMN,EXPECTED with another of expected predictions); or NAME=FILE, a table with the columns item and
        probability, and position where it matters.
      columns: Which columns of the log hold what.
      estimators: Which ones (default: all that the log allows).
      csv: Also write the table to this file.
    """
    from recjax import ope

    policies = dict(_policy(text) for text in policy)
    table = ope.evaluate(_read(log), policies, columns, estimators=estimators or tuple(ope.ESTIMATORS))
    if csv is not None:
        table.write_csv(csv)
    console = Terminal()
    console.print(rich_table("What policies would earn", *_cells(table), caption=CAPTION))
    for row in table.filter(table["problem"].is_not_null()).unique("policy", maintain_order=True).to_dicts():
        console.print(f"{row['policy']}: no support. {row['problem'].capitalize()}.", soft_wrap=True)
    if csv is not None:
        console.print(f"Written to {csv}", soft_wrap=True)


CAPTION = (
    "Per row, with 95 % bootstrap intervals; gain is to the policy that was logged. The effective sample is what the"
    " log is worth for a policy; above a Pareto k of 0.7 intervals are too short."
)


def _policy(text: str) -> tuple[str, Policy]:
    """A policy as it is written on the command line."""
    from recjax import ope
    from recjax.data import is_log_file

    if text == UNIFORM:
        return UNIFORM, ope.Uniform()
    name, is_given, source = text.partition("=")
    if not is_given or not name or not source:
        raise ValueError(f"--policy {text}: give {UNIFORM}, NAME=COLUMN, or NAME=FILE.")
    if is_log_file(source):
        return name, ope.ByItem(_read(source))
    column, _, expected = source.partition(",")
    return name, ope.Probabilities(column, expected or None)


def _read(name: str) -> pl.DataFrame:
    """A file of any format of logs, as it is, or a named data set."""
    from recjax import data, ope
    from recjax.data.scan import ROW, Table

    if not data.is_log_file(name):
        return ope.bandit_log(data.load(name))
    return Table(Path(name)).scan().drop(ROW).collect()


def _cells(table: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
    from recjax.report.tables import number

    def ends(row: dict[str, Any], value: str, low: str, high: str) -> str:
        if row[value] is None:
            return number(None)
        return f"{number(row[value])} ({number(row[low])} to {number(row[high])})"

    headings = ["policy", "estimator", "value", "gain", "effective sample", "overlap", "largest weight", "Pareto k"]
    rows = [
        [
            row["policy"], row["estimator"],
            ends(row, "value", "low", "high"), ends(row, "gain", "gain_low", "gain_high"),
            *(number(row[name]) for name in ("effective", "overlap", "largest_weight", "pareto_k")),
        ]
        for row in table.to_dicts()
    ]  # fmt: skip
    return headings, rows
