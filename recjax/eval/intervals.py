"""Confidence intervals: over seeds (Student's t), of paired differences, and over users (bootstrap)."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and a confidence interval around it.

    Attributes:
      mean: the mean of the values that are not NaN; NaN when there are none.
      low: lower end; NaN when it cannot be known (fewer than two values).
      high: upper end; likewise.
      level: confidence level in (0, 1).
      count: how many values the mean is over.
    """

    mean: float
    low: float
    high: float
    level: float
    count: int

    @property
    def half_width(self) -> float:
        """What follows the ± sign of a symmetric interval."""
        return (self.high - self.low) / 2

    @property
    def digits(self) -> int:
        """Decimals that show two digits of the half-width, and at most three."""
        half = self.half_width
        return min(max(1 - math.floor(math.log10(half)), 0), 3) if math.isfinite(half) and half > 0 else 3

    def plus_minus(self, digits: int | None = None) -> str:
        """The mean and the half-width, ``mean±half``; the mean alone where the interval is not known.

        Args:
          digits: decimals of both numbers; those of :attr:`digits` by default.

        >>> mean_interval([1.0, 2.0, 3.0]).plus_minus(), mean_interval([1.0]).plus_minus()
        ('2.0±2.5', '1.000')
        """
        half = self.half_width
        digits = self.digits if digits is None else digits
        return f"{self.mean:.{digits}f}" + (f"±{half:.{digits}f}" if math.isfinite(half) else "")

    def __format__(self, spec: str) -> str:
        """``mean [low, high]``, each number in the given format, ``.4g`` by default.

        >>> f"{mean_interval([1.0, 2.0, 3.0]):+.1f}"
        '+2.0 [-0.5, +4.5]'
        """
        mean, low, high = (format(number, spec or ".4g") for number in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean over seeds and its Student's t interval.

    Args:
      values: ``[S]`` one number a seed. NaN means that a seed has no value, and is left out.
      level: confidence level in (0, 1).

    Raises:
      ValueError: ``values`` is not one-dimensional, or ``level`` is outside (0, 1).

    >>> print(mean_interval([1.0, 2.0, 3.0]))
    2 [-0.4841, 4.484]
    """
    numbers, mean = _numbers(values, level)
    half = math.nan
    if len(numbers) > 1:
        half = t_quantile(len(numbers) - 1, level) * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half, level, len(numbers))


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of ``a - b`` and its t interval, for runs that share their seeds.

    Args:
      a: ``[S]`` one number a seed.
      b: ``[S]`` numbers of the same seeds, in the same order.
      level: confidence level in (0, 1).

    Raises:
      ValueError: the shapes differ, or as :func:`mean_interval`.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"Paired values need one partner each; got shapes {a.shape} and {b.shape}.")
    return mean_interval(a - b, level=level)


def unpaired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of ``a`` minus that of ``b`` and Welch's t interval, for runs that share nothing.

    Args:
      a: ``[S]`` one number a seed; NaN is left out.
      b: ``[T]`` likewise, of other seeds.
      level: confidence level in (0, 1).

    Returns:
      The interval; its ``count`` is the smaller of the two. The degrees of freedom are rounded down, which makes it
      a little wider.

    Raises:
      ValueError: as :func:`mean_interval`.

    References:
      Welch, "The generalization of 'Student's' problem when several different population variances are involved",
      Biometrika 34, 1947.
    """
    (x, mean_x), (y, mean_y) = _numbers(a, level), _numbers(b, level)
    mean, count = mean_x - mean_y, min(len(x), len(y))
    if count < 2:
        return Interval(mean, math.nan, math.nan, level, count)
    of_x, of_y = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    freedom = (of_x + of_y) ** 2 / (of_x**2 / (len(x) - 1) + of_y**2 / (len(y) - 1)) if of_x + of_y else count - 1
    half = t_quantile(max(int(freedom), 1), level) * math.sqrt(of_x + of_y)
    return Interval(mean, mean - half, mean + half, level, count)


def bootstrap_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean over users and its percentile bootstrap interval.

    For paired comparisons of two models give the differences per user.

    Args:
      values: ``[U]`` one number a user; NaN is left out.
      level: confidence level in (0, 1).
      resamples: how many bootstrap samples.
      seed: seed of the resampling; the same seed gives the same interval.

    Raises:
      ValueError: as :func:`mean_interval`, or ``resamples`` is below 1.

    References:
      Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    if resamples < 1:
        raise ValueError(
            f"resamples is {resamples}; a bootstrap interval needs at least one, and thousands to be exact."
        )
    numbers, mean = _numbers(values, level)
    count = len(numbers)
    if count < 2:
        return Interval(mean, math.nan, math.nan, level, count)
    rng = np.random.default_rng(seed)
    means = [numbers[rng.integers(count, size=count)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), level, count)


@functools.cache
def t_quantile(df: int, level: float) -> float:
    """The ``t`` with ``P(-t <= T <= t) = level`` for Student's T with ``df`` degrees of freedom.

    Args:
      df: degrees of freedom, at least 1.
      level: in (0, 1).

    Raises:
      ValueError: ``df`` is below 1 or ``level`` is outside (0, 1).

    References:
      Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.3, 26.7.4 (the
      distribution as a finite sum, inverted here by bisection) and 26.7.5 (large ``df``).
    """
    if df < 1:
        raise ValueError(f"df is {df}; Student's t has at least one degree of freedom.")
    _check_level(level)
    if df > 1000:
        z = statistics.NormalDist().inv_cdf((1 + level) / 2)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _t_probability(angle, df) < level else (low, angle)
    return math.sqrt(df) * math.tan(low)


def _t_probability(angle: float, df: int) -> float:
    """``P(|T| <= sqrt(df) tan(angle))``."""
    power = df % 2
    term, total = math.cos(angle) ** power, 0.0
    while power <= df - 2:
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
        power += 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if df % 2 else total


def _numbers(values: ArrayLike, level: float) -> tuple[np.ndarray, float]:
    array = np.asarray(values, float)
    if array.ndim != 1:
        raise ValueError(f"An interval is over one axis of values; got shape {array.shape}.")
    _check_level(level)
    numbers = array[~np.isnan(array)]
    return numbers, float(numbers.mean()) if len(numbers) else math.nan


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie strictly between 0 and 1, e.g. 0.95.")
