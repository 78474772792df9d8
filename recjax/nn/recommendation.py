"""Recommendation as supervised classification: which item comes next."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from recjax.catalogue import ItemIndex
from recjax.nn.similarity import Similarity
from recjax.nn.towers import Towers
from recjax.types import Array, Items, Observation


class Recommendation(Towers):
    """A softmax over the catalogue whose logits are cosine similarities over a temperature.

    Attributes:
      temperature: divides the cosine of user and item.
      learn_temperature: whether training changes the temperature.
    """

    temperature: float = 0.1
    learn_temperature: bool = False

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        self.similarity = Similarity(self.temperature, learned=self.learn_temperature)

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Logits of every item, ``f32[B, N]``."""
        return self.queries(observation, items) @ self.item_index(items).vectors.T

    def log_probs(self, observation: Observation, items: Items) -> Array:
        """Log-probability that each item comes next, ``f32[B, N]``."""
        return nn.log_softmax(self(observation, items))

    def queries(self, observation: Observation, items: Items) -> Array:
        """What :meth:`item_index` scores: ``f32[B, dim]``, normalised, over the temperature."""
        return self.similarity.query(self.represent(observation, items))

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[M]`` of :meth:`item_index`, ``f32[M, dim]``."""
        return self.similarity.key(self.item(ids, items))

    def at(self, observation: Observation, ids: Array, items: Items) -> Array:
        """Logits ``f32[B, M]`` of given items ``i32[B, M]``, or ``i32[M]`` the same for all, in ``0 .. N-1``."""
        queries, vectors = self.queries(observation, items), self.item_vectors(ids, items)
        return queries @ vectors.T if ids.ndim == 1 else jnp.einsum("bd,bmd->bm", queries, vectors)

    def item_index(self, items: Items) -> ItemIndex:
        """Normalised vectors of the catalogue."""
        return ItemIndex(self.similarity.key(self.item.all(items)))

    def catalogue(self, observation: Observation, items: Items) -> tuple[Array, ItemIndex]:
        """Queries and index, for the operations of :mod:`recjax.catalogue`."""
        return self.queries(observation, items), self.item_index(items)
