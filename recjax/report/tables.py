"""Tables of results, as headings and rows of text that a terminal and a page both draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from recjax.eval import Interval, interquartile_interval, label, mean_interval, paired_difference
from recjax.report.results import final_values

MINUS = "−"

REACHED = "How far from what could be reached"
"""Title of :func:`reached_rows`."""


Rows = tuple[list[str], list[list[str]]]
"""Headings and rows of a table."""


def number(value: float | None) -> str:
    """A number with three significant digits, or a dash where it is undefined."""
    if value is None or not np.isfinite(value):
        return "–"
    return with_minus(f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}")


def with_minus(text: str) -> str:
    """The text of a number, with a minus sign in place of a hyphen before it."""
    return MINUS + text[1:] if text.startswith("-") else text


def interval_text(values: np.ndarray) -> str:
    """``mean±half-width`` of the 95 % interval over seeds; a dash where there is no mean."""
    return mean_text(mean_interval(values))


def mean_text(interval: Interval, digits: int | None = None) -> str:
    """``mean±half-width``, the mean alone where there is no interval, a dash where there is no mean."""
    return with_minus(interval.plus_minus(digits)) if np.isfinite(interval.half_width) else number(interval.mean)


def column_texts(intervals: Sequence[Interval], write: Callable[[Interval, int | None], str] = mean_text) -> list[str]:
    """The intervals of a column, with as many decimals as the one that needs most.

    >>> column_texts([mean_interval([1.0, 2.0]), mean_interval([0.1, 0.2])])
    ['1.50±6.35', '0.15±0.64']
    """
    digits = max((each.digits for each in intervals if np.isfinite(each.half_width)), default=None)
    return [write(each, digits) for each in intervals]


def difference_text(interval: Interval, digits: int | None = None) -> str:
    """A difference as ``+mean±half-width``; an asterisk where the interval does not hold zero."""
    if not np.isfinite(interval.mean):
        return "–"
    sign = MINUS if interval.mean < 0 else "+"
    size = dataclasses.replace(interval, mean=abs(interval.mean))
    return sign + size.plus_minus(digits) + ("*" if is_clear(interval) else "\N{NO-BREAK SPACE}")


def is_clear(interval: Interval) -> bool:
    """Whether a difference is told from zero by its interval."""
    return interval.low > 0 or interval.high < 0


def measured(results: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that some policy has a value of."""
    policies = results["policies"]
    return [m for m in metrics if any(np.isfinite(final_values(results, policy, m)).any() for policy in policies)]


def policy_rows(results: dict[str, Any], metrics: Sequence[str]) -> Rows:
    """The closing table: one policy a row, mean ± 95 % interval over seeds."""
    policies = list(results["policies"])
    columns = [
        column_texts([mean_interval(final_values(results, policy, metric)) for policy in policies])
        for metric in metrics
    ]
    rows = [[policy, *cells] for policy, *cells in zip(policies, *columns, strict=True)]
    return ["policy", *map(label, metrics)], rows


def unit_of(results: dict[str, Any], metric: str) -> str:
    """The unit of a metric, as its definition says; nothing where it has none."""
    unit = results.get("definitions", {}).get(metric, {}).get("unit", "")
    return "" if unit == "1" else unit


def ranking_rows(results: dict[str, Any]) -> Rows:
    """The ranking of held-out items: one model a row."""
    models = results["ranking"]["models"]
    metrics = list(next(iter(models.values())))
    return ["model", *metrics], [[name, *(f"{values[m]:.4f}" for m in metrics)] for name, values in models.items()]


def ranking_caption(results: dict[str, Any]) -> str:
    """Which question the ranking answers, and by which protocol."""
    ranking = results["ranking"]
    return " ".join(ranking[part] for part in ("question", "protocol") if part in ranking)


def difference_rows(results: dict[str, Any], metric: str) -> Rows:
    """Every policy minus every other, paired by seed: row minus column."""
    policies = list(results["policies"])
    found = {
        (a, b): paired_difference(final_values(results, a, metric), final_values(results, b, metric))
        for a, b in combinations(policies, 2)
    }
    texts = dict(zip(found, column_texts(list(found.values()), difference_text), strict=True))
    texts |= {(b, a): _negated(text) for (a, b), text in texts.items()}
    rows = [[row, *(texts.get((row, column), "") for column in policies)] for row in policies]
    return ["row − column", *policies], rows


def reached_rows(results: dict[str, Any]) -> Rows:
    """What policies reach of what could be reached: the metric, its interquartile mean, regret, share of the way."""
    reached = results["reached"]
    metric, policies = reached["metric"], list(reached["policies"])
    final = [final_values(results, policy, metric) for policy in policies]
    regrets, shares = (
        [np.array(reached["policies"][policy][part] or [np.nan], float) for policy in policies]
        for part in ("regret", "share")
    )
    columns = [
        column_texts([mean_interval(values) for values in final]),
        column_texts([interquartile_interval(values) for values in final], _ends),
        column_texts([mean_interval(values) for values in regrets]),
        [with_minus(f"{np.mean(values):.0%}") if np.isfinite(values).all() else "–" for values in shares],
    ]
    headings = ["policy", label(metric), "interquartile mean", f"regret to {reached['reference']}", "share of the way"]
    return headings, [[policy, *cells] for policy, *cells in zip(policies, *columns, strict=True)]


def _ends(interval: Interval, digits: int | None) -> str:
    """An interval that is not symmetric: the mean and both ends."""
    if not np.isfinite(interval.half_width):
        return number(interval.mean)
    digits = interval.digits if digits is None else digits
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _negated(text: str) -> str:
    return {"+": MINUS, MINUS: "+"}.get(text[0], text[0]) + text[1:]


def differences_from_best(results: dict[str, Any], metric: str, better: str) -> tuple[str, list[tuple[str, Interval]]]:
    """The policy with the best mean, oracles aside, and every other one minus it, paired by seed."""
    candidates = [name for name, run in results["policies"].items() if not run.get("is_oracle")]
    final = {policy: final_values(results, policy, metric) for policy in candidates}
    sign = -1 if better == "lower" else 1
    means = {policy: sign * mean_interval(values).mean for policy, values in final.items()}
    known = [policy for policy in means if np.isfinite(means[policy])]
    best = max(known, key=means.__getitem__)
    others = sorted((policy for policy in known if policy != best), key=means.__getitem__, reverse=True)
    return best, [(policy, paired_difference(final[policy], final[best])) for policy in others]
