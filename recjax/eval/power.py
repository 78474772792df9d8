"""What a comparison over seeds could have seen: the smallest difference that it tells from zero."""

from __future__ import annotations

import math

from recjax.eval.intervals import t_quantile

MOST_RUNS = 100_000
"""Where a search for enough runs ends."""


def detectable_difference(deviation: float, count: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """The true mean difference that an interval over runs keeps apart from zero with probability ``power``.

    ``(t_level + t_power) * deviation / sqrt(count)`` with quantiles of Student's t, two-sided and one-sided.

    Args:
      deviation: standard deviation of the differences between paired runs.
      count: runs, at least 2.
      level: confidence level of the interval, in (0, 1).
      power: in (0.5, 1).

    Raises:
      ValueError: an argument is out of range.

    References:
      Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd ed., 1988, chapter 2; Colas, Sigaud, Oudeyer,
      "How Many Random Seeds?", 2018, for learning agents.

    >>> round(detectable_difference(1.0, 10), 3)
    0.995
    """
    if count < 2 or not 0.5 < power < 1:
        raise ValueError(f"count is {count} and power {power}; they must be at least 2, and in (0.5, 1).")
    freedom = count - 1
    return (t_quantile(freedom, level) + t_quantile(freedom, 2 * power - 1)) * deviation / math.sqrt(count)


def runs_needed(difference: float, deviation: float, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """How many paired runs tell a true difference from zero with probability ``power``.

    Args:
      difference: above 0.
      deviation: standard deviation of the differences between paired runs.
      level: see :func:`detectable_difference`.
      power: likewise.

    Returns:
      The smallest number; None where it would be more than :data:`MOST_RUNS`.

    >>> runs_needed(1.0, 1.0)
    10
    """
    if difference <= 0:
        return None
    count = max(2, math.floor(4 * (deviation / difference) ** 2))
    while count > 2 and detectable_difference(deviation, count, level=level, power=power) <= difference:
        count -= 1
    while detectable_difference(deviation, count, level=level, power=power) > difference:
        count += max(1, count // 50)
        if count > MOST_RUNS:
            return None
    return count
