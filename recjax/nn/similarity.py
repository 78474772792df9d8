"""Cosine similarity that is safe for zero vectors and for bfloat16."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from recjax.catalogue import normalize
from recjax.types import Array


def cosine_similarity(x: Array, y: Array) -> Array:
    """Cosine of the angle between ``x`` and ``y`` along the last axis, at least float32.

    Args:
      x: ``[..., D]``.
      y: ``[..., D]``, broadcast against ``x``.

    Returns:
      ``[...]`` in [-1, 1]; 0 where either vector is zero.
    """
    wide = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    return jnp.sum(normalize(x.astype(wide)) * normalize(y.astype(wide)), axis=-1)


class Similarity(nn.Module):
    """Normalised (or plain) dot product over a temperature, split so that it stays an inner product.

    ``similarity(x, y) = <query(x), key(y)>``: the keys of a catalogue are computed once
    and handed to :mod:`recjax.catalogue`.

    Attributes:
      temperature: divides the cosine; smaller is sharper.
      learned: whether training changes the temperature, from that value on.
      normalized: whether vectors are normalised, so that similarities are cosines.
    """

    temperature: float = 1.0
    learned: bool = False
    normalized: bool = True

    def setup(self) -> None:
        """Declares the parameters."""
        if not self.temperature > 0:
            raise ValueError(f"Similarity.temperature is {self.temperature}; it must be above 0, e.g. 0.1.")
        if self.learned:
            self.log_scale = self.param("log_scale", nn.initializers.constant(-math.log(self.temperature)), ())

    def query(self, x: Array) -> Array:
        """``f32[..., D]``, normalised and divided by the temperature."""
        scale = jnp.exp(self.log_scale) if self.learned else 1.0 / self.temperature
        return self.key(x) * scale

    def key(self, y: Array) -> Array:
        """``f32[..., D]``, normalised."""
        y = y.astype(jnp.float32)
        return normalize(y) if self.normalized else y

    def __call__(self, x: Array, y: Array) -> Array:
        """Similarities ``f32[B, N]`` of every row of ``x: [B, D]`` to every row of ``y: [N, D]``."""
        return self.query(x) @ self.key(y).T
