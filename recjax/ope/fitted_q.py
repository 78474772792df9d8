"""Fitted Q-evaluation: what a policy earns from each state and action on, by regression on a log."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve

from recjax.types import Array


@functools.partial(jax.jit, static_argnames="sweeps")
def fitted_q(
    features: Array,
    reward: Array,
    discount: Array,
    next_features: Array,
    *,
    sweeps: int,
    ridge: float = 1e-3,
) -> Array:
    """Weights of a linear ``q(s, a) = features @ weights``; with one-hot features a table.

    Every sweep regresses ``r_t + discount_t * v_t`` on the features of what was shown, with ``v_t`` of the last sweep;
    ``T`` sweeps look ``T`` steps ahead. The policy's value is then the mean of ``expected_features @ weights`` over
    first states; the same weights give ``predicted`` and ``expected`` of :func:`sequential_dr`.

    Args:
      features: ``f32[N, d]`` of the state and what was shown, over all steps of all episodes.
      reward: ``f32[N]``.
      discount: ``f32[N]`` γ, and 0 where the episode ended.
      next_features: ``f32[N, d]`` features of the next state, averaged over what the policy would show there.
      sweeps: how many.
      ridge: penalty of squared weights beside the sum of squared errors.

    Returns:
      ``f32[d]``.

    References:
      Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019.
    """
    highest = jax.lax.Precision.HIGHEST
    factor = cho_factor(jnp.matmul(features.T, features, precision=highest) + ridge * jnp.eye(features.shape[1]))
    seen = jnp.matmul(features.T, reward, precision=highest)
    ahead = jnp.matmul(features.T, discount[:, None] * next_features, precision=highest)

    def sweep(_: int, weights: Array) -> Array:
        return cho_solve(factor, seen + jnp.matmul(ahead, weights, precision=highest))

    return jax.lax.fori_loop(0, sweeps, sweep, jnp.zeros(features.shape[1]))
