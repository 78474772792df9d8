"""Whether a log can tell anything of a policy: diagnostics of importance weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

FEWEST_EFFECTIVE = 10.0
"""Rows that the log must be worth for the policy."""

LARGEST_GAP = 0.1
"""How far the mean weight may be from 1 before it matters whether chance explains it."""

STANDARD_ERRORS = 4.0
"""By how many standard errors the mean weight may miss 1."""

HEAVY_TAIL = 0.7
"""Pareto k above which means of weights settle too slowly to be relied upon."""

SHORTEST_TAIL = 5
"""Different weights from which a tail is fitted."""


class NoSupportError(ValueError):
    """A log that cannot tell what a policy earns, since it hardly has what the policy would show."""


@dataclasses.dataclass(frozen=True)
class Support:
    """How well a log covers a policy.

    Attributes:
      count: rows of the log.
      effective: effective sample size, ``(sum w)² / sum w²``: as many rows of the policy's own would tell as much.
      mean_weight: 1 in expectation where the log shows all that the policy does; else the share that it does show.
      mean_weight_error: standard error of ``mean_weight``.
      overlap: ``mean(min(w, 1))``, what the two policies show in common, from 0 to 1.
      largest_weight: the largest.
      pareto_k: shape of the tail of weights. Above 0.5 their variance is infinite, above 0.7 intervals are not to be
        relied upon, above 1 not even the mean exists. NaN where there is no tail (:func:`pareto_k`).
    """

    count: int
    effective: float
    mean_weight: float
    mean_weight_error: float
    overlap: float
    largest_weight: float
    pareto_k: float

    @property
    def problem(self) -> str | None:
        """Why there is no support; None where there is."""
        if self.largest_weight == 0:
            return "all weights are 0: no row of the log has what the policy would show"
        gap = abs(self.mean_weight - 1)
        if gap > max(LARGEST_GAP, STANDARD_ERRORS * self.mean_weight_error):
            found = f"weights have a mean of {self.mean_weight:.3g} ± {self.mean_weight_error:.1g} instead of 1"
            if self.mean_weight > 1:
                return f"{found}: propensities are not those of the policy that was logged"
            return f"{found}: the log never shows {gap:.0%} of what the policy would, or propensities are too large"
        if self.effective < FEWEST_EFFECTIVE:
            return (
                f"{self.count:,} rows are worth {self.effective:.1f} of the policy's own; it takes {FEWEST_EFFECTIVE:g}"
            )
        return None

    @property
    def is_heavy_tailed(self) -> bool:
        """Whether a few large weights decide, so that intervals are too short."""
        return self.pareto_k > HEAVY_TAIL

    def check(self, refuse: bool = True) -> Support:
        """Itself, if there is support.

        Args:
          refuse: False accepts a log without support, of which an estimate tells nothing.

        Raises:
          NoSupportError: there is none.
        """
        if refuse and self.problem:
            raise NoSupportError(
                f"The log has no support for this policy: {self.problem}. Evaluate a policy closer to the logged one,"
                " or log with more exploration."
            )
        return self


def support(weight: ArrayLike) -> Support:
    """Diagnostics of importance weights.

    Args:
      weight: ``f32[n]``; of slates and episodes the product over their steps.

    Raises:
      ValueError: another shape, or a weight is negative or not finite.

    >>> support(np.ones(100)).effective
    100.0
    """
    w = np.asarray(weight, np.float64)
    if w.ndim != 1 or not len(w):
        raise ValueError(f"weight has shape {w.shape}; give one number a row, and at least one row.")
    if not (w >= 0).all() or np.isinf(w).any():
        raise ValueError("weight must be finite and at least 0.")
    square = float((w**2).sum())
    return Support(
        count=len(w),
        effective=float(w.sum()) ** 2 / square if square else 0.0,
        mean_weight=float(w.mean()),
        mean_weight_error=float(w.std(ddof=1)) / math.sqrt(len(w)) if len(w) > 1 else math.inf,
        overlap=float(np.minimum(w, 1.0).mean()),
        largest_weight=float(w.max()),
        pareto_k=pareto_k(w),
    )


def pareto_k(weight: ArrayLike) -> float:
    """Shape ``k`` of the generalised Pareto distribution that fits the largest weights.

    The tail are the ``min(n / 5, 3 sqrt(n))`` largest; ``k`` is drawn towards 1/2 as if by ten more weights.

    Args:
      weight: ``f32[n]``.

    Returns:
      NaN where there is no tail to speak of: fewer than :data:`SHORTEST_TAIL` different weights, or mostly weights that
      occur more than once, as those of policies that look at no context do; these have a largest one.

    References:
      Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto Smoothed Importance Sampling", JMLR 25, 2024; the fit is that of
      Zhang, Stephens, "A New and Efficient Estimation Method for the Generalized Pareto Distribution", Technometrics
      51, 2009.
    """
    w = np.asarray(weight, np.float64)
    size = math.ceil(min(len(w) / 5, 3 * math.sqrt(len(w))))
    if size < SHORTEST_TAIL:
        return math.nan
    largest = np.sort(np.partition(w, len(w) - size - 1)[len(w) - size - 1 :])
    tail = largest[largest > largest[0]] - largest[0]
    if len(np.unique(tail)) < max(SHORTEST_TAIL, len(tail) / 2):
        return math.nan
    prior = 10
    return (len(tail) * _zhang_stephens(tail) + prior * 0.5) / (len(tail) + prior)


def _zhang_stephens(tail: np.ndarray) -> float:
    """``k`` of exceedances ``f64[M]`` above 0, in ascending order: the posterior mean over a grid of ``-k / sigma``."""
    count = len(tail)
    grid = 30 + math.isqrt(count)
    quartile = tail[int(count / 4 + 0.5) - 1]
    b = 1 / tail[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * quartile)
    k = np.log1p(-b[:, None] * tail).mean(1)
    log_likelihood = count * (np.log(-b / k) - k - 1)
    share = np.exp(log_likelihood - log_likelihood.max())
    return float(np.log1p(-(b @ share / share.sum()) * tail).mean())
