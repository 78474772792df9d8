"""Actors that answer with a vector, and critics that say what a vector is worth."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn import Towers
from recjax.types import Array, Items, Observation

SMALL = nn.initializers.variance_scaling(1e-4, "fan_in", "uniform")
"""Of last layers: vectors begin near the middle and values near 0, whatever is observed."""

LOG_STD = (-5.0, 2.0)
"""Between which the log of a standard deviation stays."""


def user_state(encoder: Towers | None, observation: Observation, items: Items) -> Array:
    """What a network knows of a user, ``f32[B, H]``: the vector of an encoder, or the context as it is.

    Raises:
      ValueError: there is no encoder and no context.
    """
    if encoder is not None:
        return encoder.represent(observation, items).astype(jnp.float32)
    if observation.context is None:
        raise ValueError(
            "There is no Observation.context to read; give the network an encoder of histories, such as"
            " nn.Recommendation.of(num_items, dim)."
        )
    return observation.context


class VectorActor(nn.Module):
    """Vectors in (-1, 1), a perceptron of what is known of the user.

    Attributes:
      size: numbers of a vector (``A``).
      widths: of the hidden layers.
      encoder: of histories and context, see :func:`user_state`; None reads the context alone.
    """

    size: int
    widths: tuple[int, ...] = (64, 64)
    encoder: Towers | None = None

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B, A]``."""
        hidden = user_state(self.encoder, observation, items)
        for width in self.widths:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return jnp.tanh(nn.Dense(self.size, kernel_init=SMALL)(hidden))


class GaussianActor(nn.Module):
    """Normal distributions of vectors before they are squashed into (-1, 1), a perceptron of what is known of the user.

    Attributes:
      size: numbers of a vector (``A``).
      widths: of the hidden layers.
      encoder: see :class:`VectorActor`.
    """

    size: int
    widths: tuple[int, ...] = (64, 64)
    encoder: Towers | None = None

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> tuple[Array, Array]:
        """Mean and log of the standard deviation, ``f32[B, A]`` each."""
        hidden = user_state(self.encoder, observation, items)
        for width in self.widths:
            hidden = nn.relu(nn.Dense(width)(hidden))
        mean, log_std = jnp.split(nn.Dense(2 * self.size, kernel_init=SMALL)(hidden), 2, axis=-1)
        return mean, jnp.clip(log_std, *LOG_STD)


class VectorCritic(nn.Module):
    """Values of vectors shown to a user, a perceptron of both.

    Attributes:
      widths: of the hidden layers, at least one.
      encoder: see :class:`VectorActor`.
    """

    widths: tuple[int, ...] = (64, 64)
    encoder: Towers | None = None

    @nn.compact
    def __call__(self, observation: Observation, vectors: Array, items: Items) -> Array:
        """``f32[B, M]`` of vectors ``f32[B, M, A]``."""
        user = nn.Dense(self.widths[0])(user_state(self.encoder, observation, items))
        hidden = nn.relu(user[:, None] + nn.Dense(self.widths[0], use_bias=False)(vectors))
        for width in self.widths[1:]:
            hidden = nn.relu(nn.Dense(width)(hidden))
        return nn.Dense(1, kernel_init=SMALL)(hidden)[..., 0]
