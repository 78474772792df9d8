"""What agents that learn from windows of ``n`` steps have in common: their options, their batches, what comes after."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.losses import TD_LOSSES
from recjax.replay import Batch
from recjax.types import Array, Observation, Step


def check_discount(discount: float) -> None:
    """Raises ValueError where a discount is not in [0, 1]."""
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}; it must be in [0, 1].")


def check_loss(name: str) -> None:
    """Raises ValueError where there is no such loss of TD errors."""
    if name not in TD_LOSSES:
        raise ValueError(f"There is no loss named {name!r}; choose one of {sorted(TD_LOSSES)}.")


def check_td(loss: str, n_step: int) -> None:
    """Raises ValueError where there is no such loss of TD errors, or windows have no step."""
    check_loss(loss)
    if n_step < 1:
        raise ValueError(f"n_step is {n_step}; it must be at least 1.")


def check_windows(name: str, batch: Batch, n_step: int) -> None:
    """Raises ValueError where the windows of a batch do not have ``n_step`` steps; ``name`` is that of the agent."""
    if (*batch.valid.shape, n_step) != batch.experience.terminated.shape:
        raise ValueError(
            f"{name} with n_step={n_step} learns from windows of as many steps; the batch has"
            f" {batch.experience.terminated.shape[1]}. Build the buffer from agent.memory."
        )


def seen_after(steps: Step, last: Array) -> Observation:
    """What was observed after the step ``last: i32[B]`` of windows, leaves ``[B, ...]``."""
    found: Observation = jax.tree.map(lambda x: x[jnp.arange(last.shape[0]), last], steps.next_observation)
    return found
