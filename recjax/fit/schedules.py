"""Schedules: values as functions of the step, such as learning rates and exploration."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax

from recjax.registry import Registry
from recjax.types import Array

Schedule = Callable[[Array], Array]

learning_rates: Registry = Registry("learning-rate schedule")
"""Names of learning-rate schedules; each is made by ``(peak, steps, warmup_steps=0)``."""


def linear_decay(start: Array | float, end: Array | float, steps: Array | int) -> Schedule:
    """A straight line from ``start`` to ``end`` over ``steps``, then ``end`` for ever.

    All three may be traced, so that an exploration schedule can be a hyper-parameter that
    is mapped over seeds. ``steps = 0`` is ``end`` from the first step.

    >>> epsilon = linear_decay(1.0, 0.1, 9)
    >>> [round(float(epsilon(step)), 3) for step in (0, 3, 9, 100)]
    [1.0, 0.7, 0.1, 0.1]

    Args:
      start: value at step 0.
      end: value from ``steps`` on.
      steps: how many steps the line takes.

    Returns:
      A function of an integer step.
    """

    def schedule(step: Array) -> Array:
        progress = jnp.where(step >= steps, 1.0, step / jnp.maximum(steps, 1))
        return start + (end - start) * progress

    return schedule


@learning_rates.register("constant")
def constant(peak: float, steps: int, warmup_steps: int = 0) -> Schedule:
    """Rises linearly to ``peak`` over ``warmup_steps``, then stays there."""
    _check(steps, warmup_steps)
    return optax.linear_schedule(peak if warmup_steps == 0 else 0.0, peak, warmup_steps)


@learning_rates.register("linear")
def linear(peak: float, steps: int, warmup_steps: int = 0) -> Schedule:
    """Rises linearly to ``peak`` over ``warmup_steps``, then falls linearly to 0 at ``steps``."""
    _check(steps, warmup_steps)
    fall = optax.linear_schedule(peak, 0.0, steps - warmup_steps)
    return optax.join_schedules([constant(peak, steps, warmup_steps), fall], [warmup_steps])


@learning_rates.register("cosine")
def cosine(peak: float, steps: int, warmup_steps: int = 0) -> Schedule:
    """Rises linearly to ``peak`` over ``warmup_steps``, then falls to 0 at ``steps`` along half a cosine."""
    _check(steps, warmup_steps)
    fall = optax.cosine_decay_schedule(peak, steps - warmup_steps)
    return optax.join_schedules([constant(peak, steps, warmup_steps), fall], [warmup_steps])


def _check(steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup_steps={warmup_steps} must lie in [0, steps) with steps={steps}; shorten the warm-up.")
