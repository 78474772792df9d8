"""Recommendation as supervised classification: which item comes next."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from recjax.catalogue import ItemIndex
from recjax.nn.contracts import ItemVectorNetwork
from recjax.nn.similarity import Similarity
from recjax.nn.towers import Towers
from recjax.types import Array, Items, Observation


class Recommendation(Towers, ItemVectorNetwork):
    """A softmax over the catalogue whose logits are cosine similarities over a temperature.

    Attributes:
      temperature: divides the cosine of user and item.
      learn_temperature: whether training changes the temperature.
      normalized: whether it is the cosine; False for the plain inner product, for which a
        temperature of 1 is usual.
    """

    temperature: float = 0.1
    learn_temperature: bool = False
    normalized: bool = True

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        self.similarity = Similarity(self.temperature, learned=self.learn_temperature, normalized=self.normalized)

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Logits of every item, ``f32[B, N]``."""
        return self.queries(observation, items) @ self.item_index(items).vectors.T

    def log_probs(self, observation: Observation, items: Items) -> Array:
        """Log-probability that each item comes next, ``f32[B, N]``."""
        return nn.log_softmax(self(observation, items))

    def queries(self, observation: Observation, items: Items, *, every_position: bool = False) -> Array:
        """What :meth:`item_index` scores: ``f32[B, dim]`` or ``f32[B, L, dim]``, normalised, over the temperature."""
        return self.similarity.query(self.represent(observation, items, every_position=every_position))

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of :meth:`item_index`, ``f32[..., dim]``."""
        return self.similarity.key(self.item(ids, items))

    def against(
        self,
        observation: Observation,
        positives: Array,
        negatives: Array,
        items: Items,
        *,
        every_position: bool = False,
    ) -> tuple[Array, Array]:
        """Logits of items of each user's own and of items that all users share, for sampled losses.

        Args:
          observation: of a batch of users.
          positives: ``i32[B, K]``; with ``every_position``, ``i32[B, L, K]``.
          negatives: ``i32[M]``; those that are ``PAD_ID`` score 0.
          items: the features of all items.
          every_position: see :meth:`queries`.

        Returns:
          ``(f32[B, K], f32[B, M])``; with ``every_position``, ``(f32[B, L, K], f32[B, L, M])``.
        """
        users, vectors = self.represent_beside(
            observation, (positives, negatives), items, every_position=every_position
        )
        queries, own, shared = self.similarity.query(users), *map(self.similarity.key, vectors)
        return jnp.einsum("...d,...kd->...k", queries, own), queries @ shared.T

    def item_index(self, items: Items) -> ItemIndex:
        """Vectors of the catalogue, normalised where the similarity is a cosine."""
        return ItemIndex(self.similarity.key(self.item.all(items)))

    def catalogue(
        self, observation: Observation, items: Items, *, every_position: bool = False
    ) -> tuple[Array, ItemIndex]:
        """:meth:`queries` and index, for the operations of :mod:`recjax.catalogue`."""
        return self.queries(observation, items, every_position=every_position), self.item_index(items)
