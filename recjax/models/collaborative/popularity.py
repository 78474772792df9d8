"""The same items for everyone: those that occur most."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Interactions
from recjax.models.collaborative.base import collaborative_models, user_item_matrix
from recjax.types import Array


@struct.dataclass
class Popularity:
    """Scores every item by how many users it has.

    Attributes:
      count: ``f32[N]``.
    """

    count: Array

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``, the same for every user."""
        return jnp.broadcast_to(self.count, (len(history), len(self.count)))


@collaborative_models.register("popularity")
def popularity(interactions: Interactions, num_items: int, *, weight: str = "binary") -> Popularity:
    """Counts the users of each item.

    Args:
      interactions: the training log.
      num_items: items in the catalogue.
      weight: what a pair of user and item counts, see
        :func:`~recjax.models.collaborative.user_item_matrix`.
    """
    matrix = user_item_matrix(interactions, num_items, weight)
    count = np.bincount(matrix.item, weights=matrix.weight, minlength=num_items)
    return Popularity(count=jnp.asarray(count, jnp.float32))
