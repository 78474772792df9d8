"""Expectations under a softmax against float64 NumPy, and their gradients against dense ones."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import BlockScorer, ItemIndex, dense_scorer, softmax_mean

RNG = np.random.default_rng(0)
BATCH, ITEMS, DIM = 5, 23, 3
EXCLUDE = jnp.asarray([[0, 7], [-1, -1], [22, 22], [3, -1], [1, 2]], jnp.int32)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


LOGITS = normal(BATCH, DIM), ItemIndex(3 * normal(ITEMS, DIM), normal(ITEMS))
VALUES = normal(BATCH, DIM), ItemIndex(normal(ITEMS, DIM))


def dense(logits, values, exclude):
    """By the definition, in whatever precision its arguments have."""
    scores, found = (
        q @ index.vectors.T + (0 if index.bias is None else index.bias[None]) for q, index in (logits, values)
    )
    unwanted = (exclude[:, :, None] == jnp.arange(ITEMS)[None, None]).any(1)
    share = jax.nn.softmax(jnp.where(unwanted, -jnp.inf, scores))
    return (share * found).sum(-1)


@pytest.mark.parametrize("block_size", [1, 4, 23, None])
def test_values_and_gradients_are_those_of_the_definition(block_size):
    ours = lambda *pairs: softmax_mean(*pairs, exclude=EXCLUDE, block_size=block_size)  # noqa: E731
    theirs = lambda *pairs: dense(*pairs, EXCLUDE)  # noqa: E731
    weight = normal(BATCH)
    (found, pull), (expected, dense_pull) = jax.vjp(ours, LOGITS, VALUES), jax.vjp(theirs, LOGITS, VALUES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.tree.leaves(pull(weight)), jax.tree.leaves(dense_pull(weight)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_value_is_that_of_float64():
    scores, found = (np.asarray(RNG.normal(scale=scale, size=(2, 50)), np.float64) for scale in (30, 1))
    share = np.exp(scores - scores.max(1, keepdims=True))
    expected = (share * found).sum(1) / share.sum(1)
    pairs = [dense_scorer(jnp.asarray(x, jnp.float32)) for x in (scores, found)]
    np.testing.assert_allclose(softmax_mean(*pairs, block_size=8), expected, rtol=1e-5)


def test_what_is_withdrawn_has_no_part():
    """An item whose logit is ``-inf`` adds nothing, nor NaN, even to the mean of the logits themselves."""
    logits = dense_scorer(jnp.array([[0.0, -jnp.inf, 0.0]]))
    assert softmax_mean(logits, logits).item() == 0
    mean = lambda x: softmax_mean(dense_scorer(x), dense_scorer(x))[0]  # noqa: E731
    gradient = jax.grad(mean)(logits[0])[0]
    np.testing.assert_allclose(np.asarray(gradient)[[0, 2]], [0.5, 0.5])
    assert np.isnan(softmax_mean(logits, logits, exclude=jnp.array([[0, 1, 2]]))).all(), "nothing is left"


def test_no_array_holds_every_item_of_every_query():
    items, batch = 100_000, 64
    index = jax.ShapeDtypeStruct((items, 4), jnp.float32)
    queries = jax.ShapeDtypeStruct((batch, 4), jnp.float32)
    slope = jax.grad(lambda q, v: softmax_mean((q, v), (q, v)).sum(), argnums=(0, 1))
    shapes = re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(slope)(queries, index)))
    sizes = [int(np.prod(list(map(int, shape.split(","))))) for shape in shapes]
    assert max(sizes) < batch * items / 2


def test_different_catalogues_are_refused():
    other = BlockScorer(lambda queries, start, size: queries, 4)
    with pytest.raises(ValueError, match="of 23 items but values of 4"):
        softmax_mean(LOGITS, (normal(BATCH, 4), other))


def test_long_lists_in_front_of_many_blocks_have_a_gradient():
    items = 200
    logits, values = (dense_scorer(normal(2, items)) for _ in range(2))
    exclude = jnp.asarray(RNG.choice(items, (2, 50)), jnp.int32)
    mean = lambda x: softmax_mean((x, logits[1]), values, exclude=exclude, block_size=16).sum()  # noqa: E731
    unwanted = (exclude[:, :, None] == jnp.arange(items)[None, None]).any(1)
    share = lambda x: jax.nn.softmax(jnp.where(unwanted, -jnp.inf, x))  # noqa: E731
    expected = lambda x: (share(x) * values[0]).sum()  # noqa: E731
    np.testing.assert_allclose(mean(logits[0]), expected(logits[0]), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(mean)(logits[0]), jax.grad(expected)(logits[0]), atol=1e-6)
