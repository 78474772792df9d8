"""Target networks: the copy that values what comes next, and how it follows the network that learns."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeGuard

import jax
import optax

from recjax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class TargetNetwork:
    """How a target network follows the network that learns.

    Attributes:
      period: updates between copies; 100 when neither this nor ``tau`` is given.
      tau: instead, the share of the network that is mixed into the target at every update, in (0, 1]. It
        is work for the whole table, so it excludes cached item vectors.

    Either may be traced, as :func:`recjax.agents.tuned` does; then it is not checked.

    References:
      Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015 (period);
      Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016 (tau).
    """

    period: int | Array | None = None
    tau: float | Array | None = None

    def __post_init__(self) -> None:
        if self.period is not None and self.tau is not None:
            raise ValueError(f"Give a target network period={self.period} or tau={self.tau}, not both.")
        if _is_known(self.tau) and not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}; it must be in (0, 1].")
        if _is_known(self.period) and self.period < 1:
            raise ValueError(f"period is {self.period}; it must be at least 1.")

    def follow(self, step: Array, params: PyTree, target: PyTree) -> PyTree:
        """The target after update ``step``, which seeds share."""
        if self.tau is not None:
            return optax.incremental_update(params, target, self.tau)
        period = 100 if self.period is None else self.period
        # The step has no seed axis, so this stays a branch under vmap over seeds.
        return jax.lax.cond(step % period == 0, lambda new, old: new, lambda new, old: old, params, target)


def _is_known(value: Any) -> TypeGuard[float]:
    return value is not None and not isinstance(value, jax.core.Tracer)
