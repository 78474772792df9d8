"""The mean cross-entropy and its gradient in one pass, against float64 NumPy and the blocked loss."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex, Plan, cross_entropy
from recjax.types import PAD_ID

ROWS, NUM_ITEMS, DIM = 37, 23, 3


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    queries = jnp.asarray(rng.normal(size=(ROWS, DIM)), jnp.float32)
    vectors = jnp.asarray(rng.normal(size=(NUM_ITEMS, DIM)), jnp.float32)
    labels = jnp.asarray(rng.integers(-1, NUM_ITEMS, ROWS), jnp.int32).at[3].set(PAD_ID).at[-1].set(NUM_ITEMS)
    return queries, vectors, labels


@pytest.fixture(params=[1, 5, ROWS, 64])
def mean_loss(request, monkeypatch):
    """The loss where a pass takes so many rows, from one to more than there are."""
    monkeypatch.setattr(cross_entropy, "FEWEST_ROWS", 1)
    plan = Plan(block_size=NUM_ITEMS, scores_at_once=request.param * NUM_ITEMS)
    return functools.partial(catalogue.mean_softmax_cross_entropy, plan=plan)


def oracle(queries, vectors, labels):
    """Value and derivatives by queries and vectors, written out in float64."""
    queries, vectors = np.asarray(queries, np.float64), np.asarray(vectors, np.float64)
    known = [row for row, label in enumerate(np.asarray(labels)) if 0 <= label < NUM_ITEMS]
    value, by_queries, by_vectors = 0.0, np.zeros_like(queries), np.zeros_like(vectors)
    for row in known:
        share = np.exp(vectors @ queries[row])
        share /= share.sum()
        value -= np.log(share[labels[row]]) / len(known)
        share[labels[row]] -= 1
        by_queries[row] = share @ vectors / len(known)
        by_vectors += np.outer(share, queries[row]) / len(known)
    return value, by_queries, by_vectors


def test_value_and_gradient_equal_numpy(problem, mean_loss):
    queries, vectors, labels = problem
    loss = jax.jit(jax.value_and_grad(mean_loss, (0, 1)))
    value, (by_queries, by_vectors) = loss(queries, vectors, labels)
    expected = oracle(*problem)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(by_queries, expected[1], atol=1e-6)
    np.testing.assert_allclose(by_vectors, expected[2], atol=1e-6)
    without_gradient = mean_loss(queries, vectors, labels)
    np.testing.assert_allclose(without_gradient, value, rtol=1e-6)


def blocked(queries, index, labels):
    losses = catalogue.softmax_cross_entropy(queries, index, labels, block_size=7)
    return losses.sum() / ((labels >= 0) & (labels < NUM_ITEMS)).sum()


@pytest.mark.parametrize("kind", ["affine", "cosine", "withdrawn", "eight bits"])
def test_every_index_has_the_gradient_of_the_blocked_loss(problem, mean_loss, kind):
    queries, vectors, labels = problem
    rng = np.random.default_rng(1)
    bias = jnp.asarray(rng.normal(size=NUM_ITEMS), jnp.float32)
    index = ItemIndex.cosine(vectors) if kind == "cosine" else ItemIndex(vectors, bias=bias, scale=jnp.exp(bias))
    if kind == "withdrawn":
        labels = jnp.where(labels == 5, 6, labels)
        index = index.replace(bias=bias.at[5].set(-jnp.inf))
    if kind == "eight bits":
        index = index.quantized()
    grads = [jax.value_and_grad(loss, (0, 1), allow_int=True)(queries, index, labels) for loss in (mean_loss, blocked)]
    for found, expected in zip(*map(jax.tree.leaves, grads), strict=True):
        if found.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_cotangents_scale_the_gradient_and_bfloat16_stays_close(problem):
    queries, vectors, labels = problem
    tripled = jax.grad(lambda q: 3 * catalogue.mean_softmax_cross_entropy(q, vectors, labels))(queries)
    np.testing.assert_allclose(tripled, 3 * oracle(*problem)[1], atol=1e-5)
    half = jax.grad(catalogue.mean_softmax_cross_entropy, (0, 1))(
        queries.astype(jnp.bfloat16), vectors.astype(jnp.bfloat16), labels
    )
    for found, expected in zip(half, oracle(*problem)[1:], strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.01)


def test_nothing_to_learn_is_zero(problem):
    queries, vectors, labels = problem
    none = jnp.full_like(labels, PAD_ID)
    value, gradients = jax.value_and_grad(catalogue.mean_softmax_cross_entropy, (0, 1))(queries, vectors, none)
    assert value == 0
    assert not any(bool(leaf.any()) for leaf in gradients)
    value, gradient = jax.value_and_grad(catalogue.mean_softmax_cross_entropy)(
        jnp.zeros((0, DIM)), vectors, jnp.zeros(0, jnp.int32)
    )
    assert value == 0
    assert gradient.shape == (0, DIM)


def test_rows_without_a_label_may_hold_anything(problem):
    queries, vectors, labels = problem
    broken = queries.at[3].set(jnp.nan)
    value, gradients = jax.value_and_grad(catalogue.mean_softmax_cross_entropy, (0, 1))(broken, vectors, labels)
    np.testing.assert_allclose(value, oracle(*problem)[0], rtol=1e-5)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in gradients)
    broken = queries.at[0].set(jnp.nan)
    assert jnp.isnan(catalogue.mean_softmax_cross_entropy(broken, vectors, labels.at[0].set(1)))


def test_it_maps_over_seeds(problem):
    queries, vectors, labels = problem
    shorter = labels.at[10:].set(PAD_ID)
    values, gradients = jax.vmap(jax.value_and_grad(catalogue.mean_softmax_cross_entropy), in_axes=(None, None, 0))(
        queries, vectors, jnp.stack([labels, shorter])
    )
    for seed, each in enumerate((labels, shorter)):
        np.testing.assert_allclose(values[seed], oracle(queries, vectors, each)[0], rtol=1e-5)
        np.testing.assert_allclose(gradients[seed], oracle(queries, vectors, each)[1], atol=1e-6)


def test_big_catalogues_and_functions_of_blocks_go_by_blocks(problem):
    queries, vectors, labels = problem
    scorer = BlockScorer(lambda q, start, size: q @ jax.lax.dynamic_slice_in_dim(vectors, start, size).T, NUM_ITEMS)
    np.testing.assert_allclose(
        catalogue.mean_softmax_cross_entropy(queries, scorer, labels), oracle(*problem)[0], rtol=1e-5
    )
    rows, num_items, dim = 256, 200_000, 16
    gradient = jax.jit(jax.grad(catalogue.mean_softmax_cross_entropy, (0, 1)))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, dim), (num_items, dim))]
    memory = gradient.lower(*shapes, jax.ShapeDtypeStruct((rows,), jnp.int32)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 40e6 + 2 * num_items * dim * 4
