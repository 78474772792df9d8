"""What counts as a catalogue: arrays, indices, functions of blocks, and any class with the members of a scorer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex, Scorer, as_scorer, dense_scorer

ROWS, NUM_ITEMS, DIM = 3, 300, 4


class Negated:
    """A scorer that is none of the library's classes: inner products with the sign turned."""

    num_items, block_size, random_access = NUM_ITEMS, 64, True

    def __init__(self, vectors):
        self.vectors = vectors

    def score_block(self, queries, start, size):
        return -queries @ lax.dynamic_slice_in_dim(self.vectors, start, size).T

    def score_ids(self, queries, ids):
        return -jnp.einsum("bd,bmd->bm", queries, self.vectors[ids])


def problem():
    rng = np.random.default_rng(0)
    return (jnp.asarray(rng.integers(-9, 10, shape), jnp.float32) for shape in ((ROWS, DIM), (NUM_ITEMS, DIM)))


def scorers(queries, vectors):
    """The same scores by every kind of scorer, as ``(queries, items)``."""
    slices = lambda q, start, size: q @ lax.dynamic_slice_in_dim(vectors, start, size).T  # noqa: E731
    return {
        "array": (queries, vectors),
        "NumPy array": (queries, np.asarray(vectors)),
        "index": (queries, ItemIndex(vectors)),
        "blocks": (queries, BlockScorer(slices, NUM_ITEMS, block_size=70)),
        "blocks and ids": (
            queries,
            BlockScorer(slices, NUM_ITEMS, lambda q, ids: jnp.einsum("bd,bmd->bm", q, vectors[ids]), block_size=70),
        ),
        "dense": dense_scorer(queries @ vectors.T),
        "own class": (-queries, Negated(vectors)),
    }


@pytest.mark.parametrize("kind", scorers(*problem()))
def test_every_kind_of_scorer_gives_the_same(kind):
    queries, vectors = problem()
    asked, items = scorers(queries, vectors)[kind]
    scores = queries @ vectors.T
    scorer: Scorer = as_scorer(items)
    assert scorer.num_items == NUM_ITEMS
    assert scorer.random_access == (kind != "blocks")
    ids = jnp.array([[0, 299, 7], [70, 69, 5], [140, 140, 1]])
    np.testing.assert_array_equal(scorer.score_ids(asked, ids), jnp.take_along_axis(scores, ids, axis=1))
    np.testing.assert_array_equal(scorer.score_block(asked, jnp.int32(9), 20), scores[:, 9:29])
    values, best = catalogue.top_k(asked, items, 5)
    expected = jnp.argsort(-scores, axis=1, stable=True)[:, :5]
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(values, jnp.take_along_axis(scores, expected, axis=1))
    np.testing.assert_array_equal(catalogue.max_score(asked, items), scores.max(1))
    np.testing.assert_allclose(catalogue.logsumexp(asked, items), jax.nn.logsumexp(scores, axis=1), rtol=1e-6)


def test_picks_out_of_blocks_are_differentiable_and_hold_one_block():
    queries, vectors = problem()
    scorer = BlockScorer(
        lambda q, start, size: q @ lax.dynamic_slice_in_dim(vectors, start, size).T, NUM_ITEMS, None, 64
    )
    ids = jnp.array([[0, 299], [70, 69], [140, 255]])
    gradient = jax.grad(lambda q: scorer.score_ids(q, ids).sum())(queries)
    np.testing.assert_allclose(gradient, vectors[ids].sum(1), rtol=1e-6)


def test_dense_scores_are_taken_in_one_block():
    queries, items = dense_scorer(jnp.arange(6.0).reshape(2, 3))
    assert (items.num_items, items.block_size, items.random_access) == (3, 3, True)
    np.testing.assert_array_equal(items.score_block(queries, 1, 2), [[1, 2], [4, 5]])
