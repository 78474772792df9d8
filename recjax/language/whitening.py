"""Whitening of text embeddings: decorrelated, with equal variance in all directions."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Whitening:
    """An affine map to white vectors, fitted by :func:`fit_whitening` on a catalogue, for new items too.

    Attributes:
      mean: ``f32[V]``, subtracted.
      kernel: ``f32[V, D]``, multiplied by.
    """

    mean: np.ndarray
    kernel: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """``f32[..., D]`` of ``[..., V]``: of norm 1 on average over the texts that it was fitted to."""
        return (vectors - self.mean) @ self.kernel


def fit_whitening(vectors: np.ndarray, dim: int | None = None) -> Whitening:
    """Fits the map after which the vectors of a catalogue have mean 0 and covariance ``I / D``.

    Embeddings of texts of one kind are anisotropic: the vectors of two films differ by little, in few directions.
    Whitened, all directions count the same.

    Args:
      vectors: ``[N, V]``, such as :func:`recjax.language.encode` gives.
      dim: ``D``, of how many directions of the largest variance the result has; by default all in which
        the vectors differ.

    Raises:
      ValueError: a vector is not finite, or they differ in fewer than ``dim`` directions.

    References:
      Su et al., "Whitening Sentence Representations for Better Semantics and Faster Retrieval", 2021.

    >>> x = np.random.default_rng(0).normal(size=(1000, 3)) * [5.0, 1.0, 0.1] + 7
    >>> white = fit_whitening(x, dim=2)(x)
    >>> np.round(2 * np.cov(white.T), 3).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    vectors = np.asarray(vectors, np.float64)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise ValueError(f"Vector {broken[0]} is not finite; leave out the texts of {len(broken)} such vectors.")
    mean = vectors.mean(axis=0)
    covariance = (vectors - mean).T @ (vectors - mean) / max(len(vectors) - 1, 1)
    values, directions = np.linalg.eigh(covariance)
    values, directions = values[::-1], directions[:, ::-1]
    # Differences of float32 vectors by rounding alone span no direction.
    rounding = (1e-6 * np.abs(vectors).max(initial=0.0)) ** 2
    rank = int((values > max(1e-6 * values[0], rounding)).sum())
    dim = rank if dim is None else dim
    if not 1 <= dim <= rank:
        raise ValueError(f"dim is {dim}; {len(vectors)} vectors that differ in {rank} directions allow 1 to {rank}.")
    kernel = directions[:, :dim] / np.sqrt(dim * values[:dim])
    return Whitening(mean.astype(np.float32), kernel.astype(np.float32))
