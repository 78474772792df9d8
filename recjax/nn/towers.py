"""The item and user towers that recommendation and every Q-network share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.item import ItemRepresentation
from recjax.nn.user import UserRepresentation
from recjax.types import Array, Items, Observation


class Towers(nn.Module):
    """Base of networks over an item and a user representation.

    The towers are submodules named ``item`` and ``user``, so trained representations move
    between networks (:func:`recjax.nn.warm_start`).

    Attributes:
      num_items: items in the catalogue (``N``).
      dim: width of item and user vectors.
      encoder: how a history becomes a vector, see :class:`UserRepresentation`.
      use_id: see :class:`ItemRepresentation`.
      text_vocabulary: see :class:`ItemRepresentation`.
      dtype: of the computation in the towers; parameters and scores are float32.
    """

    num_items: int
    dim: int = 32
    encoder: str | Callable[..., nn.Module] = "mean"
    use_id: bool = True
    text_vocabulary: int = 0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declares the parameters."""
        self.item = ItemRepresentation(
            self.num_items, self.dim, use_id=self.use_id, text_vocabulary=self.text_vocabulary, dtype=self.dtype
        )
        self.user = UserRepresentation(self.dim, encoder=self.encoder, dtype=self.dtype)

    def represent(self, observation: Observation, items: Items) -> Array:
        """Vectors of users, ``[B, dim]``."""
        return self.user(observation, self.item(observation.history, items))
