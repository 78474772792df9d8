"""Derivatives of reductions over a catalogue, without storing the scores of any block.

A reduction to one number a query is known here by three functions: its value, what the
backward pass needs besides the scores (the residual), and its derivative by each score of
a block (the weights). The backward pass scores every block again and pulls the weights back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recjax.catalogue.block_scores import arrange_excluded, masked
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.items import Catalogue, ItemIndex, as_scorer
from recjax.catalogue.scorer import BlockScorer, Scorer
from recjax.types import Array, PyTree


class Reduction(Protocol):
    """What a differentiable reduction consists of; blocks have ``size`` items."""

    @staticmethod
    def value(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> Array:
        """The result, ``f32[B]``."""

    @staticmethod
    def residual(queries: PyTree, items: Catalogue, exclude: Array | None, size: int) -> tuple[Array, Array]:
        """The result, and an array ``[B]`` that :meth:`weights` is given."""

    @staticmethod
    def weights(scores: Array, start: Array | int, residual: Array) -> Array:
        """Derivatives ``f32[B, size]`` of the result by the scores of items from ``start``."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Pass:
    """A reduction apart from the arrays that it is differentiated by.

    ``sliced`` arrays have a leading item axis, and their gradient is written block by block;
    ``closed`` arrays are those that a :class:`BlockScorer` closes over, each of them whole.
    """

    reduction: type[Reduction]
    num_items: int
    size: int
    score: Callable[[PyTree, PyTree, PyTree, Array | int], Array]

    def items(self, sliced: PyTree, closed: PyTree) -> Scorer:
        if isinstance(sliced, ItemIndex):
            return sliced

        def of_block(queries: PyTree, start: Array | int, size: int) -> Array:
            return self.score(queries, (), closed, start)

        return BlockScorer(of_block, self.num_items, block_size=self.size)


def differentiable(
    reduction: type[Reduction], queries: PyTree, items: Catalogue, exclude: Array | None, size: int
) -> Array:
    """The reduction, differentiable by queries and by the arrays of the catalogue.

    The gradient by an array that a :class:`BlockScorer` closes over is added up over the
    blocks, each time for the whole array.
    """
    scorer = as_scorer(items)
    if isinstance(scorer, ItemIndex):
        one_pass = _Pass(reduction, scorer.num_items, size, lambda queries, block, closed, start: block.scores(queries))
        return _reduce(one_pass, queries, scorer, (), exclude)
    traced = jax.make_jaxpr(lambda queries, start: scorer.score_block(queries, start, size))(queries, jnp.int32(0))

    def score(queries: PyTree, block: tuple, closed: list[Array], start: Array | int) -> Array:
        arguments = *jax.tree.leaves(queries), jnp.asarray(start, jnp.int32)
        return jax.core.eval_jaxpr(traced.jaxpr, closed, *arguments)[0]

    return _reduce(_Pass(reduction, scorer.num_items, size, score), queries, (), traced.consts, exclude)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce(one_pass: _Pass, queries: PyTree, sliced: PyTree, closed: PyTree, exclude: Array | None) -> Array:
    return one_pass.reduction.value(queries, one_pass.items(sliced, closed), exclude, one_pass.size)


def _forward(
    one_pass: _Pass, queries: PyTree, sliced: PyTree, closed: PyTree, exclude: Array | None
) -> tuple[Array, tuple]:
    value, residual = one_pass.reduction.residual(queries, one_pass.items(sliced, closed), exclude, one_pass.size)
    return value, (queries, sliced, closed, exclude, residual)


def _backward(one_pass: _Pass, residuals: tuple, cotangent: Array) -> tuple:
    queries, sliced, closed, exclude, residual = residuals
    num_items, size = one_pass.num_items, one_pass.size
    arranged = arrange_excluded(exclude, size, num_items)

    def evaluate(rows: Rows) -> tuple[list, list, list, Array | int]:
        """Gradients of what floats in queries, block and closed arrays."""
        block = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, rows.start, size), sliced)
        (q, with_q), (b, with_b), (c, with_c) = map(floating, (queries, block, closed))

        def scores(q: list, b: list, c: list) -> Array:
            return one_pass.score(with_q(q), with_b(b), with_c(c), rows.start).astype(jnp.float32)

        found, pull = jax.vjp(scores, q, b, c)
        # Masked beside the scores: long lists are looked up by a loop, which has no derivative in reverse.
        left = masked(found, rows, arranged)
        weights = jnp.where(left == -jnp.inf, 0.0, one_pass.reduction.weights(left, rows.start, residual))
        return *pull(cotangent[:, None] * weights), rows.start

    def add(sums: tuple[list, ...], found: tuple[list, list, list, Array | int]) -> tuple[list, ...]:
        q, b, c, start = found

        def write(whole: Array, part: Array) -> Array:
            there = lax.dynamic_slice_in_dim(whole, start, size)
            return lax.dynamic_update_slice_in_dim(whole, there + part, start, 0)

        return jax.tree.map(jnp.add, sums[0], q), jax.tree.map(write, sums[1], b), jax.tree.map(jnp.add, sums[2], c)

    trees = queries, sliced, closed
    # One block is the whole gradient; nothing is added to it.
    zeros = tuple([jnp.zeros_like(leaf) for leaf in floating(tree)[0]] for tree in trees) if size < num_items else None
    gradients = reduce_rows(evaluate, add, Blocks(num_items, size), init=zeros)[:3]
    return *(as_cotangent(tree, floats) for tree, floats in zip(trees, gradients, strict=True)), None


_reduce.defvjp(_forward, _backward)


def floating(tree: PyTree) -> tuple[list[Array], Callable[[list[Array]], PyTree]]:
    """The leaves that can be differentiated by, and how to put others in their place."""
    leaves, treedef = jax.tree.flatten(tree)
    floats = [i for i, leaf in enumerate(leaves) if _floats(leaf)]

    def rebuild(values: list[Array]) -> PyTree:
        replaced = dict(zip(floats, values, strict=True))
        return jax.tree.unflatten(treedef, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in floats], rebuild


def as_cotangent(tree: PyTree, floats: list[Array]) -> PyTree:
    """Gradients in the shape of ``tree``, with JAX's zero of type float0 for the other leaves."""
    remaining = iter(floats)
    return jax.tree.map(
        lambda leaf: next(remaining) if _floats(leaf) else np.zeros(np.shape(leaf), jax.dtypes.float0), tree
    )


def _floats(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
