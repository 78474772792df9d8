"""Bayesian linear regression, many models at once, learned step by step in float32.

A model holds the mean ``θ`` of its weights and a root ``S`` of their covariance, ``S Sᵀ = (λ I + Σ φ φᵀ)⁻¹`` in units
of the noise. A batch of features ``Φ`` with rewards ``r`` changes them to

    S' = S C⁻ᵀ  with  C Cᵀ = I + (Φ S)ᵀ (Φ S),        θ' = θ + S' S'ᵀ Φᵀ (r - Φ θ).

Both are exact. No covariance is ever subtracted from another: roots keep it positive whatever is rounded, and ``C`` is
the better conditioned the less a batch tells. For one observation it is Potter's square root filter.

References:
  Bierman, "Factorization Methods for Discrete Sequential Estimation", 1977, chapter 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from recjax.types import Array


@struct.dataclass
class Ridge:
    """``G`` models of ``D`` weights.

    Attributes:
      mean: ``f32[G, D]``.
      root: ``f32[G, D, D]`` of the covariance, in units of the variance of the noise.
    """

    mean: Array
    root: Array


def prior(models: int, width: int, regularisation: Array | float) -> Ridge:
    """Models that know nothing: mean 0 and covariance ``I / regularisation``."""
    root = jnp.eye(width) / jnp.sqrt(regularisation)
    return Ridge(jnp.zeros((models, width)), jnp.broadcast_to(root, (models, width, width)))


def predict(ridge: Ridge, features: Array, rows: Array) -> Array:
    """Expected rewards ``f32[B, M]``.

    Args:
      ridge: the models.
      features: ``f32[B, M, D]``.
      rows: which model answers, ``i32[1, 1]``, ``i32[B, 1]`` or ``i32[B, M]``.
    """
    return jnp.sum(features * ridge.mean[rows], axis=-1)


def spread(ridge: Ridge, features: Array, rows: Array) -> Array:
    """``φᵀ S``, ``f32[B, M, D]``, whose norm is the standard deviation of an expected reward; see :func:`predict`."""
    return jnp.matmul(features[..., None, :], ridge.root[rows], precision="highest")[..., 0, :]


def observe(ridge: Ridge, features: Array, rows: Array, rewards: Array) -> Ridge:
    """The models after more rewards.

    Args:
      ridge: before.
      features: ``f32[n, D]``; zeros teach nothing.
      rows: ``i32[n]`` of which model each is.
      rewards: ``f32[n]``, finite.
    """
    models, width = ridge.mean.shape
    # One model is multiplied with all features at once, and not copied for each.
    asked = rows[:1] if models == 1 else rows
    told = spread(ridge, features, asked)
    error = rewards - predict(ridge, features, asked)
    information = jnp.eye(width)[None] + _sums_of_squares(told, rows, models)
    factor = jnp.linalg.cholesky(information)
    root = jax.lax.linalg.triangular_solve(factor, ridge.root, lower=True, transpose_a=True)
    surprise = jax.ops.segment_sum(features * error[:, None], rows, models)
    step = jnp.einsum("gde,gfe,gf->gd", root, root, surprise, precision="highest")
    return Ridge(ridge.mean + step, root)


def _sums_of_squares(features: Array, rows: Array, models: int) -> Array:
    """``Σ φ φᵀ`` of the features ``f32[n, D]`` of each model, ``f32[G, D, D]``."""
    if models == 1:
        return jnp.matmul(features.T, features, precision="highest")[None]
    return jax.ops.segment_sum(features[:, :, None] * features[:, None, :], rows, models)
