"""Tables for the terminal and the page."""

from __future__ import annotations

from typing import Any

import numpy as np

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
