"""Which estimator to believe, and with which setting: SLOPE."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from recjax.eval import t_quantile
from recjax.ope.feedback import Feedback
from recjax.types import Array

Estimator = Callable[[Feedback], Array]
"""Feedback to contributions."""

GRID = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, math.inf)
"""Thresholds and shrinkages among which :func:`tuned` chooses by default."""


def slope(contributions: Array, *, level: float = 0.95) -> Array:
    """The estimate of least variance that does not contradict those of less bias: Lepski's principle.

    Estimates are sorted from the widest interval to the narrowest, and so from little bias to much. The last one is
    taken before the first that is further from one before it than their half-widths allow,
    ``|a - b| > half_a + (sqrt(6) - 1) half_b``.

    Args:
      contributions: ``f32[m, n]`` of ``m`` estimates from the same rows.
      level: confidence level of the half-widths, by Student's t.

    Returns:
      ``i32[]``: which one.

    References:
      Su, Srinath, Krishnamurthy, "Adaptive Estimator Selection for Off-Policy Evaluation", ICML 2020; sorted as in
      Tucker, Lee, "Improved Estimator Selection for Off-Policy Evaluation", 2021.
    """
    count = contributions.shape[1]
    half = t_quantile(count - 1, level) * contributions.std(1, ddof=1) / math.sqrt(count)
    order = jnp.argsort(-half, stable=True)
    value, half = contributions.mean(1)[order], half[order]
    apart = jnp.abs(value[:, None] - value[None, :]) > half[:, None] + (math.sqrt(6) - 1) * half[None, :]
    contradicts = jnp.any(jnp.tril(apart, -1), axis=1)
    leading = jnp.cumprod(~contradicts)
    return order[leading.sum() - 1]


def tuned(estimator: Callable[[Feedback, Array], Array], values: Sequence[float] = GRID) -> Estimator:
    """An estimator whose setting is chosen by :func:`slope` for each policy.

    Args:
      estimator: such as :func:`switch_dr` and :func:`dr_shrinkage`.
      values: of its setting.

    Raises:
      ValueError: there are no values.
    """
    if not values:
        raise ValueError("values is empty; give the settings to choose from.")

    def choose(feedback: Feedback) -> Array:
        tried = jnp.stack([estimator(feedback, jnp.float32(value)) for value in values])
        return tried[slope(tried)]

    return functools.wraps(estimator)(choose)
