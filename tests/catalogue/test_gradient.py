"""Values and gradients of differentiable reductions against dense expressions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex
from recjax.types import PAD_ID

ROWS, NUM_ITEMS, DIM = 4, 23, 3


def dense_mean(scores):
    kept = scores != -jnp.inf
    return jnp.where(kept, scores, 0.0).sum(-1) / kept.sum(-1)


DENSE = {
    "logsumexp": functools.partial(jax.nn.logsumexp, axis=-1),
    "mean_score": dense_mean,
    "max_score": functools.partial(jnp.max, axis=-1),
}


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    queries = jnp.asarray(rng.normal(size=(ROWS, DIM)), jnp.float32)
    index = ItemIndex(
        jnp.asarray(rng.normal(size=(NUM_ITEMS, DIM)), jnp.float32),
        bias=jnp.asarray(rng.normal(size=NUM_ITEMS), jnp.float32).at[5].set(-jnp.inf),
        scale=jnp.asarray(rng.uniform(0.5, 2, NUM_ITEMS), jnp.float32),
    )
    exclude = jnp.asarray(rng.integers(-1, NUM_ITEMS + 2, (ROWS, 6)), jnp.int32)
    return queries, index, exclude


def dense_scores(queries, index, exclude):
    scores = (queries @ index.vectors.T) * index.scale[None] + index.bias[None]
    is_excluded = (exclude[:, :, None] == jnp.arange(NUM_ITEMS)[None, None]).any(1)
    return jnp.where(is_excluded, -jnp.inf, scores)


def as_blocks(index):
    """The same catalogue as a function that closes over the arrays."""

    def score_block(queries, start, size):
        vectors, scale, bias = (
            lax.dynamic_slice_in_dim(x, start, size) for x in (index.vectors, index.scale, index.bias)
        )
        return (queries @ vectors.T) * scale[None] + bias[None]

    return BlockScorer(score_block, index.num_items)


@pytest.mark.parametrize("name", DENSE)
def test_long_lists_in_front_of_many_blocks_have_a_gradient(problem, name):
    """Lists that are longer than what every block looks up are sorted, and each block reads its own part."""
    queries, index, exclude = problem
    repeated = jnp.tile(exclude, (1, 8))
    slope = lambda exclude: jax.grad(  # noqa: E731
        lambda queries, index: getattr(catalogue, name)(queries, index, exclude=exclude, block_size=10).sum(), (0, 1)
    )(queries, index)
    for gradient, expected in zip(jax.tree.leaves(slope(repeated)), jax.tree.leaves(slope(exclude)), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("block_size", [None, 1, 4, 10, 23])
@pytest.mark.parametrize("kind", ["index", "blocks"])
@pytest.mark.parametrize("name", DENSE)
def test_values_and_gradients_equal_dense_ones(problem, name, kind, block_size):
    queries, index, exclude = problem
    reduction, weights = getattr(catalogue, name), jnp.arange(1.0, ROWS + 1)
    wrap = as_blocks if kind == "blocks" else lambda index: index

    def blocked(queries, index):
        found = reduction(queries, wrap(index), exclude=exclude, block_size=block_size)
        return (weights * found).sum(), found

    def dense(queries, index):
        found = DENSE[name](dense_scores(queries, index, exclude))
        return (weights * found).sum(), found

    gradients, found = jax.jit(jax.grad(blocked, argnums=(0, 1), has_aux=True))(queries, index)
    expected_gradients, expected = jax.grad(dense, argnums=(0, 1), has_aux=True)(queries, index)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for gradient, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_cross_entropy_and_its_gradient(problem):
    queries, index, exclude = problem
    labels = jnp.array([0, PAD_ID, 22, NUM_ITEMS])
    exclude = jnp.where(exclude == labels[:, None], PAD_ID, exclude)

    def blocked(queries, index):
        losses = catalogue.softmax_cross_entropy(queries, index, labels, exclude=exclude, block_size=5)
        return losses.sum(), losses

    def dense(queries, index):
        scores = dense_scores(queries, index, exclude)
        losses = -jax.nn.log_softmax(scores)[jnp.arange(ROWS), jnp.clip(labels, 0, NUM_ITEMS - 1)]
        losses = jnp.where(jnp.array([True, False, True, False]), losses, 0.0)
        return losses.sum(), losses

    gradients, losses = jax.grad(blocked, argnums=(0, 1), has_aux=True)(queries, index)
    expected_gradients, expected = jax.grad(dense, argnums=(0, 1), has_aux=True)(queries, index)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[1] == losses[3] == 0
    for gradient, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_gradients_of_eight_bits_reach_the_scale_and_the_queries(problem):
    queries, index, _ = problem
    codes = index.quantized()

    def loss(queries, scale):
        return catalogue.logsumexp(queries, codes.replace(scale=scale), block_size=7).sum()

    def dense(queries, scale):
        scores = (queries @ codes.vectors.astype(jnp.float32).T) * scale[None] + codes.bias[None]
        return jax.nn.logsumexp(scores, axis=-1).sum()

    for found, expected in zip(
        jax.grad(loss, (0, 1))(queries, codes.scale), jax.grad(dense, (0, 1))(queries, codes.scale), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_gradients_pass_vmap_and_scan(problem):
    queries, index, exclude = problem
    vectors = jnp.stack([index.vectors, 2 * index.vectors])

    def loss(queries, vectors, exclude):
        def step(total, _):
            scorer = as_blocks(index.replace(vectors=vectors))
            return total + catalogue.logsumexp(queries, scorer, exclude=exclude, block_size=6).sum(), None

        return lax.scan(step, 0.0, None, length=2)[0]

    gradient = jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, 0, None))(queries, vectors, exclude)
    for seed in range(2):
        expected = jax.grad(
            lambda v: 2 * DENSE["logsumexp"](dense_scores(queries, index.replace(vectors=v), exclude)).sum()
        )(vectors[seed])
        np.testing.assert_allclose(gradient[seed], expected, atol=1e-5)


def test_extreme_scores_are_exact_or_as_documented():
    bias = lambda *values: ItemIndex(jnp.zeros((len(values), 1)), bias=jnp.array(values))  # noqa: E731
    lse = lambda index: catalogue.logsumexp(jnp.zeros((1, 1)), index, block_size=2)[0]  # noqa: E731
    np.testing.assert_allclose(lse(bias(1e4, 1e4, -1e4)), 1e4 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(lse(bias(-1e4, -1e4, -1e5)), -1e4 + np.log(2), rtol=1e-6)
    assert lse(bias(-np.inf, -np.inf, -np.inf)) == -np.inf
    assert lse(bias(0.0, np.inf, 1.0)) == np.inf
    assert np.isnan(lse(bias(0.0, 1.0, np.nan)))
    everything = jnp.arange(3)[None]
    gradient = jax.grad(lambda q: catalogue.logsumexp(q, jnp.ones((3, 1)), exclude=everything, block_size=2).sum())
    assert gradient(jnp.ones((1, 1))).tolist() == [[0.0]]


@pytest.mark.parametrize("name", [*DENSE, "softmax_cross_entropy"])
def test_gradients_hold_neither_scores_nor_a_second_table(name):
    rows, num_items, dim = 256, 200_000, 16
    labels = (jnp.zeros(rows, jnp.int32),) if name == "softmax_cross_entropy" else ()
    reduction = getattr(catalogue, name)
    gradient = jax.jit(jax.grad(lambda q, v: reduction(q, v, *labels).sum(), argnums=(0, 1)))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, dim), (num_items, dim)))
    memory = gradient.lower(*shapes).compile().memory_analysis()
    table = num_items * dim * 4
    # The cross-entropy adds the gradients of two terms.
    assert memory.temp_size_in_bytes < 40e6 + (2 * table if name == "softmax_cross_entropy" else 0)
    assert rows * num_items * 4 / 5 > 40e6
