"""What users do with one item, all behaviours together.

Behaviours hang together: who purchases has clicked. With logits ``l_s`` of an item and strengths ``c_sr`` that all
items share, behaviour ``s`` happens with probability ``sigmoid(l_s + sum_{r < s} c_sr y_r)``, given whether the weaker
ones ``r`` did (``y_r``). So every combination of behaviours has a probability, and they add up to 1.

References:
  Read et al., "Classifier chains for multi-label classification", Machine Learning 85, 2011.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.envs.users.exposures import combinations
from recjax.types import Array


def log_likelihoods(logits: Array, strengths: Array, answers: Array) -> Array:
    """Logarithms of what each behaviour's outcome had for a probability, given those of the weaker ones.

    Args:
      logits: ``f32[..., S]``.
      strengths: ``f32[S, S]``, of which those below the diagonal count.
      answers: ``f32[..., S]`` of zeros and ones.

    Returns:
      ``f32[..., S]``; their sum is the logarithm of the probability of the combination.
    """
    upon = answers @ jnp.tril(strengths, -1).T
    given = logits + jnp.expand_dims(upon, tuple(range(logits.ndim - upon.ndim)))
    return jax.nn.log_sigmoid(jnp.where(answers > 0, given, -given))


def chances(logits: Array, strengths: Array) -> Array:
    """``f32[..., 2^S]``: probabilities of all combinations, by number (:func:`combinations`)."""
    answers = jnp.asarray(combinations(logits.shape[-1]), jnp.float32)
    return jnp.exp(jnp.sum(log_likelihoods(logits[..., None, :], strengths, answers), axis=-1))


def each(chances: Array) -> Array:
    """``f32[..., S]``: how probable each behaviour is, from probabilities of combinations ``f32[..., 2^S]``."""
    count = chances.shape[-1].bit_length() - 1
    return chances @ jnp.asarray(combinations(count), jnp.float32)
