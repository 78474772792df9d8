"""How much better what was shown has been than what was to be expected: advantages of windows of steps."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from recjax.losses import generalized_advantages, lambda_returns, leave_one_out, masked_mean, normalized
from recjax.types import Array, Step


class Rewards(NamedTuple):
    """What windows of steps earned, and what is said of the states that they passed.

    Attributes:
      r_t: ``f32[B, n]`` rewards of slates, which are the sums over their slots.
      slots: ``f32[B, n, K]`` those of slots.
      discount_t: ``f32[B, n]``, 0 where the episode terminated.
      goes_on: ``f32[B, n]``, 0 where the episode was truncated: the step that follows is of another one.
      v_tm1: ``f32[B, n]`` value before each step.
      v_t: ``f32[B, n]`` value after each step.
      valid: ``bool[B, n]``.
    """

    r_t: Array
    slots: Array
    discount_t: Array
    goes_on: Array
    v_tm1: Array
    v_t: Array
    valid: Array

    @classmethod
    def of(cls, steps: Step, valid: Array, discount: Array | float, v_tm1: Array, v_t: Array) -> Rewards:
        """Those of steps ``[B, n]``; the values are the critic's."""
        discount_t = jnp.where(steps.terminated, 0.0, discount)
        goes_on = jnp.where(steps.truncated, 0.0, 1.0)
        return cls(steps.reward.sum(-1), steps.reward, discount_t, goes_on, v_tm1, v_t, valid)

    def returns(self) -> Array:
        """``f32[B, n]`` the discounted rewards from each step to the end of its episode, or of the window."""
        return lambda_returns(self.r_t, self.discount_t, jnp.zeros_like(self.r_t), self.goes_on)


class Advantage(Protocol):
    """Tells advantages."""

    def __call__(self, rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
        """Returns ``(advantage, value)``: ``f32[B, n]`` (or ``[B, n, K]``), and what a critic is to say, ``[B, n]``."""
        ...


def above_mean(rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
    """Returns less their mean over the batch."""
    returns = rewards.returns()
    return returns - masked_mean(returns, rewards.valid), returns


def above_others(rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
    """Returns less the mean of those that all other users have from the same step of the window on."""
    returns = rewards.returns()
    return leave_one_out(returns, rewards.valid), returns


def slots_above_mean(rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
    """What each slot earned itself and what came after the slate, less the mean of the batch, ``f32[B, n, K]``."""
    returns = rewards.returns()
    each = rewards.slots + (returns - rewards.r_t)[:, :, None]
    valid = jnp.broadcast_to(rewards.valid[:, :, None], each.shape)
    return each - masked_mean(each[:, :1], valid[:, :1]), returns


def above_value(rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
    """Generalised advantages over the critic's values, and the λ-returns that it learns."""
    lambda_ = hparams.gae_lambda * rewards.goes_on
    advantage = generalized_advantages(rewards.r_t, rewards.discount_t, lambda_, rewards.v_tm1, rewards.v_t)
    return advantage, advantage + rewards.v_tm1


def normalized_above_value(rewards: Rewards, hparams: Any) -> tuple[Array, Array]:
    """The same, with a mean of 0 and a standard deviation of 1 over the batch."""
    advantage, value = above_value(rewards, hparams)
    return normalized(advantage, rewards.valid), value
