"""k-means as compiled passes over all vectors, and residual quantisation by it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.models.semantic_ids.ids import SemanticIds
from recjax.models.semantic_ids.quantize import check_codebooks, check_vectors, nearest, residual_codes
from recjax.types import Array


def residual_kmeans(
    vectors: Array, *, levels: int = 3, codebook_size: int = 256, iterations: int = 100, key: Array
) -> SemanticIds:
    """Semantic ids by k-means of item vectors, then of what is left over, and so on.

    Args:
      vectors: ``f32[N, D]`` one vector an item.
      levels: how many codes an id has.
      codebook_size: codes of each level (``K``).
      iterations: passes of Lloyd's algorithm at most; it stops once no centroid moves.
      key: of the k-means++ starts; the same key gives the same ids.

    Returns:
      Ids that several items may share, see :func:`recjax.models.semantic_ids.with_extra_level`.

    Raises:
      ValueError: vectors are not finite or not ``[N, D]``, or levels, codebook_size or iterations
        are out of range.

    References:
      Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023, for
      ids of residual codes; Luo et al., "QARM", 2024, for k-means in place of an RQ-VAE.

    >>> vectors = jnp.array([[0.0, 0.0], [0.0, 1.0], [8.0, 0.0], [8.0, 1.0]])
    >>> ids = residual_kmeans(vectors, levels=2, codebook_size=2, key=jax.random.key(0))
    >>> bool(jnp.allclose(ids.reconstruct(ids.codes), vectors))
    True
    """
    vectors = check_vectors(vectors)
    check_codebooks(len(vectors), levels, codebook_size)
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; it must be at least 1.")
    codebooks = learn_codebooks(key, vectors, levels, codebook_size, iterations)
    return SemanticIds(codes=residual_codes(vectors, codebooks), codebooks=codebooks)


def learn_codebooks(
    key: Array, vectors: Array, levels: int, codebook_size: int, iterations: int = 100
) -> tuple[Array, ...]:
    """``levels`` codebooks ``f32[K, D]``, each by k-means of what the ones before leave of ``vectors``."""
    codebooks, residual = [], vectors
    for level_key in jax.random.split(key, levels):
        start = plus_plus(level_key, residual, codebook_size)
        codebooks.append(lloyd(residual, start, iterations))
        residual = residual - codebooks[-1][nearest(residual, codebooks[-1])]
    return tuple(codebooks)


@functools.partial(jax.jit, static_argnames="k")
def plus_plus(key: Array, vectors: Array, k: int) -> Array:
    """Starts ``f32[k, D]`` of k-means: each is drawn in proportion to the squared distance from those before.

    Where all vectors are among them already, further ones repeat the first vector.

    References:
      Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
    """

    def square_to(index: Array) -> Array:
        return jnp.sum((vectors - vectors[index][None]) ** 2, axis=-1)

    def choose(square: Array, key: Array) -> tuple[Array, Array]:
        index = jax.random.categorical(key, jnp.log(square))
        return jnp.minimum(square, square_to(index)), index

    first_key, key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, len(vectors))
    _, others = lax.scan(choose, square_to(first), jax.random.split(key, k - 1))
    return vectors[jnp.append(first, others)]


@functools.partial(jax.jit, static_argnames="iterations")
def lloyd(vectors: Array, centroids: Array, iterations: int = 100) -> Array:
    """Centroids ``f32[K, D]`` after passes of Lloyd's algorithm over ``f32[N, D]``, until none moves.

    A centroid that no vector is nearest to starts again at one of the vectors that are furthest
    from theirs, as in scikit-learn.

    References:
      Lloyd, "Least squares quantization in PCM", 1982.
    """

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centroids, _, done = state
        moved = _means(vectors, centroids)
        return moved, jnp.any(moved != centroids), done + 1

    start = centroids, jnp.bool_(True), jnp.int32(0)
    return lax.while_loop(lambda state: state[1] & (state[2] < iterations), step, start)[0]


def _means(vectors: Array, centroids: Array) -> Array:
    k = len(centroids)
    codes = nearest(vectors, centroids)
    count = jnp.bincount(codes, length=k)
    mean = jax.ops.segment_sum(vectors, codes, k) / jnp.maximum(count, 1)[:, None]
    square = jnp.sum((vectors - centroids[codes]) ** 2, axis=-1)
    furthest = vectors[lax.top_k(square, k)[1]]
    is_dead = count == 0
    return jnp.where(is_dead[:, None], furthest[jnp.cumsum(is_dead) - 1], mean)
