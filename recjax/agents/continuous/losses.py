"""Losses of actors and the density of squashed normal vectors, as functions of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.types import Array

EDGE = 1.0 - 1e-6
"""The largest number of a squashed vector: beyond it float32 cannot tell what was squashed."""


def squashed(drawn: Array) -> Array:
    """``tanh``, in ``[-EDGE, EDGE]`` so that :func:`squashed_log_prob` of the result is finite."""
    return jnp.clip(jnp.tanh(drawn), -EDGE, EDGE)


def squashed_log_prob(vector: Array, mean: Array, log_std: Array) -> Array:
    """The log-density ``f32[...]`` of ``tanh(u)`` with ``u ~ N(mean, exp(log_std)²)`` at a vector.

    ``Σ log N(u; mean, std) - log(1 - tanh² u)``; the second term as ``2 (log 2 - u - softplus(-2 u))``, which loses no
    digit.

    Args:
      vector: ``f32[..., A]`` in (-1, 1).
      mean: ``f32[..., A]``.
      log_std: ``f32[..., A]``.

    References:
      Haarnoja et al., "Soft Actor-Critic", ICML 2018, appendix C.
    """
    return drawn_log_prob(jnp.arctanh(jnp.clip(vector, -EDGE, EDGE)), mean, log_std)


def drawn_log_prob(u: Array, mean: Array, log_std: Array) -> Array:
    """:func:`squashed_log_prob` of ``tanh(u)``, where it is known what was squashed; it has gradients."""
    normal = -0.5 * ((u - mean) * jnp.exp(-log_std)) ** 2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    return jnp.sum(normal - 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u)), axis=-1)


def temperature_loss(log_temperature: Array, log_prob: Array, target_entropy: Array | float) -> Array:
    """``-log α (log π + H)``, ``f32[...]``: α grows while the entropy of the policy is below ``H``.

    Args:
      log_temperature: ``f32[]``.
      log_prob: ``f32[...]`` of drawn vectors; no gradient flows into it.
      target_entropy: ``H``.

    References:
      Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, 2018, equation 18, with the
      log of α in the place of α, as its authors' code has it.
    """
    return -log_temperature * jax.lax.stop_gradient(log_prob + target_entropy)
