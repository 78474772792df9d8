"""Means over a part of a batch."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean of the values where the mask is True, ``f32[]``; 0 with a zero gradient where it is nowhere.

    Values where it is False may be anything, NaN included; no gradient reaches them.

    >>> masked_mean(jnp.array([1.0, 4.0, jnp.nan]), jnp.array([True, True, False])).item()
    2.5

    Args:
      values: ``f32[...]``.
      mask: ``bool`` of the same shape.

    Raises:
      ValueError: the shapes differ, or the mask is not boolean.
    """
    if mask.shape != values.shape or mask.dtype != jnp.bool_:
        raise ValueError(f"mask must be bool{values.shape}, one a value; got {mask.dtype}{mask.shape}.")
    return jnp.where(mask, values, 0).sum() / jnp.maximum(mask.sum(), 1)
