"""Tables for the terminal and the page."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from rich import box
from rich.table import Table

from recjax.eval import mean_interval
from recjax.report.results import final_values

HEADINGS = {
    "ctr": "CTR",
    "click_rate": "slates clicked",
    "conversion_rate": "conversion",
    "satisfaction": "satisfaction",
    "session_reward": "reward/sess.",
    "session_length": "slates/sess.",
    "coverage": "coverage",
    "tail_coverage": "tail coverage",
    "novelty_information": "novelty, bits",
    "novelty_new": "share new",
    "diversity": "diversity",
    "gini": "Gini",
    "popularity_lift": "popularity lift",
    "reward": "reward/slate",
}


def number(value: float) -> str:
    """A number with three significant digits, or a dash where it is undefined."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval_text(values: np.ndarray) -> str:
    """``mean±half-width`` of the 95 % interval over seeds; a dash where there is no mean."""
    interval = mean_interval(values)
    return interval.plus_minus() if np.isfinite(interval.half_width) else number(interval.mean)


def policy_rows(results: dict[str, Any], metrics: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the closing table: one policy a row, mean ± 95 % interval over seeds."""
    rows = [
        [policy] + [interval_text(final_values(results, policy, metric)) for metric in metrics]
        for policy in results["policies"]
    ]
    return ["policy"] + [HEADINGS.get(name, name) for name in metrics], rows


def ranking_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the ranking table: one model a row."""
    models = results["ranking"]["models"]
    metrics = list(next(iter(models.values())))
    return ["model", *metrics], [[name, *(f"{values[m]:.4f}" for m in metrics)] for name, values in models.items()]


def rich_table(
    title: str, headings: list[str], rows: list[list[str]], caption: str | None = None, *, text: bool = False
) -> Table:
    """A table for the terminal: numbers to the right of a first column of names, or text throughout."""
    table = Table(
        title=title, caption=caption, title_justify="left", caption_justify="left",
        show_header=any(headings), box=box.SIMPLE_HEAD, padding=(0, 1 if text else 0), show_edge=False,
    )  # fmt: skip
    for i, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if text or i == 0 else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*row)
    return table
