"""Vectors of items, from what a platform knows of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import is_followed, lookup
from recjax.nn.adaptors import adaptors
from recjax.nn.in_blocks import each_once
from recjax.types import PAD_ID, Array, Items

Fusion = Literal["sum", "residual", "gate"]
"""How an item's id joins what the item is described by."""


class ItemRepresentation(nn.Module):
    """An item's id, and its description: the sum of category, number, title and pretrained vectors.

    Features that ``items`` does not have are left out. Ids follow
    :mod:`recjax.types`: item ``N`` is any item outside the vocabulary and has a trained
    vector of its own; ``PAD_ID`` has the zero vector and gets no gradient.

    Id and description are joined by ``fusion``:

    * "sum" adds them.
    * "residual" adds them, and the vectors of ids are zero at the start: what no log has told of an
      item yet is its description alone.
    * "gate" weighs every number of the two, ``g * id + (1 - g) * description`` with
      ``g = sigmoid(W [id, description] + b)``.

    Attributes:
      num_items: items in the catalogue (``N``).
      dim: width of the vectors.
      use_id: whether every item has a vector of its own; False for representations that
        carry over to new items.
      text_vocabulary: word ids that titles may use (``items.text < text_vocabulary``);
        0 leaves titles out.
      adaptor: what becomes of pretrained vectors (``items.vectors``, or what ``text_encoder`` makes): a name
        in ``recjax.nn.adaptors``, or a function that makes a module.
      text_encoder: a function that makes a module ``(rows i32[M], items) -> [M, V]``, such as a language model
        that is trained along (:class:`recjax.language.TextTower`); it takes the place of ``items.vectors``.
        However often items occur in a batch, it is asked for each once.
      fusion: how id and description are joined, see above.
      id_dropout: share of items whose id is left out where a ``dropout`` key is given, so that
        descriptions learn to stand for themselves (Volkovs et al., "DropoutNet", NeurIPS 2017).
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
    adaptor: str | Callable[..., nn.Module] = "linear"
    text_encoder: Callable[..., nn.Module] | None = None
    fusion: Fusion = "sum"
    id_dropout: float = 0.0
    initial_norm: float = 1.0
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declares the parameters.

        Raises:
          ValueError: ``fusion`` is none of those above.
        """
        if self.fusion not in get_args(Fusion):
            raise ValueError(f"ItemRepresentation.fusion is {self.fusion!r}; choose one of {get_args(Fusion)}.")
        table = nn.initializers.variance_scaling(self.initial_norm**2, "fan_out", "normal")
        of_ids = nn.initializers.zeros if self.fusion == "residual" else table
        # The last two rows are the item outside the vocabulary and padding, which is never read.
        self.embedding = self.param("embedding", of_ids, (self.num_items + 2 if self.use_id else 1, self.dim))
        self.multi_hot = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, kernel_init=table)
        self.numeric = nn.Dense(self.dim, use_bias=False, dtype=self.dtype, kernel_init=table)
        if self.text_vocabulary:
            self.words = self.param("words", table, (self.text_vocabulary, self.dim))
        make = adaptors[self.adaptor] if isinstance(self.adaptor, str) else self.adaptor
        self.adapt = make(dim=self.dim, initial_norm=self.initial_norm, dtype=self.dtype)
        if self.text_encoder is not None:
            self.encoder = self.text_encoder(dtype=self.dtype)
        if self.fusion == "gate" and self.use_id:
            self.gate = nn.Dense(self.dim, dtype=self.dtype)
        if self.hidden:
            self.layers = [nn.Dense(width, dtype=self.dtype) for width in (*self.hidden, self.dim)]
        self.drop = nn.Dropout(self.dropout)
        self.drop_ids = nn.Dropout(self.id_dropout, broadcast_dims=(-1,))

    def __call__(self, ids: Array, items: Items) -> Array:
        """Vectors of items.

        Args:
          ids: integers of any shape ``[...]`` in ``0 .. N``, or ``PAD_ID``.
          items: the features of all items.

        Returns:
          ``[..., dim]``.
        """
        self._check(items)
        if ids.size > self.num_items and self.text_encoder is None and not is_followed(self.embedding):
            known = self.all(items)
            unknown = self._project(self._id_vectors(jnp.full((1,), self.num_items)))
            vectors = jnp.concatenate([known, unknown])[ids]
        else:
            is_item = (ids != PAD_ID) & (ids < self.num_items)
            described = self._description(items, jnp.where(is_item, ids, 0))
            vectors = self._project(self._joined(self._id_vectors(ids), described, is_item[..., None]))
        return jnp.where((ids != PAD_ID)[..., None], vectors, 0)

    def together(self, ids: Sequence[Array], items: Items) -> list[Array]:
        """Vectors of several arrays of items; one that is in many of them is encoded once by ``text_encoder``."""
        if self.text_encoder is None:
            return [self(each, items) for each in ids]
        ends = np.cumsum([each.size for each in ids])[:-1]
        vectors = jnp.split(self(jnp.concatenate([each.ravel() for each in ids]), items), ends)
        return [made.reshape(*each.shape, self.dim) for made, each in zip(vectors, ids, strict=True)]

    def all(self, items: Items) -> Array:
        """Vectors of the whole catalogue, ``[N, dim]``, in the order of ids."""
        self._check(items)
        # A slice, not a lookup: a loss that reads the whole table has no gradient by rows.
        known = self.embedding[: self.num_items] if self.use_id else jnp.zeros((self.num_items, self.dim))
        return self._project(self._joined(self._cast(known), self._description(items, slice(None)), True))

    def _id_vectors(self, ids: Array) -> Array:
        if self.use_id:
            return self._cast(lookup(self.embedding, ids))
        # The one row is that of items outside the vocabulary.
        return jnp.where((ids == self.num_items)[..., None], self._cast(lookup(self.embedding, jnp.zeros_like(ids))), 0)

    def _cast(self, rows: Array) -> Array:
        return rows.astype(self.dtype)

    def _joined(self, of_ids: Array, described: Array | None, is_item: Array | bool) -> Array:
        """Ids and descriptions by ``fusion``; what is no item has no description."""
        if described is None:
            return of_ids
        kept = jnp.where(is_item, self.drop_ids(of_ids, deterministic=not self.has_rng("dropout")), of_ids)
        described = jnp.where(is_item, described, 0)
        if self.fusion != "gate" or not self.use_id:
            return kept + described
        g = nn.sigmoid(self.gate(jnp.concatenate([kept, described], axis=-1)))
        return jnp.where(is_item, g * kept + (1 - g) * described, of_ids)

    def _description(self, items: Items, rows: Array | slice) -> Array | None:
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
        if self.text_encoder is not None:
            terms.append(self.adapt(self._encoded(items, rows)))
        elif items.vectors is not None:
            terms.append(self.adapt(items.vectors[rows]))
        return sum(terms[1:], start=terms[0]) if terms else None

    def _encoded(self, items: Items, rows: Array | slice) -> Array:
        """What ``text_encoder`` makes of items, ``[..., V]``, each of them once."""
        rows = jnp.arange(self.num_items)[rows]
        if self.is_initializing():
            width = self.encoder(jnp.zeros((1,), jnp.int32), items).shape[-1]
            return jnp.zeros((*rows.shape, width))
        module, variables = self.encoder.unbind()
        key = self.make_rng("dropout") if self.has_rng("dropout") else None

        def encode(block: Array, number: Array) -> Array:
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
            return jnp.asarray(module.apply(variables, block, items, rngs=rngs))

        return each_once(encode, rows, self.num_items)

    def _project(self, vectors: Array) -> Array:
        for layer in self.layers if self.hidden else ():
            vectors = layer(nn.relu(vectors))
        return self.drop(vectors, deterministic=not self.has_rng("dropout"))

    def _check(self, items: Items) -> None:
        if items.num_items != self.num_items:
            raise ValueError(f"ItemRepresentation.num_items is {self.num_items}, but items has {items.num_items} rows.")
