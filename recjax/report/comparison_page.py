"""The page of runs side by side: their options, curves laid over each other, differences with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recjax._files import write_text
from recjax.eval import label, mean_interval
from recjax.report import plots
from recjax.report.comparison import comparison_rows, difference_intervals, option_rows, pairing_text
from recjax.report.pages import page
from recjax.report.results import TABLE_METRICS, time_unit, timed_curve
from recjax.report.tables import unit_of

Runs = dict[str, dict[str, Any]]


def render_comparison(runs: Runs) -> str:
    """The page of two or more runs, drawn from their results alone.

    Args:
      runs: results as ``metrics.json`` holds them, by a name of each run; differences are to the first.
    """
    policies = list(dict.fromkeys(policy for results in runs.values() for policy in results["policies"]))
    known = next(iter(runs.values()))
    time = time_unit(known)
    metrics = [metric for metric in TABLE_METRICS if comparison_rows(runs, metric)[1]]
    context = {
        "title": "Runs side by side",
        "subtitle": " · ".join(runs),
        "series": policies,
        "runs": [(name, plots.dash_array(number)) for number, name in enumerate(runs)],
        "pairing": pairing_text(runs),
        "options": option_rows(runs),
        "metrics": [
            {
                "key": metric,
                "name": label(metric),
                "unit": unit_of(known, metric),
                "svg": plots.curves(_lines(runs, policies, metric), f"{label(metric)} over loop time", time),
                "differences": _differences(runs, metric, unit_of(known, metric)),
                "table": comparison_rows(runs, metric),
            }
            for metric in metrics
        ],
    }
    return page("comparison", context)


def write_comparison(path: str | Path, runs: Runs) -> None:
    """Writes the page of two or more runs in one piece."""
    write_text(Path(path), render_comparison(runs))


def _lines(runs: Runs, policies: list[str], metric: str) -> list[plots.Line]:
    lines = []
    for series, policy in enumerate(policies):
        for dash, (name, results) in enumerate(runs.items()):
            if policy in results["policies"] and metric in results["policies"][policy]["evaluations"]:
                times, values = timed_curve(results, policy, metric)
                intervals = [mean_interval(seeds) for seeds in values]
                lines.append(plots.Line(f"{policy}, {name}", series, times, intervals, dash))
    return lines


def _differences(runs: Runs, metric: str, unit: str) -> Any:
    """The drawing of every other run minus the first; None where there is nothing to draw."""
    (first, base), *others = runs.items()
    rows = [
        (policy if len(others) == 1 else f"{policy}, {name}", interval)
        for name, results in others
        for policy, interval in difference_intervals(results, base, metric)
        if np.isfinite(interval.half_width)
    ]
    if not rows:
        return None
    minus = others[0][0] if len(others) == 1 else "each run"
    text = f"{minus} − {first}: {label(metric)}" + (f", {unit}" if unit else "")
    return plots.differences(rows, text, f"Differences in {label(metric)}")
