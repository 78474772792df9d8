"""Searches with a column a query find what a stable sort finds, whatever the blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex, Plan
from recjax.catalogue.plan import Columns

BATCH = 37


def sorted_ids(scores, exclude, k):
    """By a stable sort: higher first, NaN before all, then the lower id; -1 where nothing is left."""
    scores = np.array(scores, np.float64)
    for row, ids in enumerate(exclude):
        scores[row, [i for i in ids if 0 <= i < scores.shape[1]]] = -np.inf
    keys = np.where(np.isnan(scores), np.inf, scores)
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -keys, ~np.isnan(scores)), axis=-1)
    best = order[:, :k]
    return np.where(np.take_along_axis(scores, best, axis=1) == -np.inf, -1, best)


def problem(num_items, seed=0):
    rng = np.random.default_rng(seed)
    # Few different scores, so that most are tied, and of both zeros.
    scores = rng.choice([-1.5, -0.0, 0.0, 0.25, 2.0, np.inf, -np.inf], size=(BATCH, num_items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.02] = np.nan
    scores[3] = -np.inf
    exclude = rng.integers(-1, num_items + 2, size=(BATCH, 6)).astype(np.int32)
    exclude[5, :5] = exclude[5, 0]
    return scores, exclude


def table(scores, block_size):
    """A scorer that looks scores up, with random access, for queries that are rows of the table."""
    scores = jnp.asarray(scores)

    def of_block(queries, start, size):
        return jax.lax.dynamic_slice_in_dim(scores, start, size, axis=1)[queries]

    def of_ids(queries, ids):
        return scores[queries[:, None], ids]

    return jnp.arange(BATCH), BlockScorer(of_block, scores.shape[1], of_ids, block_size)


@pytest.mark.parametrize("num_items", [5, 40, 131])
@pytest.mark.parametrize("columns", [(BATCH, 200), (16, 16), (16, 64)])
def test_top_k_and_argmax_are_those_of_a_stable_sort(num_items, columns):
    scores, exclude = problem(num_items)
    queries, scorer = table(scores, block_size=columns[1])
    plan = Plan(4096, 2**21, Columns(*columns))
    k = min(5, num_items)
    wanted = sorted_ids(scores, exclude, k)
    values, ids = jax.jit(lambda q: catalogue.top_k(q, scorer, k, exclude=exclude, plan=plan))(queries)
    np.testing.assert_array_equal(ids, wanted)
    picked = np.take_along_axis(scores, np.maximum(wanted, 0), axis=1)
    np.testing.assert_array_equal(values, np.where(wanted == -1, -np.inf, picked))
    found = jax.jit(lambda q: catalogue.argmax(q, scorer, exclude=exclude, plan=plan))(queries)
    np.testing.assert_array_equal(found, wanted[:, 0])


@pytest.mark.parametrize("affine", [False, True])
def test_an_index_has_the_scores_of_a_float64_product(affine):
    rng = np.random.default_rng(1)
    queries, vectors = rng.normal(size=(BATCH, 7)), rng.normal(size=(300, 7))
    bias, scale = (rng.normal(size=300), rng.uniform(0.5, 2, size=300)) if affine else (None, None)
    scores = queries @ vectors.T * (1 if scale is None else scale) + (0 if bias is None else bias)
    index = ItemIndex(*(None if x is None else jnp.asarray(x, jnp.float32) for x in (vectors, bias, scale)))
    np.testing.assert_allclose(index.columns(jnp.asarray(queries, jnp.float32)), scores.T, rtol=1e-4, atol=1e-5)
    for items in (64, 300):
        plan = Plan(4096, 2**21, Columns(16, items))
        values, ids = catalogue.top_k(jnp.asarray(queries, jnp.float32), index, 4, plan=plan)
        np.testing.assert_array_equal(ids, np.argsort(-scores, axis=1, kind="stable")[:, :4])
        np.testing.assert_allclose(values, -np.sort(-scores, axis=1)[:, :4], rtol=1e-4, atol=1e-5)


def test_memory_does_not_grow_with_the_catalogue_beyond_its_maxima():
    """Of a block of queries, one number for every group of eight items is held."""

    def temporary(num_items):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((512, 8), (num_items, 8))]
        search = jax.jit(lambda q, v: catalogue.top_k(q, v, 5)).lower(*shapes).compile()
        return search.memory_analysis().temp_size_in_bytes

    assert temporary(200_000) < 66e6
    assert temporary(2_000_000) < 66e6
