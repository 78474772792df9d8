"""What loops are compared by: differences paired by seed, their tables, and the curves of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from _feedback import METRICS, Found
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recjax.eval import Interval, detectable_difference, mean_interval, paired_difference
from recjax.report.tables import MINUS, column_texts, difference_text, is_clear

FIRST, LAST = 0, -1
"""Rounds: as the loop was closed, and the last."""

SAME, OPPOSITE, UNTOLD = "the same", "the opposite", "not told from 0"
"""Of a known result and what is found."""


class At(NamedTuple):
    """A policy after a round."""

    policy: str
    round: int = LAST

    def values(self, found: dict[str, Found], metric: str) -> np.ndarray:
        """A metric, ``f64[seeds]``."""
        return found[self.policy][metric][self.round]


class Effect(NamedTuple):
    """A difference of two policies, paired by seed."""

    own: At
    other: At

    def interval(self, found: dict[str, Found], metric: str) -> Interval:
        """Of the difference in a metric."""
        return paired_difference(self.own.values(found, metric), self.other.values(found, metric))

    def detectable(self, found: dict[str, Found], metric: str) -> float:
        """The difference that as many seeds tell from zero four times in five."""
        differences = self.own.values(found, metric) - self.other.values(found, metric)
        return detectable_difference(float(np.std(differences, ddof=1)), len(differences))


class Known(NamedTuple):
    """A result of the literature, and the comparison by which it is asked here.

    Attributes:
      source: who found it.
      result: in a few words.
      metric: that tells.
      sign: of the difference that was found there, +1 or -1.
      effect: name of the difference here.
    """

    source: str
    result: str
    metric: str
    sign: int
    effect: str

    def verdict(self, interval: Interval) -> str:
        """Whether the difference here has the same sign; nothing is said where its interval holds zero."""
        if not is_clear(interval):
            return UNTOLD
        return SAME if interval.mean * self.sign > 0 else OPPOSITE


Table = tuple[list[str], list[list[str]]]
"""Headings and rows."""


def policy_table(found: dict[str, Found], lines: Sequence[tuple[str, At]]) -> Table:
    """Every metric of policies after a round, mean and 95 % interval over seeds."""
    columns = [column_texts([mean_interval(at.values(found, metric)) for _, at in lines]) for metric in METRICS]
    return ["policy", *METRICS.values()], [[name, *cells] for (name, _), *cells in zip(lines, *columns, strict=True)]


def effect_table(found: dict[str, Found], effects: dict[str, Effect]) -> Table:
    """Every metric of differences; an asterisk where the interval does not hold zero."""
    columns = [
        column_texts([effect.interval(found, metric) for effect in effects.values()], difference_text)
        for metric in METRICS
    ]
    rows = [[name, *cells] for name, *cells in zip(effects, *columns, strict=True)]
    return ["difference", *METRICS.values()], rows


def known_table(found: dict[str, Found], results: Sequence[Known], effects: dict[str, Effect]) -> Table:
    """Known results beside what is found, and what as many seeds could have seen."""
    rows = []
    for one in results:
        effect = effects[one.effect]
        interval, limit = effect.interval(found, one.metric), effect.detectable(found, one.metric)
        numbers = "+" if one.sign > 0 else MINUS, f"{interval:+.3f}", f"{limit:.3f}"
        rows.append([one.source, one.result, METRICS[one.metric], one.effect, *numbers, one.verdict(interval)])
    return ["source", "result", "told by", "compared", "there", "here", "detectable", "verdict"], rows


def draw(
    found: dict[str, Found],
    lines: Sequence[str],
    levels: Sequence[str],
    metrics: Sequence[str],
    sweeps: dict[str, list[tuple[float, Effect]]],
    path: Path,
) -> None:
    """Writes a figure: metrics over rounds, and below them what the loop does to them as a function of exploration.

    Args:
      found: metrics by policy.
      lines: policies that change.
      levels: policies that do not, drawn as broken lines where they lie within what the others span.
      metrics: one column each.
      sweeps: by learner, ε and the difference to random traffic.
      path: of the SVG.
    """
    figure = Figure(figsize=(3.1 * len(metrics), 6.2), layout="constrained")
    over_time, over_epsilon = figure.subplots(2, len(metrics))
    for axes, below, metric in zip(over_time, over_epsilon, metrics, strict=True):
        for number, name in enumerate(lines):
            band(axes, range(len(found[name][metric])), [mean_interval(x) for x in found[name][metric]], name, number)
        low, high = axes.get_ylim()
        for name, dash in zip(levels, ("--", ":"), strict=True):
            level = found[name][metric].mean()
            if low - (high - low) < level < high + (high - low):
                axes.axhline(level, color="0.4", linestyle=dash, linewidth=1)
        axes.set(title=METRICS[metric], xlabel="rounds of the closed loop")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for number, (name, points) in enumerate(sweeps.items()):
            epsilon, intervals = zip(*((at, effect.interval(found, metric)) for at, effect in points), strict=True)
            band(below, epsilon, intervals, name, 2 * number)
        below.axhline(0, color="0.4", linewidth=0.8)
        below.set_xscale("symlog", linthresh=0.05, linscale=0.4)
        below.set_xticks([0, 0.05, 0.1, 0.2, 0.5], ["0", ".05", ".1", ".2", ".5"], minor=False)
        below.minorticks_off()
        below.set(xlabel="ε, exploration of a slot")
    over_epsilon[0].set(ylabel="last round, less random traffic")
    handles, labels = over_time[0].get_legend_handles_labels()
    for name, dash in zip(levels, ("--", ":"), strict=True):
        handles.append(over_time[0].plot([], [], color="0.4", linestyle=dash, linewidth=1)[0])
        labels.append(name)
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path)


def band(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], name: str, number: int) -> None:
    """A line of means with the interval of each."""
    style: dict[str, Any] = {"color": f"C{number}"}
    axes.plot(x, [one.mean for one in intervals], marker="osD^v"[number % 5], markersize=3, label=name, **style)
    axes.fill_between(
        x, [one.low for one in intervals], [one.high for one in intervals], alpha=0.2, linewidth=0, **style
    )
