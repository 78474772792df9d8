"""Pooling of hidden states into one vector a text."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax.numpy as jnp

from recjax.language.transformer import Transformer
from recjax.types import Array, PyTree

Pooling = Literal["mean", "cls", "last"]
"""Of the tokens of a text without padding: their mean, the first, or the last."""


def pool(hidden: Array, mask: Array, pooling: Pooling = "mean") -> Array:
    """Pools hidden states over the tokens of each text; neither the place nor the content of padding matters.

    Args:
      hidden: ``[B, T, D]``.
      mask: ``bool[B, T]``, False at padding.
      pooling: see :data:`Pooling`. Encoders trained on pairs of sentences say which in their
        ``1_Pooling/config.json``; decoders have seen the whole text only at the last token.

    Returns:
      ``f32[B, D]``; zeros for a text without tokens.

    Raises:
      ValueError: ``pooling`` is not one of them.

    >>> hidden = jnp.array([[[1.0], [2.0], [9.0]]])
    >>> mask = jnp.array([[True, True, False]])
    >>> [pool(hidden, mask, how).item() for how in ("mean", "cls", "last")]
    [1.5, 1.0, 2.0]
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling is {pooling!r}; choose one of {get_args(Pooling)}.")
    present = mask[:, :, None]
    hidden = jnp.where(present, hidden, 0).astype(jnp.float32)
    if pooling == "mean":
        return jnp.sum(hidden, axis=1) / jnp.maximum(jnp.sum(present, axis=1), 1)
    length = mask.shape[1]
    index = jnp.argmax(mask, axis=1) if pooling == "cls" else length - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return jnp.take_along_axis(hidden, index[:, None, None], axis=1)[:, 0]


def pooled(
    module: Transformer, params: PyTree, ids: Array, mask: Array, pooling: Pooling = "mean", **apply: Any
) -> Array:
    """Text embeddings ``f32[B, D]``, differentiable in ``params``, for losses of any kind.

    >>> import jax
    >>> from recjax import language
    >>> shape = {"dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 16}
    >>> module = language.Transformer(language.LanguageConfig("bert", vocab_size=50, max_length=9, **shape))
    >>> ids = jnp.array([[3, 1, 4], [1, 5, 0]])
    >>> params = module.init(jax.random.key(0), ids)
    >>> pooled(module, params, ids, ids > 0).shape
    (2, 8)

    Args:
      module: the encoder.
      params: of the module.
      ids: ``i32[B, T]``.
      mask: ``bool[B, T]``.
      pooling: see :func:`pool`.
      **apply: further arguments of Flax's ``apply``, such as ``rngs={"dropout": key}``.
    """
    hidden: Any = module.apply(params, ids, mask, **apply)
    return pool(hidden, mask, pooling)
