"""Vectors of users, from their histories and whatever else a platform knows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.history import make_history_encoder
from recjax.types import PAD_ID, Array, Behaviour, Observation


class UserTower(nn.Module):
    """A user as the encoded history, or an affine function of it, and the context.

    Every position of the history is the item's vector plus a vector of what the user did
    to it. A user without history has a trained cold-start vector in place of the encoding; a
    bidirectional encoder encodes the mask alone.

    Attributes:
      dim: width of the history vectors and of the result.
      encoder: a name in ``recjax.nn.history_encoders``, or a function that makes a
        :class:`recjax.nn.HistoryEncoder`, e.g. ``functools.partial(SelfAttentionEncoder, num_heads=4)``.
      use_behaviour: whether what the user did counts; False reads the items alone.
      project: whether a linear layer follows the encoder. Published sequence models have none: their
        queries start out near the vectors of the newest items, and learn faster.
      dtype: of the computation; parameters are float32.
    """

    dim: int = 32
    encoder: str | Callable[..., nn.Module] = "mean"
    use_behaviour: bool = True
    project: bool = True
    dtype: Any = jnp.float32

    @property
    def is_bidirectional(self) -> bool:
        """Whether the encoder predicts masked items rather than the next one."""
        return make_history_encoder(self.encoder, parent=None).is_bidirectional

    @nn.compact
    def __call__(self, observation: Observation, history_vectors: Array, *, every_position: bool = False) -> Array:
        """Vectors of users.

        Args:
          observation: of a batch of users, history ``[B, L]``.
          history_vectors: ``[B, L, dim]``, the vectors of ``observation.history``.
          every_position: whether to represent a user at every position, as if the history
            ended with it.

        Returns:
          ``[B, dim]``, or ``[B, L, dim]``.
        """
        mask = observation.history != PAD_ID
        if self.use_behaviour:
            embedding = self.param("behaviour", nn.initializers.normal(0.02), (len(Behaviour), self.dim))
            done = embedding.astype(self.dtype)[observation.behaviour]
            history_vectors = history_vectors + jnp.where((observation.behaviour != PAD_ID)[:, :, None], done, 0)
        encode = make_history_encoder(self.encoder, dtype=self.dtype, name="history")
        encoded = encode(history_vectors, mask, every_position=every_position, time=observation.time)
        if not encode.is_bidirectional:
            cold_start = self.param("cold_start", nn.initializers.normal(self.dim**-0.5), (self.dim,))
            is_cold = jnp.cumsum(mask, axis=1) == 0 if every_position else ~mask.any(-1)
            encoded = jnp.where(is_cold[..., None], cold_start.astype(self.dtype), encoded)
        user = nn.Dense(self.dim, dtype=self.dtype, name="output")(encoded) if self.project else encoded
        if observation.context is not None:
            context = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, name="context")(observation.context)
            user = user + (context[:, None] if every_position else context)
        return user
