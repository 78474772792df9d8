"""Intervals of the mean of contributions: bootstrap and empirical Bernstein; and rows that depend on each other."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from recjax.eval import Interval
from recjax.types import Array

BLOCKS = 8191
"""Most numbers that are drawn again; more rows than these are added up in so many blocks first. A prime, so that what
recurs in a log does not fall into the same blocks."""

AT_ONCE = 16
"""Resamples that are drawn at a time."""


def bootstrap_intervals(
    contributions: ArrayLike, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Bootstrap intervals of several means over the same rows, which are drawn together.

    The interval is that of bootstrap-t: of each resample ``(mean* - mean) / error*``, whose quantiles stand in for
    those of Student's t. So it leans to the side to which contributions do, as those of rare rewards and large weights
    do. Rows beyond :data:`BLOCKS` are added up first, row ``i`` in block ``i % BLOCKS``; the sums keep the variance
    and the skewness of the mean.

    Args:
      contributions: ``f32[m, n]`` of ``m`` estimates; rows are independent (:func:`by_unit`).
      level: confidence level in (0, 1).
      resamples: how many.
      seed: of the resampling; the same seed gives the same intervals.

    Returns:
      ``m`` intervals around the means; without ends where there are fewer than two rows.

    Raises:
      ValueError: another shape, or an argument out of range.

    References:
      Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5; Hall, "Theoretical Comparison of
      Bootstrap Confidence Intervals", Annals of Statistics 16, 1988.
    """
    rows = _checked(contributions, level)
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; intervals need at least one, and hundreds to be exact.")
    count = rows.shape[1]
    means = [float(row.mean(dtype=np.float64)) for row in rows]
    if count < 2:
        return [Interval(mean, math.nan, math.nan, level, count) for mean in means]
    few = by_unit(rows, np.arange(count) % BLOCKS) if count > BLOCKS else rows
    error = few.std(1, ddof=1, dtype=np.float64) / math.sqrt(few.shape[1])
    t = _studentised(jax.random.key(seed), jnp.asarray((few - few.mean(1, keepdims=True)).T), resamples)
    low, high = np.quantile(np.asarray(t, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    ends = zip(means, means - high * error, means - low * error, strict=True)
    return [Interval(mean, float(low), float(high), level, count) for mean, low, high in ends]


@functools.partial(jax.jit, static_argnames="resamples")
def _studentised(key: Array, centred: Array, resamples: int) -> Array:
    """``f32[resamples, m]``: means of resamples of ``[n, m]`` in their own standard errors; 0 where these are 0."""
    count = centred.shape[0]

    def resample(key: Array) -> Array:
        drawn = centred[jax.random.randint(key, (count,), 0, count)]
        error = drawn.std(0, ddof=1) / math.sqrt(count)
        return jnp.where(error > 0, drawn.mean(0) / jnp.where(error > 0, error, 1.0), 0.0)

    return jax.lax.map(resample, jax.random.split(key, resamples), batch_size=AT_ONCE)


def bernstein_interval(contributions: ArrayLike, bound: float, *, level: float = 0.95) -> Interval:
    """The empirical Bernstein interval: it holds whatever the distribution, for rows of a known range.

    ``mean ± (sqrt(2 V ln(4 / δ) / n) + 7 range ln(4 / δ) / (3 (n - 1)))`` with the sample variance ``V`` and
    ``δ = 1 - level``. Contributions of a ratio (:func:`snips`, :func:`sndr`, :func:`delta`) are not independent; for
    them it holds only in the limit.

    Args:
      contributions: ``f32[n]``.
      bound: the largest minus the smallest value that a contribution can have, such as the largest possible weight
        times the largest reward; the log alone does not tell it.
      level: confidence level in (0, 1).

    Raises:
      ValueError: another shape, an argument out of range, or contributions that are further apart than ``bound``.

    References:
      Maurer, Pontil, "Empirical Bernstein Bounds and Sample-Variance Penalization", COLT 2009, theorem 4.
    """
    (row,) = _checked(np.asarray(contributions)[None], level).astype(np.float64)
    spread = float(np.ptp(row))
    if not math.isfinite(bound) or spread > bound * (1 + 1e-6):
        raise ValueError(
            f"bound is {bound}, and contributions are {spread:.4g} apart; give the range that they can have."
        )
    count, mean = len(row), float(row.mean())
    if count < 2:
        return Interval(mean, math.nan, math.nan, level, count)
    log = math.log(4 / (1 - level))
    half = math.sqrt(2 * float(row.var(ddof=1)) * log / count) + 7 * bound * log / (3 * (count - 1))
    return Interval(mean, mean - half, mean + half, level, count)


def biased_interval(value: float, unbiased: Interval) -> Interval:
    """The interval of an estimate whose bias nobody knows: that of an estimate without bias, drawn out to its value.

    What a biased estimate varies by says nothing of how far it is off, and whoever chose among estimates saw the log.

    Args:
      value: a biased estimate, such as that of :func:`direct`, or of settings that :func:`slope` chose.
      unbiased: the interval of another from the same log, such as :func:`dr`.

    >>> print(biased_interval(0.5, Interval(mean=0.2, low=0.1, high=0.3, level=0.95, count=100)))
    0.5 [0.1, 0.5]
    """
    low, high = min(value, unbiased.low), max(value, unbiased.high)
    return dataclasses.replace(unbiased, mean=value, low=low, high=high)


def by_unit(contributions: ArrayLike, unit: ArrayLike) -> np.ndarray:
    """Contributions of independent units, such as users, from those of their rows.

    They have the mean of all rows, and the spread of a mean over units that have different numbers of rows.

    Args:
      contributions: ``f32[..., n]``.
      unit: ``i32[n]`` of each row, from 0; every number up to the largest occurs.

    Returns:
      ``f32[..., units]``.
    """
    rows, unit = np.asarray(contributions), np.asarray(unit)
    size = np.bincount(unit)
    mean = rows.mean(-1, dtype=np.float64)[..., None]
    flat = rows.reshape(-1, rows.shape[-1])
    total = np.stack([np.bincount(unit, row) for row in flat]).reshape(*rows.shape[:-1], len(size))
    return (mean + (total - mean * size) * (len(size) / rows.shape[-1])).astype(np.float32)


def _checked(contributions: ArrayLike, level: float) -> np.ndarray:
    rows = np.asarray(contributions)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"contributions have shape {rows.shape}; give one number a row of each estimate, and a row.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie strictly between 0 and 1, e.g. 0.95.")
    return rows
