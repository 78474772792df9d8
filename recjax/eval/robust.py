"""Means that single runs do not decide, and their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recjax.eval.intervals import Interval


def interquartile_mean(values: ArrayLike) -> float:
    """The mean of the middle half of numbers, those at the edges counted by the share that lies inside.

    NaN is left out; NaN where nothing is left.

    References:
      Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0]), interquartile_mean([0.0, 1.0, 2.0])
    (1.5, 1.0)
    """
    numbers = np.sort(np.asarray(values, float).ravel())
    numbers = numbers[~np.isnan(numbers)]
    count = len(numbers)
    if not count:
        return float("nan")
    # Number i covers the stretch from i to i + 1 of the sorted numbers, of which the middle half counts.
    low, high = count / 4, 3 * count / 4
    covered = np.minimum(np.arange(1, count + 1), high) - np.maximum(np.arange(count), low)
    return float(np.average(numbers, weights=np.maximum(covered, 0.0)))


def interquartile_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """The interquartile mean over runs and tasks, with its stratified bootstrap interval.

    Runs are drawn again within each task, so that every resample has as many of each.

    Args:
      values: ``[S]`` one number a run, or ``[M, S]`` of ``M`` tasks.
      level: confidence level in (0, 1).
      resamples: how many bootstrap samples.
      seed: of the resampling.

    Raises:
      ValueError: another shape, or an argument out of range.

    References:
      Agarwal et al., NeurIPS 2021.
    """
    tasks = np.atleast_2d(np.asarray(values, float))
    if tasks.ndim != 2:
        raise ValueError(f"values has shape {tasks.shape}; give one number a run, or a row of runs for each task.")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples is {resamples} and level {level}; they must be at least 1, and in (0, 1).")
    known = [row[~np.isnan(row)] for row in tasks]
    mean, count = interquartile_mean(tasks), min(map(len, known))
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), level, count)
    rng = np.random.default_rng(seed)
    means = [
        interquartile_mean(np.concatenate([row[rng.integers(len(row), size=len(row))] for row in known]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), level, count)
