"""What a page draws: curves over loop time, differences with intervals, exposure, a user's journey."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recjax.eval import Interval
from recjax.report.svg import INK, MUTED, Spot, colour, drawing, inline, series_id
from recjax.report.tables import mean_text, number

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
"""Series are told apart by their markers too, where colours are not seen or not printed."""

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
"""Lines of the first run of a comparison, the second, and so on."""

TICKS = (1, 2, 2.5, 5, 10)

SPOTS = 60
"""Places of a curve that tell their values; of longer curves, some."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve over loop time.

    Attributes:
      name: of the policy, and of the run where there are several.
      series: number of the policy on the page, which decides colour and marker.
      steps: ``int[E]``.
      intervals: one at each step.
      dash: of its dashes.
    """

    name: str
    series: int
    steps: Sequence[int]
    intervals: Sequence[Interval]
    dash: int = 0


def curves(lines: Sequence[Line], title: str, time: str) -> str:
    """A metric over loop time, whose unit is ``time``: mean over seeds and 95 % interval of each line."""
    with drawing(4.0, 2.4) as figure:
        axes = figure.add_axes((0.135, 0.17, 0.845, 0.79))
        for line in lines:
            steps, mean = np.asarray(line.steps), np.array([i.mean for i in line.intervals])
            style: Any = {"color": colour(line.series), "gid": series_id(line.series)}
            axes.plot(
                steps, mean, linewidth=1.5, linestyle=DASHES[line.dash % len(DASHES)], markersize=3.5,
                marker=MARKERS[line.series % len(MARKERS)], markevery=max(1, len(steps) // 12), **style,
            )  # fmt: skip
            low, high = (np.array([getattr(i, end) for i in line.intervals]) for end in ("low", "high"))
            axes.fill_between(steps, low, high, alpha=0.13, linewidth=0, **style)
        axes.set_xlabel(time, labelpad=1)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=TICKS))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICKS))
        return inline(figure, axes, title, _last_values(lines, time), _columns(axes, lines, time))


def _last_values(lines: Sequence[Line], time: str) -> str:
    ends = "; ".join(f"{line.name} {mean_text(line.intervals[-1])}" for line in lines if len(line.steps))
    return f"Lines over loop time in {time}, one a policy. At the end: {ends}."


def _columns(axes: Axes, lines: Sequence[Line], time: str) -> list[Spot]:
    """A column around every step, which tells the values there."""
    every = np.unique([step for line in lines for step in line.steps])
    steps = every[np.unique(np.linspace(0, len(every) - 1, SPOTS).round().astype(int))] if len(every) else every
    (first, last), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    edges = [first, *((steps[1:] + steps[:-1]) / 2), last]
    at = [dict(zip(line.steps, line.intervals, strict=True)) for line in lines]
    return [
        Spot(
            left, right, bottom, top,
            "\n".join([f"{step:,} {time}"] + [f"{line.name}  {mean_text(known[step])}"
                                          for line, known in zip(lines, at, strict=True) if step in known]),
        )
        for step, left, right in zip(steps, edges, edges[1:], strict=False)
    ]  # fmt: skip


def dash_array(run: int) -> str:
    """The dashes of the lines of a run, as SVG names them; nothing for a whole line."""
    dash = DASHES[run % len(DASHES)]
    return "" if isinstance(dash, str) else " ".join(f"{1.5 * length:g}" for length in dash[1])


def differences(rows: Sequence[tuple[str, Interval]], unit: str, title: str) -> str:
    """Differences with their intervals against zero, one below the other."""
    with drawing(4.8, 0.55 + 0.26 * len(rows)) as figure:
        axes = figure.add_subplot()
        figure.set_layout_engine("constrained")
        for y, (_, interval) in enumerate(rows):
            clear = interval.low > 0 or interval.high < 0
            axes.plot([interval.low, interval.high], [y, y], color=INK if clear else MUTED, linewidth=2)
            axes.plot([interval.mean], [y], "o", color=INK if clear else MUTED, markersize=5)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.spines["left"].set_visible(False)
        figure.draw_without_rendering()  # Settles the layout, which the places of the spots follow from.
        left, right = axes.get_xlim()
        spots = [Spot(left, right, y + 0.5, y - 0.5, f"{name}: {_span(i)}") for y, (name, i) in enumerate(rows)]
        told = "; ".join(f"{name} {_span(interval)}" for name, interval in rows)
        return inline(figure, axes, title, f"Mean differences with 95 % intervals, {unit}: {told}.", spots)


def lorenz(policies: dict[str, dict[str, Any]]) -> str:
    """The Lorenz curve of exposure of each policy: share of slots over share of items, least shown first.

    Args:
      policies: ``exposure`` of :func:`recjax.study.examples.summarise` by policy, in the order of the page.
    """
    with drawing(4.4, 3.6) as figure:
        axes = figure.add_axes((0.13, 0.13, 0.85, 0.85))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        told = []
        for series, (name, exposure) in enumerate(policies.items()):
            slots, items = np.array(exposure["items_by_slots"], float).T
            x, y = (np.concatenate([[0.0], np.cumsum(part)]) / part.sum() for part in (items, items * slots))
            axes.plot(
                x, y, color=colour(series), gid=series_id(series), linewidth=1.5,
                marker=MARKERS[series % len(MARKERS)], markersize=4, markevery=[int(np.searchsorted(y, 0.5))],
            )  # fmt: skip
            top = 1 - float(np.interp(0.9, x, y))
            told.append(f"{name}: the tenth of the items that it shows most has {top:.0%} of the slots")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of items, least shown first", ylabel="share of slots")
        axes.grid()
        spots = [Spot(0, 1, 0, 1, "\n".join(told))]
        return inline(figure, axes, "Lorenz curves of exposure", "; ".join(told) + ".", spots)


def journey(policies: dict[str, dict[str, Any]]) -> str:
    """One user's way through each policy: a dot a slate, a filled one where it was clicked.

    Args:
      policies: ``journey`` of :func:`recjax.study.examples.summarise` by policy, in the order of the page.
    """
    longest = max((len(way["slates"]) for way in policies.values()), default=1)
    with drawing(4.8, 0.5 + 0.27 * len(policies)) as figure:
        axes = figure.add_subplot()
        figure.set_layout_engine("constrained")
        told = []
        for series, way in enumerate(policies.values()):
            steps = np.arange(1, len(way["slates"]) + 1)
            clicked = np.array([bool(slots) for slots in way.get("clicked", [[]] * len(steps))], bool)
            pleasure = np.array(way.get("satisfaction", np.ones(len(steps))), float)
            style: Any = {"color": colour(series), "gid": series_id(series)}
            axes.scatter(steps[~clicked], np.full((~clicked).sum(), series), s=4, **style)
            axes.scatter(steps[clicked], np.full(clicked.sum(), series), s=8 + 50 * pleasure[clicked], **style)
            if way["left"] and way["stay"] == len(steps):
                axes.scatter([len(steps) + 1], [series], marker="x", s=20, linewidth=1.2, **style)
        for name, way in policies.items():
            told.append(f"{name}: {way['stay']} slates, {sum(map(len, way.get('clicked', [])))} clicks shown")
        axes.set(xlim=(0.2, longest + 2), ylim=(len(policies) - 0.5, -0.5), xlabel="slate")
        axes.set_yticks(range(len(policies)), list(policies))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=TICKS))
        axes.spines["left"].set_visible(False)
        figure.draw_without_rendering()
        return inline(figure, axes, "One user's journey", "; ".join(told) + ".", _visits(policies))


def _visits(policies: dict[str, dict[str, Any]]) -> list[Spot]:
    spots = []
    for series, (name, way) in enumerate(policies.items()):
        for step in range(len(way["slates"])):
            told = [f"{name}, slate {step + 1}", f"reward {number(way['reward'][step])}"]
            if "clicked" in way:
                told.append(
                    f"clicked slot {way['clicked'][step][0] + 1}" if way["clicked"][step] else "nothing clicked"
                )
            if way.get("satisfaction") and way["satisfaction"][step]:
                told.append(f"satisfaction {number(way['satisfaction'][step])}")
            spots.append(Spot(step + 0.5, step + 1.5, series + 0.5, series - 0.5, "\n".join(told), series))
    return spots


def _span(interval: Interval) -> str:
    return f"{interval.mean:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"
