"""How DQN makes a loss of TD errors: their size, Munchausen's reward, and the weights of prioritised replay."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax import replay
from recjax.agents.exploration import tempered
from recjax.agents.slates import Selection
from recjax.agents.value.windows import check_loss
from recjax.catalogue import logsumexp, score_at
from recjax.fit import linear_decay
from recjax.losses import masked_mean, munchausen_reward
from recjax.replay import Batch, Memory
from recjax.types import Array


@dataclasses.dataclass(frozen=True)
class Munchausen:
    """Values of ``softmax(q / τ)`` in place of the greedy policy's, and a reward for what that policy would have shown.

    With ``π = softmax(q / τ)`` of the target network over the items that may be shown, a slot that showed ``a`` is
    learned from the reward ``r + scale * clip(τ log π(a | s), floor, 0)``, and what comes next is worth
    ``τ logsumexp(q / τ)``. Nothing is selected, so ``double`` has no part in it. With n-step returns the first step
    alone has the reward. Each is one pass over the catalogue.

    Attributes:
      temperature: τ, in units of the values, above 0.
      scale: weight of the log-probability.
      floor: below which it is cut, at most 0.

    Raises:
      ValueError: a number outside its range.

    References:
      Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", NeurIPS 2020.
    """

    temperature: float = 0.03
    scale: float = 0.9
    floor: float = -1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"Munchausen.temperature is {self.temperature}; it must be above 0.")
        if self.scale < 0:
            raise ValueError(f"Munchausen.scale is {self.scale}; it must be at least 0.")
        if self.floor > 0:
            raise ValueError(f"Munchausen.floor is {self.floor}; it must be at most 0.")

    def reward(self, reward: Array, choices: Selection, slate: Array) -> Array:
        """What slots are learned from, ``f32[B, K]``.

        Args:
          reward: ``f32[B, K]``.
          choices: what the target network chooses from where the slate was shown.
          slate: ``i32[B, K]`` items (positions of candidates).
        """
        score = score_at(choices.queries, choices.items, jnp.maximum(slate, 0)) / self.temperature
        log_policy = score - self._normaliser(choices)[:, None]
        if choices.exclude is not None:
            is_excluded = jnp.any(slate[:, :, None] == choices.exclude[:, None, :], axis=-1)
            log_policy = jnp.where(is_excluded, -jnp.inf, log_policy)
        return munchausen_reward(reward, log_policy, temperature=self.temperature, scale=self.scale, floor=self.floor)

    def value(self, choices: Selection) -> Array:
        """What comes next is worth, ``f32[B]``, of what the target network chooses from there."""
        return self.temperature * self._normaliser(choices)

    def _normaliser(self, choices: Selection) -> Array:
        logits = tempered(choices.queries, choices.items, self.temperature)
        return logsumexp(choices.queries, logits, exclude=choices.exclude)


@dataclasses.dataclass(frozen=True)
class Priorities:
    """Prioritised replay: windows are drawn by their last TD errors, and weigh less the likelier they were drawn.

    The priority of a window is the mean absolute TD error of the slots of its first step, and its loss is weighed
    by :func:`recjax.replay.importance_weights`.

    Attributes:
      alpha: α in [0, 1], how much priorities count; 0 draws all windows alike.
      beta: β in [0, 1], how much is corrected: a constant, or ``(start, end, updates)``, linear in updates.

    Raises:
      ValueError: a number outside its range.

    References:
      Schaul et al., "Prioritized Experience Replay", ICLR 2016.
    """

    alpha: float = 0.6
    beta: float | tuple[float, float, int] = (0.4, 1.0, 100_000)

    def __post_init__(self) -> None:
        start, end, updates = self._schedule
        if not (0 <= start <= 1 and 0 <= end <= 1 and updates >= 0):
            raise ValueError(
                f"Priorities.beta is {self.beta}; give a number in [0, 1], or (start, end, updates) with updates >= 0."
            )

    @property
    def _schedule(self) -> tuple[float, float, int]:
        return self.beta if isinstance(self.beta, tuple) else (self.beta, self.beta, 0)

    def memory(self, window: int) -> Memory:
        """What the agent asks for."""
        return replay.prioritised(window, alpha=self.alpha)

    def weights(self, batch: Batch, step: Array) -> Array:
        """Weights of the losses of a batch at update ``step``, ``f32[B]``."""
        return replay.importance_weights(batch, linear_decay(*self._schedule)(step))

    @staticmethod
    def of(error: Array, is_learned: Array) -> Array:
        """Priorities ``f32[B]`` from the TD errors of slots ``f32[B, K]``."""
        return jax.vmap(masked_mean)(jnp.abs(error), is_learned)


@dataclasses.dataclass(frozen=True)
class TDLoss:
    """How TD errors are made and become a loss.

    Attributes:
      error: the loss of an error, a name in :data:`recjax.losses.TD_LOSSES`: "huber" (quadratic up to an error of 1)
        or "mse" (half the square).
      munchausen: soft values and Munchausen's reward; None for the value of the best item.
      priorities: prioritised replay; None for uniform replay.

    Raises:
      ValueError: there is no such loss.
    """

    error: str = "huber"
    munchausen: Munchausen | None = None
    priorities: Priorities | None = None

    def __post_init__(self) -> None:
        check_loss(self.error)

    def memory(self, window: int) -> Memory:
        """What an agent that learns by this loss asks for."""
        return replay.uniform(window) if self.priorities is None else self.priorities.memory(window)

    def mean(self, each: Array, is_learned: Array, batch: Batch, step: Array) -> Array:
        """The loss ``f32[]`` from that of every slot ``f32[B, K]``."""
        if self.priorities is not None:
            each = each * self.priorities.weights(batch, step)[:, None]
        return masked_mean(each, is_learned)
