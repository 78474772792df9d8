"""Vectors of users, from their histories and whatever else a platform knows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.history import history_encoders
from recjax.types import PAD_ID, Array, Behaviour, Observation


class UserRepresentation(nn.Module):
    """A user as an affine function of the encoded history and the context.

    Every position of the history is the item's vector plus a vector of what the user did
    to it. A user without history has a trained cold-start vector in place of the encoding.

    Attributes:
      dim: width of the history vectors and of the result.
      encoder: a name in ``recjax.nn.history_encoders``, or a function that makes a module,
        e.g. ``functools.partial(SelfAttentionEncoder, num_heads=4)``.
      dtype: of the computation; parameters are float32.
    """

    dim: int
    encoder: str | Callable[..., nn.Module] = "mean"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, observation: Observation, history_vectors: Array) -> Array:
        """Vectors of users.

        Args:
          observation: of a batch of users, history ``[B, L]``.
          history_vectors: ``[B, L, dim]``, the vectors of ``observation.history``.

        Returns:
          ``[B, dim]``.
        """
        mask = observation.history != PAD_ID
        embedding = self.param("behaviour", nn.initializers.normal(0.02), (len(Behaviour), self.dim))
        behaviour = jnp.where(
            (observation.behaviour != PAD_ID)[:, :, None], embedding.astype(self.dtype)[observation.behaviour], 0
        )
        make_encoder = history_encoders[self.encoder] if isinstance(self.encoder, str) else self.encoder
        encoded = make_encoder(dtype=self.dtype, name="history")(history_vectors + behaviour, mask)
        cold_start = self.param("cold_start", nn.initializers.normal(self.dim**-0.5), (self.dim,))
        is_cold = ~mask.any(-1)
        state = jnp.where(is_cold[:, None], cold_start.astype(self.dtype)[None], encoded)
        user = nn.Dense(self.dim, dtype=self.dtype, name="output")(state)
        if observation.context is not None:
            user = user + nn.Dense(self.dim, use_bias=False, dtype=self.dtype, name="context")(observation.context)
        return user
