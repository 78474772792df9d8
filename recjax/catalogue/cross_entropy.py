"""The mean cross-entropy of a softmax over the whole catalogue, with its gradient in the same pass.

A few rows at a time are scored against every item; their part of the gradient is taken while the scores
are in a cache, so that a training step scores the catalogue once where :func:`softmax_cross_entropy`
scores it twice. Rows without a label are left out of the work, not only of the mean.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue.block_scores import batch_of
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.gradient import as_cotangent, floating
from recjax.catalogue.items import Catalogue, ItemIndex, as_scorer
from recjax.catalogue.plan import Plan, plan_for
from recjax.catalogue.reduce import finite, softmax_cross_entropy
from recjax.types import Array, PyTree

FEWEST_ROWS = 64
"""Rows that are worth a pass of their own; a catalogue of which fewer fit goes block by block."""


def mean_softmax_cross_entropy(queries: Array, items: Catalogue, labels: Array, *, plan: Plan | None = None) -> Array:
    """The mean of :func:`softmax_cross_entropy` over the rows whose label is in the catalogue, ``f32[]``.

    Args:
      queries: ``[B, D]``, or what a :class:`BlockScorer` scores.
      items: the catalogue.
      labels: ``i32[B]``; a label outside the catalogue, such as ``PAD_ID``, is none.
      plan: see :func:`top_k`; as many rows are scored at once as it allows scores.

    Returns:
      ``f32[]``; 0 with a zero gradient where no row has a label.

    >>> mean_softmax_cross_entropy(jnp.array([[0.0], [0.0]]), jnp.ones((8, 1)), jnp.array([3, -1]))
    Array(2.079..., dtype=float32)
    """
    index = as_scorer(items)
    plan = plan or plan_for(index.num_items, batch_of(queries))
    labels = jnp.where((labels >= 0) & (labels < index.num_items), labels, -1)
    rows = plan.scores_at_once // index.num_items
    if not len(labels):
        return jnp.zeros(())
    if not isinstance(index, ItemIndex) or rows < FEWEST_ROWS:
        losses = softmax_cross_entropy(queries, index, labels, plan=plan)
        return losses.sum() / jnp.maximum((labels >= 0).sum(), 1)
    return _mean(min(rows, len(labels)), queries, index, labels)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean(rows: int, queries: Array, index: ItemIndex, labels: Array) -> Array:
    return _pass(rows, queries, index, labels, with_gradient=False)[0]


def _forward(rows: int, queries: Array, index: ItemIndex, labels: Array) -> tuple[Array, tuple]:
    value, by_queries, by_index = _pass(rows, queries, index, labels, with_gradient=True)
    return value, (by_queries, by_index, index)


def _backward(rows: int, residuals: tuple, cotangent: Array) -> tuple:
    by_queries, by_index, index = residuals
    scaled = [(cotangent * leaf).astype(leaf.dtype) for leaf in by_index]
    return (cotangent * by_queries).astype(by_queries.dtype), as_cotangent(index, scaled), None


_mean.defvjp(_forward, _backward)


def _pass(
    rows: int, queries: Array, index: ItemIndex, labels: Array, *, with_gradient: bool
) -> tuple[Array, Array, list[Array]]:
    """The mean and, where wanted, its derivatives by the queries and by what floats in the index."""
    count = (labels >= 0).sum()
    order = jnp.argsort(labels < 0, stable=True)  # rows with a label first
    spare = -len(labels) % rows
    labels = jnp.pad(labels[order], (0, spare), constant_values=-1)
    # Whatever stands where there is no label, NaN too, has no part in a product.
    sorted_queries = jnp.where(labels[:, None] >= 0, jnp.pad(queries[order], ((0, spare), (0, 0))), 0)
    leaves, with_leaves = floating(index)

    def scores(q: Array, leaves: list[Array]) -> Array:
        return with_leaves(leaves).scores(q).astype(jnp.float32)

    def evaluate(chunk: Rows) -> tuple[Array, Any, Array | int]:
        q, label = (lax.dynamic_slice_in_dim(part, chunk.start, rows) for part in (sorted_queries, labels))
        weight = (label >= 0) / jnp.maximum(count, 1).astype(jnp.float32)
        found, pull = jax.vjp(scores, q, leaves)
        top = finite(found.max(-1))
        share = jnp.exp(found - top[:, None])
        normalizer = share.sum(-1)
        own = jnp.take_along_axis(found, jnp.maximum(label, 0)[:, None], axis=-1)[:, 0]
        loss = jnp.where(label >= 0, jnp.log(normalizer) + top - own, 0.0)
        total = (loss * weight).sum()
        if not with_gradient:
            return total, None, chunk.start
        is_own = label[:, None] == jnp.arange(found.shape[-1])[None]
        by_scores = share * (weight / normalizer)[:, None] - jnp.where(is_own, weight[:, None], 0.0)
        return total, pull(by_scores), chunk.start

    def add(sums: tuple[Array, Array, PyTree], found: tuple[Array, Any, Array | int]) -> tuple[Array, Array, PyTree]:
        (total, by_queries, by_leaves), (part, gradients, start) = sums, found
        if not with_gradient:
            return total + part, by_queries, by_leaves
        by_q, by_leaf = gradients
        by_queries = lax.dynamic_update_slice_in_dim(by_queries, by_q, start, 0)
        return total + part, by_queries, jax.tree.map(jnp.add, by_leaves, by_leaf)

    zeros: Any = (jnp.zeros(()), jnp.zeros_like(sorted_queries), [jnp.zeros_like(leaf) for leaf in leaves])
    total, by_queries, by_leaves = reduce_rows(evaluate, add, Blocks(len(labels), rows), init=zeros, upto=count)
    return total, by_queries[jnp.argsort(order)], by_leaves
