"""Encoders of item features, one for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.catalogue import lookup_or_zeros
from recjax.nn.adaptors import LinearAdaptor
from recjax.nn.contracts import FeatureEncoder, OncePerItem
from recjax.registry import Registry
from recjax.types import PAD_ID, Array, Feature

feature_encoders: Registry[FeatureEncoder] = Registry("feature encoder")
"""From the kind of a :class:`recjax.types.Feature` to the factory of its encoder, a :class:`FeatureEncoder`."""

Encoders = Mapping[str, FeatureEncoder | OncePerItem]
"""Encoders of single features, by the names of the features."""

feature_encoders.register("vectors", LinearAdaptor)


@feature_encoders.register("multi_hot")
@feature_encoders.register("numeric")
def linear_encoder(*, dim: int, initial_norm: float = 1.0, dtype: Any = jnp.float32, name: str | None = None) -> Any:
    """One linear map ``f32[..., F] -> [..., dim]`` without a bias, see :class:`FeatureEncoder`."""
    return nn.Dense(dim, use_bias=False, dtype=dtype, kernel_init=row_norm(initial_norm), name=name)


class MeanWordEncoder(nn.Module):
    """The mean of trained vectors of words; zeros for a text without a known word.

    Its table is a parameter of the module that it is a part of, as the table of ids is.

    Attributes:
      table: name of that parameter.
      dim: width of the result.
      size: how many words there are.
      initial_norm: about the norm of the vector of a word at the start.
      dtype: of the computation; parameters are float32.
    """

    table: str
    dim: int
    size: int
    initial_norm: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: Array) -> Array:
        """``i32[..., W]`` word ids, padded with ``PAD_ID``, ``-> [..., dim]``."""
        assert isinstance(self.parent, nn.Module)
        nn.share_scope(self.parent, self)
        table = self.param(self.table, row_norm(self.initial_norm), (self.size, self.dim))
        # Word by word: the vectors of all words of all texts, [..., W, dim], need not be written to be added.
        total = jnp.zeros((*values.shape[:-1], self.dim), self.dtype)
        for word in jnp.unstack(values, axis=-1):
            total += lookup_or_zeros(table, word).astype(self.dtype)
        count = jnp.maximum(jnp.sum(values != PAD_ID, axis=-1, keepdims=True), 1)
        return total / count.astype(self.dtype)


@feature_encoders.register("words")
def mean_word_encoder(*, name: str, size: int | None = None, **fields: Any) -> MeanWordEncoder:
    """Makes a :class:`MeanWordEncoder` whose table has the given name.

    Raises:
      ValueError: the feature does not state how many words there are.
    """
    if size is None:
        raise ValueError(f"A feature of kind 'words' ({name}) has no size; give Feature(ids, 'words', size=...).")
    return MeanWordEncoder(name, size=size, name=f"{name}_encoder", **fields)


def row_norm(norm: float) -> nn.initializers.Initializer:
    """Starts tables and linear maps with rows of about that norm."""
    return nn.initializers.variance_scaling(norm**2, "fan_out", "normal")


def parameter_names(features: Mapping[str, Feature], encoders: Encoders) -> dict[str, str]:
    """Where an :class:`recjax.nn.ItemTower` has the parameters that read each feature.

    They stand below the name of the feature's kind; those of "vectors", and of vectors that an encoder of
    ``encoders`` makes once per item, below "adapt". Where items have several features of such a name, the
    name of the feature follows: "multi_hot_genres" and "multi_hot_tags".

    Args:
      features: of the items.
      encoders: those of the tower.
    """

    def of_kind(name: str, feature: Feature) -> str:
        return "adapt" if feature.kind == "vectors" or isinstance(encoders.get(name), OncePerItem) else feature.kind

    kinds = {name: of_kind(name, feature) for name, feature in features.items()}
    count = Counter(kinds.values())
    return {name: kind if count[kind] == 1 else f"{kind}_{name}" for name, kind in kinds.items()}
