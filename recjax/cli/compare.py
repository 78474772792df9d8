"""``recjax compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from recjax import report


def compare(runs: Annotated[tuple[Path, ...], tyro.conf.Positional]) -> None:
    """Put finished runs side by side: their policies, and the options in which they differ.

    Args:
      runs: Directories that `recjax loop --out` has written.
    """
    if len(runs) < 2:
        raise ValueError(f"Comparing needs at least two runs; got {len(runs)}.")
    results = {str(run): report.read_results(run) for run in runs}
    console = Console()
    console.print(report.rich_table("Runs", *report.option_rows(results)))
    for metric in report.TABLE_METRICS:
        headings, rows = report.comparison_rows(results, metric)
        if rows:
            console.print(report.rich_table(report.HEADINGS[metric], headings, rows))
    console.print("Mean ± 95 % interval over the seeds of each run.")
