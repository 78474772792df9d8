"""From contributions to an estimate: its value, its interval, and whether the log supports it."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from recjax.eval import Interval, mean_interval
from recjax.ope.intervals import bernstein_interval, bootstrap_intervals, by_unit
from recjax.ope.support import Support, support

IntervalKind = Literal["bootstrap", "student", "bernstein"]
"""How an interval is found: :func:`bootstrap_intervals`, :func:`recjax.eval.mean_interval` (the quickest), or
:func:`bernstein_interval` (the most cautious)."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a policy would earn, as far as a log tells.

    Attributes:
      interval: the estimate and its confidence interval.
      support: how well the log covers the policy.
    """

    interval: Interval
    support: Support

    @property
    def value(self) -> float:
        """The estimate."""
        return self.interval.mean

    def __str__(self) -> str:
        return f"{self.interval} (effective sample {self.support.effective:,.0f} of {self.support.count:,})"


def estimate(
    contributions: ArrayLike,
    weight: ArrayLike,
    *,
    interval: IntervalKind = "bootstrap",
    level: float = 0.95,
    bound: float | None = None,
    unit: ArrayLike | None = None,
    seed: int = 0,
    refuse: bool = True,
) -> Estimate:
    """An estimate with its interval and support.

    Args:
      contributions: ``f32[n]`` of an estimator, or of two of them subtracted.
      weight: ``f32[n]`` importance weights of the policy, of slates and episodes ``feedback.weight.prod(1)``.
      interval: how the interval is found.
      level: confidence level in (0, 1).
      bound: range of contributions, which ``"bernstein"`` needs.
      unit: ``i32[n]`` which rows depend on each other, such as those of a user (:func:`by_unit`); None where none do.
      seed: of the bootstrap.
      refuse: False gives a number even where the log has no support, and ``support.problem`` says why.

    Raises:
      NoSupportError: the log has no support for the policy.
      ValueError: an argument is out of range.

    >>> import jax, jax.numpy as jnp
    >>> from recjax import ope
    >>> shown = jax.random.bernoulli(jax.random.key(0), 0.5, (1000,))
    >>> of = ope.feedback(shown, propensity=jnp.full(1000, 0.5), probability=jnp.where(shown, 0.9, 0.1))
    >>> print(f"{ope.estimate(ope.snips(of), of.weight).interval:.2f}")
    0.90 [0.89, 0.91]
    """
    if interval not in get_args(IntervalKind):
        raise ValueError(f"interval is {interval!r}; it must be one of {', '.join(get_args(IntervalKind))}.")
    covered = support(weight).check(refuse)
    row = np.asarray(contributions, np.float32)
    if row.shape != (covered.count,):
        raise ValueError(f"contributions have shape {row.shape} and weight [{covered.count}]; give one of each a row.")
    row = row if unit is None else by_unit(row, unit)
    if interval == "student":
        return Estimate(mean_interval(row, level=level), covered)
    if interval == "bernstein":
        if bound is None:
            raise ValueError("A Bernstein interval needs bound, the range that contributions can have.")
        return Estimate(bernstein_interval(row, bound, level=level), covered)
    return Estimate(bootstrap_intervals(row[None], level=level, seed=seed)[0], covered)
