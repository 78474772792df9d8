"""Vectors of items, from what a platform knows of them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.catalogue import is_followed, lookup
from recjax.types import PAD_ID, Array, Items


class ItemRepresentation(nn.Module):
    """The sum of an item's id, category, number and title vectors, optionally through an MLP.

    Features that ``items`` does not have are left out. Ids follow
    :mod:`recjax.types`: item ``N`` is any item outside the vocabulary and has a trained
    vector of its own; ``PAD_ID`` has the zero vector and gets no gradient.

    Attributes:
      num_items: items in the catalogue (``N``).
      dim: width of the vectors.
      use_id: whether every item has a vector of its own; False for representations that
        carry over to new items.
      text_vocabulary: word ids that titles may use (``items.text < text_vocabulary``);
        0 leaves titles out.
      initial_norm: about the norm of the vector of every feature at the start, the same for
        all, so that none drowns the others. Smaller ones are moved further by the same steps.
      hidden: widths of ReLU layers between the sum and the result; empty for the sum itself.
      dropout: share of the numbers of the vectors that are dropped where a ``dropout`` key is given, those of
        the whole catalogue among them: items are then not told apart by few of their numbers.
      dtype: of the computation; parameters are float32.
    """

    num_items: int
    dim: int
    use_id: bool = True
    text_vocabulary: int = 0
    initial_norm: float = 1.0
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declares the parameters."""
        table = nn.initializers.variance_scaling(self.initial_norm**2, "fan_out", "normal")
        # The last two rows are the item outside the vocabulary and padding, which is never read.
        self.embedding = self.param("embedding", table, (self.num_items + 2 if self.use_id else 1, self.dim))
        self.multi_hot = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, kernel_init=table)
        self.numeric = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, kernel_init=table)
        if self.text_vocabulary:
            self.words = self.param("words", table, (self.text_vocabulary, self.dim))
        if self.hidden:
            self.layers = [nn.Dense(width, dtype=self.dtype) for width in (*self.hidden, self.dim)]
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, ids: Array, items: Items) -> Array:
        """Vectors of items.

        Args:
          ids: integers of any shape ``[...]`` in ``0 .. N``, or ``PAD_ID``.
          items: the features of all items.

        Returns:
          ``[..., dim]``.
        """
        self._check(items)
        if ids.size > self.num_items and not is_followed(self.embedding):
            known = self.all(items)
            unknown = self._project(self._id_vectors(jnp.full((1,), self.num_items)))
            vectors = jnp.concatenate([known, unknown])[ids]
        else:
            is_item = (ids != PAD_ID) & (ids < self.num_items)
            rows = jnp.where(is_item, ids, 0)
            features = self._features(items, rows)
            vectors = self._id_vectors(ids)
            if features is not None:
                vectors = vectors + jnp.where(is_item[..., None], features, 0)
            vectors = self._project(vectors)
        return jnp.where((ids != PAD_ID)[..., None], vectors, 0)

    def all(self, items: Items) -> Array:
        """Vectors of the whole catalogue, ``[N, dim]``, in the order of ids."""
        self._check(items)
        # A slice, not a lookup: a loss that reads the whole table has no gradient by rows.
        known = self.embedding[: self.num_items] if self.use_id else jnp.zeros((self.num_items, self.dim))
        vectors = self._cast(known)
        features = self._features(items, slice(None))
        return self._project(vectors if features is None else vectors + features)

    def _id_vectors(self, ids: Array) -> Array:
        if self.use_id:
            return self._cast(lookup(self.embedding, ids))
        # The one row is that of items outside the vocabulary.
        return jnp.where((ids == self.num_items)[..., None], self._cast(lookup(self.embedding, jnp.zeros_like(ids))), 0)

    def _cast(self, rows: Array) -> Array:
        return rows.astype(self.dtype)

    def _features(self, items: Items, rows: Array | slice) -> Array | None:
        terms = []
        if items.multi_hot is not None:
            terms.append(self.multi_hot(items.multi_hot[rows]))
        if items.numeric is not None:
            terms.append(self.numeric(items.numeric[rows]))
        if self.text_vocabulary:
            if items.text is None:
                raise ValueError(
                    f"ItemRepresentation.text_vocabulary is {self.text_vocabulary}, but items.text is None;"
                    " give the items their title words or set text_vocabulary=0."
                )
            words = items.text[rows]
            present = (words != PAD_ID)[..., None]
            total = jnp.where(present, self._cast(lookup(self.words, words)), 0).sum(-2)
            terms.append(total / jnp.maximum(present.sum(-2), 1).astype(self.dtype))
        return sum(terms[1:], start=terms[0]) if terms else None

    def _project(self, vectors: Array) -> Array:
        for layer in self.layers if self.hidden else ():
            vectors = layer(nn.relu(vectors))
        return self.drop(vectors, deterministic=not self.has_rng("dropout"))

    def _check(self, items: Items) -> None:
        if items.num_items != self.num_items:
            raise ValueError(f"ItemRepresentation.num_items is {self.num_items}, but items has {items.num_items} rows.")
