"""Sums, maxima and cross-entropies over every item, and their gradients, block by block.

A reduction is a monoid: a summary of one block, and how two summaries merge. Its
derivative by a score follows from the score and the result, so the backward pass scores
the blocks again: neither direction ever holds more than a block of scores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.catalogue.block_scores import block_size_of, reduce_scores
from recjax.catalogue.gradient import differentiable
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.kernels import block_max
from recjax.catalogue.plan import Plan
from recjax.catalogue.search import argmax
from recjax.types import Array, PyTree


def max_score(
    queries: PyTree,
    items: Catalogue,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """The best score of each query, ``f32[B]``; ``-inf`` when every item is excluded.

    The gradient is that of the score of :func:`argmax`. The arguments are those of :func:`top_k`.
    """
    return differentiable(_Max, queries, items, exclude, block_size_of(items, queries, block_size, plan))


def mean_score(
    queries: PyTree,
    items: Catalogue,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """The mean score of each query over the items that are not excluded, ``f32[B]``.

    NaN when every item is excluded. The arguments are those of :func:`top_k`.
    """
    return differentiable(_Mean, queries, items, exclude, block_size_of(items, queries, block_size, plan))


def logsumexp(
    queries: PyTree,
    items: Catalogue,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """``log Σ_i exp(score_i)`` over the items that are not excluded, ``f32[B]``.

    ``-inf`` when every item is excluded, ``+inf`` when a score is; a score of ``+inf`` has no
    gradient but NaN. The arguments are those of :func:`top_k`.

    >>> logsumexp(jnp.array([[0.0]]), jnp.ones((8, 1)))
    Array([2.079...], dtype=float32)
    """
    return differentiable(_LogSumExp, queries, items, exclude, block_size_of(items, queries, block_size, plan))


def softmax_cross_entropy(
    queries: PyTree,
    items: Catalogue,
    labels: Array,
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """``-log softmax(scores)[label]`` over the whole catalogue, ``f32[B]``.

    The gradient by the items is dense, one row an item, as that of a softmax is; for
    catalogues where this is too much see :mod:`recjax.losses`.

    Args:
      queries: see :func:`top_k`.
      items: the catalogue.
      labels: ``i32[B]``; the loss of a label outside the catalogue, such as ``PAD_ID``, is 0.
      exclude: ``i32[B, E]`` items that are no class; it must not hold the label.
      block_size: see :func:`top_k`.
      plan: see :func:`top_k`.

    >>> softmax_cross_entropy(jnp.array([[0.0], [0.0]]), jnp.ones((8, 1)), jnp.array([3, -1]))
    Array([2.079..., 0.       ], dtype=float32)
    """
    known = (labels >= 0) & (labels < as_scorer(items).num_items)
    score = score_at(queries, items, jnp.where(known, labels, 0)[:, None])[:, 0]
    normaliser = logsumexp(queries, items, exclude=exclude, block_size=block_size, plan=plan)
    return jnp.where(known, normaliser - score, 0.0)


def score_at(queries: PyTree, items: Catalogue, ids: Array) -> Array:
    """The scores of given items, differentiable in queries and items.

    Args:
      queries: see :func:`top_k`.
      items: the catalogue.
      ids: ``i32[B, M]``.

    Returns:
      ``f32[B, M]``; ``-inf``, with zero gradient, for ids outside the catalogue.
    """
    scorer = as_scorer(items)
    known = (ids >= 0) & (ids < scorer.num_items)
    scores = scorer.score_ids(queries, jnp.where(known, ids, 0)).astype(jnp.float32)
    return jnp.where(known, scores, -jnp.inf)


class _Max:
    """The largest score."""

    @staticmethod
    def value(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> Array:
        return reduce_scores(lambda scores, _: block_max(scores), jnp.maximum, queries, items, exclude, size)

    @staticmethod
    def residual(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> tuple[Array, Array]:
        ids = argmax(queries, items, exclude=exclude, block_size=size)
        return score_at(queries, items, ids[:, None])[:, 0], ids

    @staticmethod
    def weights(scores: Array, start: Array | int, ids: Array) -> Array:
        return (jnp.arange(scores.shape[-1])[None] == (ids - start)[:, None]).astype(jnp.float32)


class _Mean:
    """The mean of the scores above ``-inf``."""

    @staticmethod
    def value(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> Array:
        return _Mean.residual(queries, items, exclude, size)[0]

    @staticmethod
    def residual(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> tuple[Array, Array]:
        def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
            counts = scores != -jnp.inf
            return jnp.where(counts, scores, 0.0).sum(-1), counts.sum(-1, dtype=jnp.float32)

        add = lambda earlier, later: jax.tree.map(jnp.add, earlier, later)  # noqa: E731
        total, count = reduce_scores(summarise, add, queries, items, exclude, size)
        return total / count, count

    @staticmethod
    def weights(scores: Array, start: Array | int, count: Array) -> Array:
        return (scores != -jnp.inf) / count[:, None]


class _LogSumExp:
    """The logarithm of the sum of exponentials, as ``(maximum, sum relative to it)``."""

    @staticmethod
    def value(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> Array:
        def summarise(scores: Array, start: Array | int) -> tuple[Array, Array]:
            top = scores.max(-1)
            return top, jnp.sum(jnp.exp(scores - finite(top)[:, None]), axis=-1)

        def merge(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
            top = jnp.maximum(earlier[0], later[0])
            rescaled = (total * jnp.exp(finite(old) - finite(top)) for old, total in (earlier, later))
            return top, sum(rescaled, start=jnp.zeros_like(top))

        top, total = reduce_scores(summarise, merge, queries, items, exclude, size)
        return finite(top) + jnp.log(total)

    @staticmethod
    def residual(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> tuple[Array, Array]:
        value = _LogSumExp.value(queries, items, exclude, size)
        return value, value

    @staticmethod
    def weights(scores: Array, start: Array | int, value: Array) -> Array:
        return jnp.where(scores == -jnp.inf, 0.0, jnp.exp(scores - value[:, None]))


def finite(top: Array) -> Array:
    """Where nothing is left, or a score is infinite, exponentials are taken relative to 0."""
    return jnp.where(jnp.isinf(top), 0.0, top)
