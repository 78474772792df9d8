"""``recjax compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from recjax import report
from recjax.cli.terminal import Terminal
from recjax.eval import label


def compare(runs: Annotated[tuple[Path, ...], tyro.conf.Positional], html: Path | None = None) -> None:
    """Put finished runs side by side: their policies, what separates them, and the options in which they differ.

    Args:
      runs: Directories that `recjax loop --out` has written; differences are to the first.
      html: Also write a page with their curves laid over each other.
    """
    if len(runs) < 2:
        raise ValueError(f"Comparing needs at least two runs; got {len(runs)}.")
    paths = [str(run) for run in runs]
    if len(set(paths)) < len(paths):
        raise ValueError(f"Comparing needs different runs; got {', '.join(paths)}.")
    results = {name: report.read_results(path) for name, path in zip(report.run_names(paths), paths, strict=True)}
    if html is not None:
        report.write_comparison(html, results)
    console = Terminal()
    console.print(report.rich_table("Runs", *report.option_rows(results), text=True))
    for metric in report.TABLE_METRICS:
        headings, rows = report.comparison_rows(results, metric)
        if rows:
            console.print(report.rich_table(label(metric), headings, rows))
    console.print(f"\nMean ± 95 % interval over the seeds of each run. {report.pairing_text(results)}")
    if html is not None:
        console.print(f"Written to {html}", soft_wrap=True)
