"""Residual quantisation: a vector as one code a level, each the nearest to what the levels before left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from recjax.catalogue.plan import scores_at_once
from recjax.types import Array


def nearest(vectors: Array, codebook: Array) -> Array:
    """The code nearest to each vector by squared distance, the lowest of equals.

    Args:
      vectors: ``f32[M, D]``.
      codebook: ``f32[K, D]``.

    Returns:
      ``i32[M]``. At most a block of the ``M K`` distances exists at once.
    """
    # What all codes have in common would cancel, and take the digits with it in which they differ.
    centre = codebook.mean(axis=0, keepdims=True)
    codebook, vectors = codebook - centre, vectors - centre
    # |v - c|² = |v|² - 2 (<v, c> - |c|² / 2), and |v|² is the same for all codes.
    half_square = jnp.sum(codebook**2, axis=-1) / 2
    size = min(len(vectors), max(1, scores_at_once() // len(codebook)))

    def nearest_to(vector: Array) -> Array:
        return jnp.argmax(jnp.matmul(codebook, vector, precision="highest") - half_square)

    return lax.map(nearest_to, vectors, batch_size=size or None).astype(jnp.int32)


def levels_of(vectors: Array, codebooks: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    """What every level is given, ``f32[M, D]``, and the codes it chooses, ``i32[M]``, from the first level on."""
    residual = vectors
    for codebook in codebooks:
        codes = nearest(lax.stop_gradient(residual), codebook)
        yield residual, codes
        residual = residual - codebook[codes]


def residual_codes(vectors: Array, codebooks: Sequence[Array]) -> Array:
    """``i32[M, levels]``: ``c_l = argmin_k |r_l - e_l,k|²`` with ``r_1 = v`` and ``r_{l+1} = r_l - e_l,c_l``.

    >>> codebooks = (jnp.array([[0.0], [8.0]]), jnp.array([[-1.0], [1.0]]))
    >>> residual_codes(jnp.array([[0.9], [7.2]]), codebooks).tolist()
    [[0, 1], [1, 0]]
    """
    return jnp.stack([codes for _, codes in levels_of(vectors, codebooks)], axis=-1)


def sum_of_codes(codes: Array, codebooks: Sequence[Array]) -> Array:
    """``f32[M, D]``: ``Σ_l e_l,c_l``, what codes ``i32[M, levels]`` stand for."""
    parts = [codebook[codes[..., level]] for level, codebook in enumerate(codebooks)]
    return jnp.stack(parts).sum(0)


def check_vectors(vectors: Array, name: str = "vectors") -> Array:
    """Item vectors as ``f32[N, D]``.

    Raises:
      ValueError: they have another shape, or are not finite.
    """
    found = np.asarray(vectors, np.float32)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{name} must have shape [N, D] with N and D of at least 1; got {found.shape}.")
    finite = np.isfinite(found).all(axis=-1)
    if not finite.all():
        raise ValueError(f"{name}: row {np.argmin(finite)} has NaN or infinite numbers; leave such items out.")
    return jnp.asarray(found)


def check_codebooks(num_vectors: int, levels: int, codebook_size: int) -> None:
    """Checks the number and size of codebooks that are to be learned of so many vectors.

    Raises:
      ValueError: there is no level, or a codebook has fewer than 2 codes or more than there are vectors.
    """
    if levels < 1:
        raise ValueError(f"levels is {levels}; it must be at least 1.")
    if not 2 <= codebook_size <= num_vectors:
        raise ValueError(
            f"codebook_size is {codebook_size}; it must lie in 2 .. {num_vectors}, the number of vectors to learn from."
        )
