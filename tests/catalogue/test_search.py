"""Exact top-k by group maxima against a full sort, on everything a catalogue may hold."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex, search
from recjax.types import PAD_ID
from tests.catalogue.test_reduce import naive

NUM_ITEMS = 530
AWKWARD = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 1.0, 2.0, np.inf, np.nan, -np.nan]).map(np.float32)


def scored_by_bias(bias, **fields):
    """An index whose scores are its biases, for scores that no product of finite numbers has."""
    return ItemIndex(jnp.zeros((len(bias), 1)), bias=jnp.asarray(bias), **fields)


@functools.cache
def _by_groups(k, block_size):
    def run(bias, exclude):
        queries = jnp.zeros((len(exclude), 1))
        return catalogue.top_k(queries, scored_by_bias(bias), k, exclude=exclude, block_size=block_size)

    return jax.jit(run)


@hypothesis.settings(deadline=None, max_examples=80, derandomize=True, database=None)
@hypothesis.given(
    bias=hnp.arrays(np.float32, NUM_ITEMS, elements=AWKWARD),
    exclude=hnp.arrays(np.int32, (2, 6), elements=st.integers(-2, NUM_ITEMS + 3)),
    shape=st.sampled_from([(1, 16), (2, 100), (9, 64), (16, 529)]),
)
def test_groups_order_ties_nan_and_infinities_as_a_full_sort_does(bias, exclude, shape):
    values, ids = naive(np.stack([bias, bias]), shape[0], exclude)
    found_values, found_ids = _by_groups(*shape)(bias, exclude)
    np.testing.assert_array_equal(found_ids, ids)
    np.testing.assert_array_equal(found_values, values)


def test_the_examples_above_go_by_groups(monkeypatch):
    """Otherwise the property would hold for the path that ranks blocks only."""
    monkeypatch.setattr(search, "_by_blocks", None)
    for k, block_size in [(1, 16), (2, 100), (9, 64), (16, 529)]:
        scores, _ = catalogue.top_k(
            jnp.zeros((2, 1)), scored_by_bias(np.zeros(NUM_ITEMS, np.float32)), k, block_size=block_size
        )
        assert scores.shape == (2, k)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
@pytest.mark.parametrize(
    ("rows", "num_items", "k", "block_size"),
    [(3, 3000, 10, 256), (1, 2049, 64, 1024), (5, 4000, 1000, 500), (2, 9, 9, None)],
)
def test_every_dtype_equals_a_full_sort_of_its_own_values(dtype, rows, num_items, k, block_size):
    rng = np.random.default_rng(num_items)
    queries = jnp.asarray(rng.normal(size=(rows, 16)), jnp.float32 if dtype == jnp.int8 else dtype)
    index = ItemIndex(jnp.asarray(rng.normal(size=(num_items, 16)), jnp.float32))
    index = index.quantized() if dtype == jnp.int8 else index.replace(vectors=index.vectors.astype(dtype))
    exclude = jnp.asarray(rng.integers(-1, num_items, (rows, 100)), jnp.int32)[:, : num_items // 10 + 1]
    if num_items < 10:
        exclude = None
    scores, ids = jax.jit(functools.partial(catalogue.top_k, k=k, block_size=block_size))(
        queries, index, exclude=exclude
    )
    exact = np.asarray(index.vectors, np.float64)
    if index.scale is not None:
        exact = exact * np.asarray(index.scale, np.float64)[:, None]
    exact = np.asarray(queries, np.float64) @ exact.T
    values, expected = naive(exact, k, exclude)
    np.testing.assert_allclose(scores, values, rtol=1e-5, atol=1e-5)
    # Ids differ only where two scores are equal up to rounding.
    differs = np.asarray(ids) != expected
    found = np.take_along_axis(exact, np.asarray(ids), axis=1)
    assert np.abs(found - values)[differs].max(initial=0.0) < 1e-6 * np.abs(values).max()
    assert differs.mean() < 0.01
    assert all(len(set(row)) == k for row in np.asarray(ids).tolist())


def test_eight_bits_keep_most_of_the_best():
    rng = np.random.default_rng(0)
    queries, vectors = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((20, 32), (5000, 32)))
    index = ItemIndex(vectors, scale=jnp.full(5000, 2.0))
    _, exact = catalogue.top_k(queries, index, 50)
    scores, rounded = catalogue.top_k(queries, index.quantized(), 50)
    kept = np.mean([len(set(a) & set(b)) / 50 for a, b in zip(exact.tolist(), rounded.tolist(), strict=True)])
    assert 0.9 < kept < 1.0
    np.testing.assert_allclose(scores, catalogue.score_at(queries, index, rounded), atol=0.3)
    assert index.quantized().vectors.nbytes * 4 == vectors.nbytes


def test_cosine_ignores_lengths():
    rng = np.random.default_rng(1)
    queries, vectors = rng.normal(size=(4, 8)), rng.normal(size=(700, 8)) * rng.uniform(0.1, 10, (700, 1))
    vectors[3] = 0.0
    scores, ids = catalogue.top_k(
        jnp.asarray(queries, jnp.float32), ItemIndex.cosine(jnp.asarray(vectors, jnp.float32)), 5, block_size=64
    )
    norm = np.linalg.norm(vectors, axis=1)
    cosine = queries @ vectors.T / np.linalg.norm(queries, axis=1)[:, None] / np.where(norm > 0, norm, np.inf)
    values, expected = naive(cosine, 5)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, values, rtol=1e-5)


@pytest.mark.parametrize("width", [31, 33, 700])
@pytest.mark.parametrize("operation", ["top_k", "argmax", "max_score"])
def test_long_lists_of_exclusions_with_repeats_leave_exactly_the_rest(width, operation):
    rng = np.random.default_rng(width)
    num_items, rows = 900, 3
    scores = rng.normal(size=(rows, num_items)).astype(np.float32)
    best = np.argsort(-scores, axis=1)[:, : width // 2]  # Whatever would win is excluded.
    exclude = np.concatenate([best, rng.integers(-3, num_items + 3, (rows, width - width // 2))], axis=1)
    exclude[:, 0] = exclude[:, 1]
    queries = jnp.asarray(rng.normal(size=(rows, 4)), jnp.float32)
    index = ItemIndex(jnp.asarray(rng.normal(size=(num_items, 4)), jnp.float32))
    exact = np.asarray(queries @ index.vectors.T, np.float64)
    exclude = np.concatenate([np.argsort(-exact, axis=1)[:, : width // 2], exclude[:, width // 2 :]], axis=1)
    values, ids = naive(exact, 5, exclude)
    exclude = jnp.asarray(exclude, jnp.int32)
    if operation == "top_k":
        found_values, found_ids = catalogue.top_k(queries, index, 5, exclude=exclude, block_size=128)
        np.testing.assert_array_equal(found_ids, ids)
        np.testing.assert_allclose(found_values, values, rtol=1e-5)
    elif operation == "argmax":
        np.testing.assert_array_equal(catalogue.argmax(queries, index, exclude=exclude, block_size=128), ids[:, 0])
    else:
        found = catalogue.max_score(queries, index, exclude=exclude, block_size=128)
        np.testing.assert_allclose(found, values[:, 0], rtol=1e-5)


def test_rows_that_exclude_everything_are_padding_by_groups_too():
    bias = np.arange(NUM_ITEMS, dtype=np.float32)
    exclude = jnp.stack([jnp.arange(NUM_ITEMS), jnp.full(NUM_ITEMS, PAD_ID)])
    scores, ids = catalogue.top_k(jnp.zeros((2, 1)), scored_by_bias(bias), 3, exclude=exclude, block_size=64)
    assert ids.tolist() == [[PAD_ID] * 3, [529, 528, 527]]
    assert scores[0].tolist() == [-np.inf] * 3
    assert catalogue.argmax(jnp.zeros((2, 1)), scored_by_bias(bias), exclude=exclude, block_size=64).tolist() == [
        -1,
        529,
    ]


def test_no_queries_have_no_answers():
    scores, ids = catalogue.top_k(jnp.zeros((0, 4)), jnp.ones((900, 4)), 2, block_size=64)
    assert scores.shape == ids.shape == (0, 2)


def test_several_spans_equal_one(monkeypatch):
    rng = np.random.default_rng(2)
    queries, vectors = (jnp.asarray(rng.integers(-3, 4, shape), jnp.float32) for shape in ((4, 3), (5000, 3)))
    search_once = functools.partial(catalogue.top_k, queries, vectors, 7, block_size=64)
    scores, ids = search_once()
    monkeypatch.setattr(search, "MAXIMA", 64)  # A few blocks a span, and a last span that is not full.
    spanned_scores, spanned_ids = search_once()
    np.testing.assert_array_equal(spanned_ids, ids)
    np.testing.assert_array_equal(spanned_scores, scores)


def test_memory_does_not_grow_with_the_catalogue():
    def temporary(num_items):
        shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1024, 8), (num_items, 8)))
        lowered = jax.jit(functools.partial(catalogue.top_k, k=100)).lower(*shapes)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(500_000), temporary(4_000_000)
    assert large < 1.1 * small
    assert large < 1024 * 500_000 * 4 / 10, "far below [B, N]"


def test_vmap_over_seeds_equals_a_loop():
    rng = np.random.default_rng(6)
    queries, vectors = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 3, 4), (2, 800, 4)))
    exclude = jnp.asarray(rng.integers(0, 800, (2, 3, 40)), jnp.int32)
    find = functools.partial(catalogue.top_k, k=3, block_size=128)
    scores, ids = jax.vmap(lambda q, v, e: find(q, v, exclude=e))(queries, vectors, exclude)
    for seed in range(2):
        expected_scores, expected_ids = find(queries[seed], vectors[seed], exclude=exclude[seed])
        np.testing.assert_allclose(scores[seed], expected_scores, rtol=1e-6)
        np.testing.assert_array_equal(ids[seed], expected_ids)


def test_argmax_is_the_first_of_top_k():
    rng = np.random.default_rng(7)
    scores = rng.integers(-2, 3, (5, 300)).astype(np.float32)
    scores[0, 200:] = np.nan
    scores[1] = -np.inf
    scorer = BlockScorer(lambda queries, start, size: jax.lax.dynamic_slice_in_dim(queries, start, size, axis=1), 300)
    for block_size in (7, 300):
        first = catalogue.top_k(jnp.asarray(scores), scorer, 1, block_size=block_size)[1][:, 0]
        np.testing.assert_array_equal(catalogue.argmax(jnp.asarray(scores), scorer, block_size=block_size), first)
    assert first[0] == 200
    assert first[1] == PAD_ID


def test_bad_indices_are_named():
    with pytest.raises(ValueError, match="floating or int8; got int32"):
        catalogue.top_k(jnp.ones((1, 2)), jnp.ones((3, 2), jnp.int32), 1)
    with pytest.raises(ValueError, match=r"scales must have shape \(3,\), one an item; got \(2,\)"):
        catalogue.top_k(jnp.ones((1, 2)), ItemIndex(jnp.ones((3, 2)), scale=jnp.ones(2)), 1)
