"""Vectors of items, from their ids and features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from recjax.catalogue import is_followed, lookup
from recjax.nn.adaptors import adaptors
from recjax.nn.contracts import FeatureEncoder, OncePerItem
from recjax.nn.features import feature_encoders, parameter_names, row_norm
from recjax.nn.in_blocks import each_once
from recjax.types import PAD_ID, Array, Feature, Items, PyTree

Fusion = Literal["sum", "residual", "gate"]
"""How an item's id joins what the item is described by."""


class ItemTower(nn.Module):
    """An item as its id and its description, which is the sum of its encoded features in the order of their names.

    Every feature of ``items`` is encoded by the encoder of its kind (``recjax.nn.feature_encoders``) or by that of
    its name in ``encoders``; give ``items.without_features()`` to represent items by ids alone. Where parameters
    stand is said at :func:`recjax.nn.features.parameter_names`. Ids follow
    :mod:`recjax.types`: item ``N`` is any item outside the vocabulary and has a trained
    vector of its own; ``PAD_ID`` has the zero vector and gets no gradient.

    Id and description are joined by ``fusion``:

    * "sum" adds them.
    * "residual" adds them, and the vectors of ids are zero at the start: an item without a log is its
      description alone.
    * "gate" weighs every number of the two, ``g * id + (1 - g) * description`` with
      ``g = sigmoid(W [id, description] + b)``.

    Attributes:
      num_items: items in the catalogue (``N``).
      dim: width of the vectors.
      use_id: whether every item has a vector of its own; False for representations that
        carry over to new items.
      encoders: encoders of single features in the place of those of their kinds, by the names of the
        features; :class:`OncePerItem` for those that cost much, such as a language model
        (:func:`recjax.language.text_tower`).
      adaptor: brings vectors of pretrained models (features of kind "vectors", and those that :class:`OncePerItem`
        makes) to ``dim``: a name in ``recjax.nn.adaptors``, or a function that makes a module.
      fusion: how id and description are joined, see above.
      id_dropout: share of items whose id is left out where a ``dropout`` key is given, so that
        descriptions learn to stand for themselves (Volkovs et al., "DropoutNet", NeurIPS 2017).
      initial_norm: about the norm of the vector of every feature at the start, the same for
        all, so that none drowns the others. Smaller ones are moved further by the same steps. Encoders of histories
        are given vectors divided by it, so that it sets how fast items learn and nothing else.
      hidden: widths of ReLU layers between the sum and the result; empty for the sum itself.
      dropout: share of the numbers of the vectors that are dropped where a ``dropout`` key is given, those of
        the whole catalogue among them.
      dtype: of the computation; parameters are float32.
    """

    num_items: int
    dim: int = 32
    use_id: bool = True
    encoders: Mapping[str, FeatureEncoder | OncePerItem] = FrozenDict()
    adaptor: str | Callable[..., nn.Module] = "linear"
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
            raise ValueError(f"ItemTower.fusion is {self.fusion!r}; choose one of {get_args(Fusion)}.")
        of_ids = nn.initializers.zeros if self.fusion == "residual" else row_norm(self.initial_norm)
        # The last two rows are the item outside the vocabulary and padding, which is never read.
        self.embedding = self.param("embedding", of_ids, (self.num_items + 2 if self.use_id else 1, self.dim))
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

        Raises:
          ValueError: the items, or the rows of a feature, are not ``num_items``, or a feature has no encoder.
        """
        self._check(items)
        if ids.size > self.num_items and not self._any_once_per_item(items) and not is_followed(self.embedding):
            known = self.all(items)
            unknown = self._project(self._id_vectors(jnp.full((1,), self.num_items)))
            # The row of padding is the last, which is where -1 points.
            return jnp.concatenate([known, unknown, jnp.zeros_like(unknown)])[ids]
        is_item = (ids != PAD_ID) & (ids < self.num_items)
        described = self._description(items, jnp.where(is_item, ids, 0))
        vectors = self._project(self._joined(self._id_vectors(ids), described, is_item[..., None]))
        return jnp.where((ids != PAD_ID)[..., None], vectors, 0)

    def together(self, ids: Sequence[Array], items: Items) -> list[Array]:
        """Vectors of several arrays of items; :class:`OncePerItem` encodes an item that is in many of them once."""
        if not self._any_once_per_item(items):
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
        own = jnp.where(is_item, self.drop_ids(of_ids, deterministic=not self.has_rng("dropout")), of_ids)
        described = jnp.where(is_item, described, 0)
        if self.fusion != "gate" or not self.use_id:
            return own + described
        g = nn.sigmoid(self.gate(jnp.concatenate([own, described], axis=-1)))
        return jnp.where(is_item, g * own + (1 - g) * described, of_ids)

    @nn.compact
    def _description(self, items: Items, rows: Array | slice) -> Array | None:
        """The sum of the encoded features of items; None where they have none."""
        names = parameter_names(items.features, self.encoders)
        terms = [self._encoded(name, items.features[name], names[name], rows) for name in sorted(items.features)]
        return sum(terms[1:], start=terms[0]) if terms else None

    def _encoded(self, name: str, feature: Feature, parameters: str, rows: Array | slice) -> Array:
        """The vectors ``[..., dim]`` that one feature of items becomes."""
        fields: dict[str, Any] = {"dim": self.dim, "initial_norm": self.initial_norm, "dtype": self.dtype}
        make = self._encoder_of(name, feature)
        if isinstance(make, OncePerItem):
            # Its parameters are named as those of the adaptor are: "encoder" beside "adapt".
            encoder = make.make(dtype=self.dtype, name=parameters.replace("adapt", "encoder", 1))
            return self._adaptor(**fields, name=parameters)(self._once_per_item(encoder, feature.values, rows))
        if feature.size is not None:
            fields["size"] = feature.size
        return make(**fields, name=parameters)(_rows(feature.values, rows))

    def _encoder_of(self, name: str, feature: Feature) -> Any:
        if name in self.encoders:
            return self.encoders[name]
        if feature.kind == "vectors":
            return self._adaptor
        if feature.kind in feature_encoders:
            return feature_encoders[feature.kind]
        raise ValueError(
            f"The feature {name!r} of the items is of kind {feature.kind!r}, which has no encoder; give"
            f" ItemTower(encoders={{{name!r}: ...}}), register one in nn.feature_encoders, or leave the feature out."
            f" Registered: {', '.join(feature_encoders)}."
        )

    @property
    def _adaptor(self) -> Callable[..., nn.Module]:
        return adaptors[self.adaptor] if isinstance(self.adaptor, str) else self.adaptor

    def _once_per_item(self, encoder: nn.Module, values: PyTree, rows: Array | slice) -> Array:
        """What a costly encoder makes of items, ``[..., V]``, each of them once."""
        rows = jnp.arange(self.num_items)[rows]
        if self.is_initializing():
            width = encoder(_rows(values, jnp.zeros((1,), jnp.int32))).shape[-1]
            return jnp.zeros((*rows.shape, width))
        module, variables = encoder.unbind()
        key = self.make_rng("dropout") if self.has_rng("dropout") else None

        def encode(block: Array, number: Array) -> Array:
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
            return jnp.asarray(module.apply(variables, _rows(values, block), rngs=rngs))

        return each_once(encode, rows, self.num_items)

    def _any_once_per_item(self, items: Items) -> bool:
        return any(isinstance(self.encoders.get(name), OncePerItem) for name in items.features)

    def _project(self, vectors: Array) -> Array:
        for layer in self.layers if self.hidden else ():
            vectors = layer(nn.relu(vectors))
        return self.drop(vectors, deterministic=not self.has_rng("dropout"))

    def _check(self, items: Items) -> None:
        if items.num_items != self.num_items:
            raise ValueError(f"ItemTower.num_items is {self.num_items}, but items has {items.num_items} rows.")
        for name, feature in items.features.items():
            shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(feature.values)]
            if not shapes or any(shape[:1] != (self.num_items,) for shape in shapes):
                raise ValueError(
                    f"The feature {name!r} has values of shape {', '.join(map(str, shapes)) or None}; it needs one row"
                    f" for each of the {self.num_items} items."
                )
        absent = sorted(set(self.encoders) - set(items.features))
        if absent:
            raise ValueError(
                f"ItemTower.encoders has {absent}, but the items have the features {sorted(items.features)};"
                " give the items those features, or leave their encoders out."
            )


def _rows(values: PyTree, rows: Array | slice) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], values)
