"""Expectations under a softmax over every item, block by block: entropies, divergences and soft values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.catalogue.block_scores import arrange_excluded, block_size_of, masked
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.plan import Plan
from recjax.catalogue.reduce import finite
from recjax.types import Array, PyTree


def softmax_mean(
    logits: tuple[PyTree, Catalogue],
    values: tuple[PyTree, Catalogue],
    *,
    exclude: Array | None = None,
    block_size: int | None = None,
    plan: Plan | None = None,
) -> Array:
    """``Σ_i p_i value_i`` with ``p = softmax(logits)`` over the items that are not excluded, ``f32[B]``.

    With the logits for values it is what an entropy lacks, ``H(p) = logsumexp(logits) - Σ_i p_i logit_i``; with those
    of another policy, what a cross-entropy lacks. It may be differentiated by everything that floats, and never
    holds more than a block of scores. NaN when every item is excluded.

    Args:
      logits: ``(queries, items)`` as the operations of :mod:`recjax.catalogue` take them.
      values: ``(queries, items)`` of as many items.
      exclude: see :func:`top_k`.
      block_size: see :func:`top_k`.
      plan: see :func:`top_k`.

    Raises:
      ValueError: the two count different items, or as :func:`top_k`.

    >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.eye(3)
    >>> softmax_mean(logits, (jnp.array([[0.0, 4.0, 8.0]]), jnp.eye(3))).round(4).tolist()
    [3.0]
    """
    (queries, scorer), (value_queries, valued) = ((each, as_scorer(items)) for each, items in (logits, values))
    num_items = scorer.num_items
    if valued.num_items != num_items:
        raise ValueError(f"Logits are of {num_items} items but values of {valued.num_items}; give both of the same.")
    sizes = [block_size_of(items, each, block_size, plan) for each, items in (logits, values)]
    size = min(sizes)
    arranged = arrange_excluded(exclude, size, num_items)

    def evaluate(rows: Rows) -> tuple[Array, Array, Array]:
        found = scorer.score_block(queries, rows.start, size).astype(jnp.float32)
        # Apart from the scores, because a loop over long lists has no derivative in reverse.
        is_left = masked(jnp.zeros(found.shape), rows, arranged) == 0
        scores = jnp.where(is_left, found, -jnp.inf)
        value = valued.score_block(value_queries, rows.start, size).astype(jnp.float32)
        # The result does not depend on what exponentials are taken relative to, and so has no gradient by it.
        top = jax.lax.stop_gradient(scores.max(-1))
        share = jnp.exp(scores - finite(top)[:, None])
        # What has no share may be anything, infinite too.
        return top, share.sum(-1), (share * jnp.where(share > 0, value, 0.0)).sum(-1)

    def merge(earlier: tuple[Array, Array, Array], later: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top = jnp.maximum(earlier[0], later[0])
        one, other = (jnp.exp(finite(old) - finite(top)) for old in (earlier[0], later[0]))
        return top, one * earlier[1] + other * later[1], one * earlier[2] + other * later[2]

    _, total, weighted = reduce_rows(evaluate, merge, Blocks(num_items, size), remat=True)
    return weighted / total
