"""Contrastive losses against float64 NumPy and optax."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.losses import info_nce


def views(batch, dim=5, seed=0):
    first, second = np.random.default_rng(seed).normal(size=(2, batch, dim))
    return first, first + 0.5 * second


def numpy_info_nce(first, second, temperature, valid):
    """The formula, one view at a time."""
    losses = np.zeros(len(first))
    unit = [x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30) for x in (first, second)]
    for i in np.flatnonzero(valid):
        for side in (0, 1):
            score = lambda other, j: unit[side][i] @ unit[other][j] / temperature  # noqa: B023, E731
            scores = [score(other, j) for other in (0, 1) for j in np.flatnonzero(valid) if (other, j) != (side, i)]
            losses[i] += (np.logaddexp.reduce(scores) - score(1 - side, i)) / 2
    return losses


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_info_nce_is_the_formula(batch, temperature):
    first, second = views(batch)
    rng = np.random.default_rng(1)
    for valid in (np.ones(batch, bool), np.zeros(batch, bool), rng.random(batch) < 0.6):
        loss = info_nce(*map(jnp.float32, (first, second)), temperature=temperature, valid=jnp.asarray(valid))
        assert loss.shape == (batch,)
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, numpy_info_nce(first, second, temperature, valid), rtol=2e-5, atol=1e-4)


def test_info_nce_is_that_of_optax():
    first, second = map(jnp.float32, views(8))
    embeddings, labels = jnp.concatenate([first, second]), jnp.tile(jnp.arange(8), 2)
    ours = lambda x: info_nce(x[:8], x[8:], temperature=0.2).mean()  # noqa: E731
    theirs = lambda x: optax.losses.ntxent(x, labels, temperature=0.2)  # noqa: E731
    np.testing.assert_allclose(ours(embeddings), theirs(embeddings), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(ours)(embeddings), jax.grad(theirs)(embeddings), rtol=1e-3, atol=1e-6)


def test_examples_that_are_alike_are_no_negatives_of_each_other():
    """Of three examples two are alike: each of these tells its partner from the third's views alone."""
    first, second = views(3)
    alike = np.eye(3, dtype=bool) | (np.arange(3) != 2)[:, None] & (np.arange(3) != 2)[None, :]
    loss = info_nce(*map(jnp.float32, (first, second)), temperature=0.5, alike=jnp.asarray(alike))
    for i in (0, 1):
        without = np.arange(3) != 1 - i
        np.testing.assert_allclose(loss[i], numpy_info_nce(first, second, 0.5, without)[i], rtol=1e-5)
    np.testing.assert_allclose(loss[2], numpy_info_nce(first, second, 0.5, np.ones(3, bool))[2], rtol=1e-5)
    with pytest.raises(ValueError, match=r"alike must have shape \[B, B\] with B = 3; got \(3,\)"):
        info_nce(*map(jnp.float32, (first, second)), temperature=0.5, alike=jnp.ones(3, bool))


@jax.jit
def summed(first, second, valid):
    """The sum of losses and its gradient."""
    return jax.value_and_grad(lambda pair: info_nce(*pair, temperature=0.1, valid=valid).sum())((first, second))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 1000))
def test_an_example_that_is_not_valid_might_as_well_not_be_there(valid, seed):
    first, second = map(jnp.float32, views(6, seed=seed))
    valid = np.array(valid)
    poison = jnp.where(valid[:, None], 0, jnp.nan)
    loss, gradient = summed(first + poison, second + poison, valid)
    np.testing.assert_allclose(loss, numpy_info_nce(first, second, 0.1, valid).sum(), rtol=1e-5, atol=1e-5)
    # Moving the examples that are not valid moves nothing.
    moved = jnp.where(valid[:, None], 0, 3.0)
    again, gradient_again = summed(first + moved, second - moved, valid)
    assert again == loss
    for each, each_again in zip(gradient, gradient_again, strict=True):
        np.testing.assert_array_equal(each, each_again)
        assert np.isfinite(each).all()
        assert not np.asarray(each)[~valid].any()


def test_info_nce_is_finite_where_it_is_hard():
    """Zero vectors, equal views, a tiny temperature, huge and small vectors, bfloat16."""
    same = jnp.ones((3, 4))
    value = jax.jit(jax.value_and_grad(lambda x, t: info_nce(x, x, temperature=t).sum()))
    for x in (same, 0 * same, 1e15 * same, 1e-15 * same, jnp.eye(3, 4), same.astype(jnp.bfloat16)):
        for temperature in (1e-4, 1.0):
            loss, gradient = value(x, temperature)
            assert np.isfinite(loss)
            assert np.isfinite(gradient.astype(jnp.float32)).all()
    np.testing.assert_allclose(info_nce(same, same, temperature=0.1), math.log(5), rtol=1e-6)
    # Well apart, the loss is tiny but not 0: log(1 + 4 exp(-20)).
    tiny = info_nce(jnp.eye(3, 4), jnp.eye(3, 4), temperature=0.05)
    np.testing.assert_allclose(tiny, 4 * math.exp(-20), rtol=1e-4)
    assert info_nce(same.astype(jnp.bfloat16), same.astype(jnp.bfloat16), temperature=1.0).dtype == jnp.float32


def test_temperature_may_be_learned():
    first, second = views(4)
    loss = jax.jit(lambda t: info_nce(jnp.float32(first), jnp.float32(second), temperature=t).mean())
    oracle = lambda t: numpy_info_nce(first, second, t, np.ones(4, bool)).mean()  # noqa: E731
    slope = (oracle(0.2 + 1e-6) - oracle(0.2 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(loss)(0.2), slope, rtol=1e-4)


def test_views_and_sides_are_exchangeable():
    first, second = map(jnp.float32, views(5))
    loss = info_nce(first, second, temperature=0.3)
    np.testing.assert_allclose(info_nce(second, first, temperature=0.3), loss, rtol=1e-5)
    order = jnp.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(info_nce(first[order], second[order], temperature=0.3), loss[order], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: info_nce(x, x[1:], temperature=1.0), r"shape \[B, D\]; got \(3, 4\) and \(2, 4\)"),
        (lambda x: info_nce(x[0], x[0], temperature=1.0), r"got \(4,\)"),
        (lambda x: info_nce(x, x, temperature=0), "temperature is 0; it must be above 0"),
        (lambda x: info_nce(x, x, temperature=1.0, valid=jnp.ones(2, bool)), r"valid must have shape \[B\] = \(3,\)"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((3, 4)))
