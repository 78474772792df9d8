"""Catalogue reductions against a naive full sort in float64."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex
from recjax.types import PAD_ID


def from_matrix(scores) -> BlockScorer:
    """A catalogue whose scores are the columns of the queries."""
    return BlockScorer(
        lambda queries, start, size: lax.dynamic_slice_in_dim(queries, start, size, axis=1), scores.shape[1]
    )


def naive(scores, k, exclude=None):
    """``(scores, ids)`` by sorting every row: NaN first, then higher scores, then lower ids."""
    scores = np.array(scores, np.float64)
    values, ids = np.full((len(scores), k), -np.inf), np.full((len(scores), k), PAD_ID)
    for row, line in enumerate(scores):
        banned = set() if exclude is None else set(np.asarray(exclude)[row].tolist())
        left = [i for i in range(len(line)) if i not in banned and line[i] != -np.inf]
        left.sort(key=lambda i: (not np.isnan(line[i]), -line[i], i))
        for slot, i in enumerate(left[:k]):
            values[row, slot], ids[row, slot] = line[i], i
    return values, ids


def inner_product_problem(rng, rows, num_items):
    """Small integers, so that products are exact and ties are many."""
    queries = rng.integers(-2, 3, (rows, 3)).astype(np.float32)
    index = ItemIndex(
        vectors=jnp.asarray(rng.integers(-2, 3, (num_items, 3)).astype(np.float32)),
        bias=jnp.asarray(rng.integers(-1, 2, num_items).astype(np.float32)),
    )
    exclude = rng.integers(-1, num_items + 2, (rows, 4)).astype(np.int32)
    scores = queries.astype(np.float64) @ np.asarray(index.vectors, np.float64).T + np.asarray(index.bias, np.float64)
    return jnp.asarray(queries), index, jnp.asarray(exclude), scores


SHAPES = [
    # rows, items, k, block_size: one item, k over block, remainders, blocks of one, grouped selection
    (3, 1, 1, None),
    (4, 7, 7, 3),
    (3, 50, 20, 8),
    (2, 33, 2, 1),
    (5, 64, 3, 16),
    (2, 1000, 5, None),
    (3, 901, 2, 300),
]


@pytest.mark.parametrize(("rows", "num_items", "k", "block_size"), SHAPES)
def test_every_reduction_equals_a_full_sort(rows, num_items, k, block_size):
    top_k, max_score, argmax = (
        jax.jit(functools.partial(f, block_size=block_size))
        for f in (functools.partial(catalogue.top_k, k=k), catalogue.max_score, catalogue.argmax)
    )
    for seed in range(3):
        queries, index, exclude, scores = inner_product_problem(np.random.default_rng(seed), rows, num_items)
        values, ids = naive(scores, k, exclude)
        found_values, found_ids = top_k(queries, index, exclude=exclude)
        np.testing.assert_array_equal(found_values, values)
        np.testing.assert_array_equal(found_ids, ids)
        assert found_ids.dtype == jnp.int32
        np.testing.assert_array_equal(max_score(queries, index, exclude=exclude), values[:, 0])
        np.testing.assert_array_equal(argmax(queries, index, exclude=exclude), ids[:, 0])


AWKWARD = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan, -np.nan])


@functools.cache
def _awkward_top_k(k, block_size, num_items):
    return jax.jit(
        lambda scores, exclude: catalogue.top_k(scores, from_matrix(scores), k, exclude=exclude, block_size=block_size)
    )


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True, database=None)
@hypothesis.given(
    scores=hnp.arrays(np.float32, (2, 140), elements=AWKWARD.map(np.float32)),
    exclude=hnp.arrays(np.int32, (2, 6), elements=st.integers(-1, 142)),
    shape=st.sampled_from([(1, 128), (1, 140), (9, 40), (140, 140)]),
)
def test_top_k_orders_nan_infinities_and_signed_zeros(scores, exclude, shape):
    k, block_size = shape
    values, ids = naive(scores, k, exclude)
    found_values, found_ids = _awkward_top_k(k, block_size, 140)(scores, exclude)
    np.testing.assert_array_equal(found_ids, ids)
    np.testing.assert_array_equal(found_values, values)


@pytest.mark.parametrize("block_size", [None, 4])
def test_rows_with_everything_excluded_are_padding(block_size):
    queries, index, _, _ = inner_product_problem(np.random.default_rng(0), 2, 6)
    exclude = jnp.stack([jnp.arange(6), jnp.full(6, PAD_ID)])
    scores, ids = catalogue.top_k(queries, index, 2, exclude=exclude, block_size=block_size)
    assert ids[0].tolist() == [PAD_ID, PAD_ID]
    assert scores[0].tolist() == [-np.inf, -np.inf]
    assert (ids[1] >= 0).all()
    assert catalogue.argmax(queries, index, exclude=exclude, block_size=block_size)[0] == PAD_ID
    assert catalogue.max_score(queries, index, exclude=exclude, block_size=block_size)[0] == -np.inf
    assert np.isnan(catalogue.mean_score(queries, index, exclude=exclude, block_size=block_size)[0])
    drawn = catalogue.sample(jax.random.key(0), queries, index, 2, exclude=exclude, block_size=block_size)
    assert drawn[0].tolist() == [PAD_ID, PAD_ID]
    assert (drawn[1] >= 0).all()


@pytest.mark.parametrize("block_size", [None, 5])
def test_mean_score_and_its_gradient(block_size):
    queries, index, exclude, scores = inner_product_problem(np.random.default_rng(1), 4, 13)
    kept = np.array([[i not in exclude[row] for i in range(13)] for row in range(4)])
    mean = catalogue.mean_score(queries, index, exclude=exclude, block_size=block_size)
    np.testing.assert_allclose(mean, (scores * kept).sum(1) / kept.sum(1), rtol=1e-6)
    gradient = jax.grad(lambda q: catalogue.mean_score(q, index, exclude=exclude, block_size=block_size).sum())(queries)
    vectors = np.asarray(index.vectors, np.float64)
    np.testing.assert_allclose(gradient, kept @ vectors / kept.sum(1, keepdims=True), atol=1e-6)


def test_score_at_and_its_gradient():
    queries, index, _, scores = inner_product_problem(np.random.default_rng(2), 3, 9)
    ids = jnp.array([[0, 8, PAD_ID], [4, 4, 9], [2, 1, 0]], jnp.int32)
    expected = [[scores[row, i] if 0 <= i < 9 else -np.inf for i in ids[row].tolist()] for row in range(3)]
    np.testing.assert_array_equal(catalogue.score_at(queries, index, ids), expected)

    def known_sum(queries, index):
        found = catalogue.score_at(queries, index, ids)
        return jnp.where(jnp.isfinite(found), found, 0.0).sum()

    for_queries, for_index = jax.grad(known_sum, argnums=(0, 1))(queries, index)
    counts = np.zeros((3, 9))
    for row in range(3):
        for i in ids[row].tolist():
            if 0 <= i < 9:
                counts[row, i] += 1
    np.testing.assert_allclose(for_queries, counts @ np.asarray(index.vectors, np.float64), rtol=1e-6)
    np.testing.assert_allclose(for_index.vectors, counts.T @ np.asarray(queries, np.float64), rtol=1e-6)
    np.testing.assert_allclose(for_index.bias, counts.sum(0))


def test_score_at_of_a_scorer_of_blocks_only():
    scores = jnp.asarray(np.random.default_rng(3).normal(size=(3, 10)).astype(np.float32))
    scorer = BlockScorer(from_matrix(scores).score_block, 10, block_size=4)
    ids = jnp.array([[9, 0], [PAD_ID, 5], [10, 3]], jnp.int32)
    expected = [[scores[0, 9], scores[0, 0]], [-np.inf, scores[1, 5]], [-np.inf, scores[2, 3]]]
    np.testing.assert_array_equal(catalogue.score_at(scores, scorer, ids), expected)


def test_what_top_k_finds_score_at_confirms():
    rng = np.random.default_rng(4)
    queries, vectors = (jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in ((4, 5), (40, 5)))
    scores, ids = catalogue.top_k(queries, vectors, 38, exclude=jnp.tile(jnp.arange(4), (4, 1)), block_size=16)
    np.testing.assert_allclose(catalogue.score_at(queries, vectors, ids), scores, rtol=1e-5)


def test_a_bias_of_minus_infinity_withdraws_an_item():
    index = ItemIndex(jnp.ones((3, 2)), bias=jnp.array([0.0, -jnp.inf, 1.0]))
    assert catalogue.top_k(jnp.ones((1, 2)), index, 3)[1].tolist() == [[2, 0, PAD_ID]]


def test_bfloat16_scores_accumulate_in_float32():
    rng = np.random.default_rng(5)
    queries, vectors = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((3, 64), (20, 64)))
    scores, _ = catalogue.top_k(queries, vectors, 20)
    exact, _ = naive(np.asarray(queries, np.float64) @ np.asarray(vectors, np.float64).T, 20)
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-5)


def test_vmap_over_seeds_equals_a_loop():
    rng = np.random.default_rng(6)
    queries, vectors = (jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in ((2, 3, 4), (2, 30, 4)))
    search = functools.partial(catalogue.top_k, k=3, block_size=8)
    scores, ids = jax.vmap(search)(queries, vectors)
    for seed in range(2):
        expected_scores, expected_ids = search(queries[seed], vectors[seed])
        np.testing.assert_allclose(scores[seed], expected_scores, rtol=1e-6)
        np.testing.assert_array_equal(ids[seed], expected_ids)


@pytest.mark.parametrize(
    "reduction", [functools.partial(catalogue.top_k, k=10), catalogue.max_score, catalogue.mean_score]
)
def test_temporary_memory_is_a_few_blocks(reduction):
    rows, num_items, block_size = 64, 100_000, 1024
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, 4), (num_items, 4)))
    compiled = jax.jit(functools.partial(reduction, block_size=block_size)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * rows * block_size * 4
    assert 8 * block_size < num_items / 10, "the bound above must be far below [B, N]"


def test_gradients_do_not_keep_the_blocks():
    rows, num_items, block_size = 64, 100_000, 1024
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, 4), (num_items, 4)))
    mean = functools.partial(catalogue.mean_score, block_size=block_size)
    gradient = jax.jit(jax.grad(lambda queries, vectors: (mean(queries, vectors) ** 2).sum()))
    temporary = gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert temporary < rows * num_items * 4 / 4


@pytest.mark.parametrize("block_size", [None, 2])
def test_samples_follow_the_plackett_luce_model(block_size):
    scores, temperature, draws = np.array([0.0, 1.0, -1.0, 0.5, 3.0]), 0.7, 20_000
    queries = jnp.tile(jnp.asarray(scores, jnp.float32), (draws, 1))
    exclude = jnp.full((draws, 1), 4)
    pairs = np.asarray(
        catalogue.sample(
            jax.random.key(1), queries, from_matrix(queries), 2,
            temperature=temperature, exclude=exclude, block_size=block_size,
        )
    )  # fmt: skip
    weights = np.exp(scores[:4] / temperature)
    expected, observed = [], []
    for first in range(4):
        for second in set(range(4)) - {first}:
            expected.append(weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first]))
            observed.append(((pairs[:, 0] == first) & (pairs[:, 1] == second)).sum())
    assert sum(observed) == draws
    chi_square = (((np.array(observed) - draws * np.array(expected)) ** 2) / (draws * np.array(expected))).sum()
    assert chi_square < 31.3, "the 99.9 % quantile of chi-square with 11 degrees of freedom"


def test_same_key_same_sample():
    queries = jnp.zeros((50, 9))
    draw = functools.partial(catalogue.sample, queries=queries, items=from_matrix(queries), k=3)
    np.testing.assert_array_equal(draw(jax.random.key(0)), draw(jax.random.key(0)))
    assert (draw(jax.random.key(0)) != draw(jax.random.key(1))).any()


def test_bad_arguments_are_named():
    queries, vectors = jnp.ones((2, 3)), jnp.ones((5, 3))
    with pytest.raises(ValueError, match=r"k is 6, but the catalogue has 5 items"):
        catalogue.top_k(queries, vectors, 6)
    with pytest.raises(ValueError, match="k is 0"):
        catalogue.top_k(queries, vectors, 0)
    with pytest.raises(ValueError, match="block_size is 0"):
        catalogue.max_score(queries, vectors, block_size=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        catalogue.sample(jax.random.key(0), queries, vectors, 1, temperature=0.0)
    with pytest.raises(ValueError, match=r"must have shape \[N, D\]; got \(3,\)"):
        catalogue.max_score(queries, jnp.ones(3))
    with pytest.raises(ValueError, match=r"biases must have shape \(5,\).*got \(4,\)"):
        catalogue.max_score(queries, ItemIndex(vectors, jnp.ones(4)))
