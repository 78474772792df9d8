"""Vectors of items: normalisation, and eight bits a number."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array


def normalize(x: Array, axis: int = -1) -> Array:
    """``x`` divided by its Euclidean norm along ``axis``, in the dtype of ``x``.

    The norm is computed in float32. A zero vector (norm below 1e-18) gives zeros and a
    zero gradient, where ``x / norm`` would give NaN.

    >>> normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.600..., 0.800...], [0.0, 0.0]]
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * inverse_norm(wide, axis)).astype(x.dtype)


def inverse_norm(x: Array, axis: int = -1) -> Array:
    """``1 / ‖x‖`` with ``axis`` kept, 0 with a zero gradient where the norm is below 1e-18."""
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    is_zero = square < 1e-36
    # The inner `where` keeps an infinite derivative from becoming NaN when it meets a zero.
    return jnp.where(is_zero, 0.0, 1.0 / jnp.sqrt(jnp.where(is_zero, 1.0, square)))


def quantize(vectors: Array) -> tuple[Array, Array]:
    """Eight-bit vectors: each row over the scale that maps its largest number to 127.

    Args:
      vectors: ``[N, D]``.

    Returns:
      ``(codes i8[N, D], scale f32[N])`` with ``codes * scale[:, None]`` the vectors up to
      ``scale / 2`` a number.
    """
    wide = vectors.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), axis=-1) / 127
    codes = jnp.round(wide / jnp.where(scale > 0, scale, 1.0)[:, None])
    return codes.astype(jnp.int8), scale
