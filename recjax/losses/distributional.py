"""Losses of value distributions, for chosen actions only: atoms of fixed places (C51) and quantiles (QR-DQN).

Which actions are chosen is decided by mean values, as for any Q-network; the distributions of the others are
not needed, so arrays hold atoms, not items times atoms. No gradient flows into targets.
"""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax

from recjax.types import Array


def categorical_projection(places: Array, probabilities: Array, atoms: Array) -> Array:
    """A distribution moved to other atoms: each mass is split between its two neighbours, which keeps its mean.

    What lies outside of the atoms goes to the first or the last one.

    Args:
      places: ``f32[..., P]`` where the masses are.
      probabilities: ``f32[..., P]``.
      atoms: ``f32[M]`` ascending.

    Returns:
      ``f32[..., M]``.

    References:
      Bellemare, Dabney, Munos, "A Distributional Perspective on Reinforcement Learning", ICML 2017.

    >>> categorical_projection(jnp.array([0.25, 7.0]), jnp.array([0.5, 0.5]), jnp.array([0.0, 1.0, 2.0])).tolist()
    [0.375, 0.125, 0.5]
    """

    @partial(jnp.vectorize, signature="(p),(p)->(m)")
    def project(places: Array, probabilities: Array) -> Array:
        # How far through the interval from each atom to the next a place is, from 0 before it to 1 behind it.
        through = jnp.clip((places[None] - atoms[:-1, None]) / jnp.diff(atoms)[:, None], 0.0, 1.0)
        edge = jnp.ones_like(places)[None]
        reached, passed = jnp.concatenate([edge, through]), jnp.concatenate([through, 0 * edge])
        return jnp.sum((reached - passed) * probabilities[None], axis=-1)

    return project(places, probabilities)


def categorical_td(logits_tm1: Array, r_t: Array, discount_t: Array, probabilities_t: Array, atoms: Array) -> Array:
    """Cross-entropy of a distribution over atoms to the projected distribution of ``r_t + discount_t * next value``.

    Args:
      logits_tm1: ``f32[..., M]`` of the chosen actions.
      r_t: ``f32[...]``.
      discount_t: ``f32[...]``, 0 where the episode terminated.
      probabilities_t: ``f32[..., M]`` of the next actions, as the target network has them.
      atoms: ``f32[M]`` ascending values.

    Returns:
      ``f32[...]``.

    References:
      See :func:`categorical_projection`.
    """
    chex.assert_equal_shape([r_t, discount_t])
    chex.assert_equal_shape([logits_tm1, probabilities_t])
    places = r_t[..., None] + discount_t[..., None] * jnp.broadcast_to(atoms, probabilities_t.shape)
    target = jax.lax.stop_gradient(categorical_projection(places, probabilities_t, atoms))
    return -jnp.sum(target * jax.nn.log_softmax(logits_tm1, axis=-1), axis=-1)


def quantile_regression(quantiles: Array, samples: Array, huber: float = 1.0) -> Array:
    """How badly quantiles fit samples: ``Σ_i mean_j |τ_i - [u_ij < 0]| L(u_ij)`` with ``u_ij = sample_j - quantile_i``.

    The ``M`` quantiles are those of ``τ_i = (i + 1/2) / M``. ``L`` is the Huber loss, or the absolute value, whose
    minimum are the quantiles themselves.

    Args:
      quantiles: ``f32[..., M]``.
      samples: ``f32[..., P]``.
      huber: where ``L`` becomes linear; 0 for the absolute value.

    Returns:
      ``f32[...]``.

    References:
      Dabney et al., "Distributional Reinforcement Learning with Quantile Regression", AAAI 2018.
    """
    return _quantile_regression(quantiles, samples, huber)


@partial(jnp.vectorize, signature="(m),(p)->()", excluded=[2])
def _quantile_regression(quantiles: Array, samples: Array, huber: float) -> Array:
    tau = (jnp.arange(len(quantiles)) + 0.5) / len(quantiles)
    error = samples[None] - quantiles[:, None]
    weight = jnp.abs(tau[:, None] - (error < 0))
    size = optax.losses.huber_loss(error, delta=huber) if huber > 0 else jnp.abs(error)
    return jnp.sum(jnp.mean(weight * size, axis=-1))


def quantile_td(quantiles_tm1: Array, r_t: Array, discount_t: Array, quantiles_t: Array, huber: float = 1.0) -> Array:
    """:func:`quantile_regression` of chosen actions to ``r_t + discount_t * quantiles_t``.

    Args:
      quantiles_tm1: ``f32[..., M]`` of the chosen actions.
      r_t: ``f32[...]``.
      discount_t: ``f32[...]``, 0 where the episode terminated.
      quantiles_t: ``f32[..., P]`` of the next actions, as the target network has them.
      huber: see :func:`quantile_regression`.

    Returns:
      ``f32[...]``.
    """
    chex.assert_equal_shape([r_t, discount_t])
    samples = jax.lax.stop_gradient(r_t[..., None] + discount_t[..., None] * quantiles_t)
    return quantile_regression(quantiles_tm1, samples, huber)
