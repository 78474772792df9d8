"""Advantages and losses of policy gradients: pure functions of batches.

They take log-probabilities of what was shown, however a policy computes them; those of :mod:`recjax.catalogue` need no
array of every item of every user. No gradient flows into advantages and weights.

>>> advantage = jnp.array([1.0, -1.0])
>>> policy_gradient_loss(jnp.log(jnp.array([0.5, 0.25])), advantage).round(3).tolist()
[0.693..., -1.386...]
>>> clipped_surrogate(jnp.log(jnp.array([2.0, 2.0])), advantage, 0.5).tolist()
[-1.5, 2.0]
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from recjax.losses.masked import masked_mean
from recjax.losses.td import lambda_returns
from recjax.types import Array


def generalized_advantages(r_t: Array, discount_t: Array, lambda_: Array | float, v_tm1: Array, v_t: Array) -> Array:
    """Generalised advantage estimates, the λ-returns less the values of the states they begin in.

    ``A_t = δ_t + discount_t λ A_{t+1}`` with ``δ_t = r_t + discount_t v_t - v_tm1``; the last step of a sequence ends
    with its ``δ``. A λ of 0 at a truncated step ends there, too: what follows in the sequence is of another episode,
    and ``v_t`` is of what was seen last.

    Args:
      r_t: ``f32[..., T]`` rewards, oldest first.
      discount_t: ``f32[..., T]``, 0 where the episode terminated.
      lambda_: λ in [0, 1], a scalar or ``f32[..., T]``.
      v_tm1: ``f32[..., T]`` value before each step.
      v_t: ``f32[..., T]`` value after each step.

    Returns:
      ``f32[..., T]``.

    References:
      Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation", ICLR 2016.
    """
    chex.assert_equal_shape([r_t, v_tm1])
    return jax.lax.stop_gradient(lambda_returns(r_t, discount_t, v_t, lambda_) - v_tm1)


def leave_one_out(returns: Array, mask: Array) -> Array:
    """Returns less the mean of all others along the first axis, ``f32[n, ...]``; a single one is left as it is.

    Where the others are independent, their mean is a baseline that leaves the gradient unbiased.

    Args:
      returns: ``f32[n, ...]``.
      mask: ``bool`` of the same shape, which of them count. What is said of others means nothing.

    References:
      Kool, van Hoof, Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", ICLR 2019 workshop; Ahmadian et al.,
      "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs", ACL 2024.

    >>> leave_one_out(jnp.array([1.0, 2.0, 6.0]), jnp.ones(3, bool)).tolist()
    [-3.0, -1.5, 4.5]
    """
    chex.assert_equal_shape([returns, mask])
    others = jnp.where(mask, returns, 0.0).sum(0, keepdims=True) - returns
    count = mask.sum(0, keepdims=True) - 1
    return returns - jnp.where(count > 0, others / jnp.maximum(count, 1), 0.0)


def normalized(advantage: Array, mask: Array) -> Array:
    """Advantages less their mean, over their standard deviation, of those where the mask is True; of the same shape."""
    mean = masked_mean(advantage, mask)
    variance = masked_mean(jnp.square(advantage - mean), mask)
    return (advantage - mean) / jnp.sqrt(variance + 1e-8)


def policy_gradient_loss(log_prob: Array, advantage: Array) -> Array:
    """``-log_prob * advantage``, whose gradient is that of the expected return, of one shape.

    References:
      Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
      Learning 8, 1992.
    """
    chex.assert_equal_shape([log_prob, advantage])
    return -log_prob * jax.lax.stop_gradient(advantage)


def clipped_surrogate(log_ratio: Array, advantage: Array, clip: Array | float) -> Array:
    """``-min(ratio A, clip(ratio, 1 - ε, 1 + ε) A)``, the loss of PPO.

    Args:
      log_ratio: ``f32[...]`` log-probability of what was shown, less that with which it was shown.
      advantage: ``f32[...]``.
      clip: ε, above 0.

    References:
      Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, 2017.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    advantage, ratio = jax.lax.stop_gradient(advantage), jnp.exp(log_ratio)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def importance_weight(log_prob: Array, behaviour_log_prob: Array, cap: Array | float) -> Array:
    """``min(π / β, cap)``: how much likelier the policy is to show what another one showed, of one shape."""
    chex.assert_equal_shape([log_prob, behaviour_log_prob])
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(log_prob - behaviour_log_prob), cap))


def top_k_correction(log_prob: Array, k: int) -> Array:
    """``K (1 - π)^(K - 1)``: how much of a gradient for single items is one for slates of ``K`` that hold them.

    It is the derivative by ``π`` of the probability ``1 - (1 - π)^K`` that an item is among ``K`` independent draws.

    Args:
      log_prob: ``f32[...]`` log-probability of single items.
      k: ``K``.

    References:
      Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System", WSDM 2019.

    >>> top_k_correction(jnp.log(jnp.array([0.5])), 3).tolist()
    [0.75]
    """
    return jax.lax.stop_gradient(k * (1.0 - jnp.exp(log_prob)) ** (k - 1))
