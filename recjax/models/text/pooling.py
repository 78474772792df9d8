"""One vector of a text from those of its tokens."""

from __future__ import annotations

from typing import Literal, get_args

import jax.numpy as jnp

from recjax.types import Array

Pooling = Literal["mean", "cls", "last"]
"""The mean of the tokens that are there, the first of them, or the last."""


def pool(hidden: Array, mask: Array, pooling: Pooling = "mean") -> Array:
    """Pools hidden states; where the padding is, and what stands there, does not matter.

    Args:
      hidden: ``[B, T, D]``.
      mask: ``bool[B, T]``, True at tokens that are there.
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
