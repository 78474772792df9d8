"""Plots as inline SVG, so that a page needs no other file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recjax.eval import mean_interval
from recjax.report.results import TABLE_METRICS, curve
from recjax.report.tables import HEADINGS

# Okabe & Ito's palette: told apart by readers with colour-vision deficiencies too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255", "#44AA99")
STYLE: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def colour_of(results: dict[str, Any]) -> dict[str, str]:
    """One colour a policy, the same in every plot of a page."""
    return {policy: COLOURS[i % len(COLOURS)] for i, policy in enumerate(results["policies"])}


def curves(results: dict[str, Any]) -> str:
    """Every metric of the table over loop time: mean over seeds and 95 % interval, as SVG."""
    colours = colour_of(results)
    metrics = [name for name in TABLE_METRICS if np.isfinite(_means(results, name)).any()]
    columns = 3
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.0 * columns, 2.5 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True)).ravel()
    for axis, metric in zip(axes, metrics, strict=False):
        for policy, run in results["policies"].items():
            intervals = [mean_interval(values) for values in curve(results, policy, metric)]
            steps = run["evaluated_at"]
            axis.plot(steps, [i.mean for i in intervals], color=colours[policy], linewidth=1.5)
            axis.fill_between(
                steps, [i.low for i in intervals], [i.high for i in intervals],
                color=colours[policy], alpha=0.15, linewidth=0,
            )  # fmt: skip
        axis.set_title(HEADINGS.get(metric, metric), loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_xlabel("loop step (slates shown to every user)")
        axis.tick_params(labelbottom=True)
    for axis in axes[len(metrics) :]:
        axis.remove()
    return _svg(figure)


def differences(rows: list[tuple[str, float, float, float]], unit: str) -> str:
    """Differences with their intervals against zero, as SVG.

    Args:
      rows: ``(label, mean, low, high)`` of each difference.
      unit: what the horizontal axis measures.
    """
    figure = Figure(figsize=(7.0, 0.7 + 0.45 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for y, (_, mean, low, high) in enumerate(rows):
        axis.plot([low, high], [y, y], color=COLOURS[0], linewidth=2)
        axis.plot([mean], [y], "o", color=COLOURS[0])
    axis.axvline(0, color="#666", linewidth=1)
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _means(results: dict[str, Any], metric: str) -> np.ndarray:
    return np.array([curve(results, policy, metric).mean() for policy in results["policies"]])


def _svg(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
