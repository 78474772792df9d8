"""Losses of value distributions against rlax, with their gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import losses

rlax = pytest.importorskip("rlax")

ATOMS = jnp.array([-2.0, -1.5, 0.0, 0.5, 3.0])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    value = lambda *shape: jnp.asarray(2 * rng.normal(size=shape), jnp.float32)  # noqa: E731
    discount_t = jnp.asarray(rng.choice([0.0, 0.9], 12), jnp.float32)
    return value(12, 5), value(12), discount_t, value(12, 5)


def test_projection_equals_rlax_and_keeps_the_mean_inside(batch):
    logits, *_ = batch
    probabilities = jax.nn.softmax(logits)
    for places in (batch[3], jnp.broadcast_to(0.7 * ATOMS, (12, 5)), jnp.broadcast_to(ATOMS, (12, 5))):
        found = losses.categorical_projection(places, probabilities, ATOMS)
        expected = jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None))(places, probabilities, ATOMS)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        if jnp.abs(places).max() <= 3 and places.min() >= -2:
            np.testing.assert_allclose(found @ ATOMS, (places * probabilities).sum(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Rlax categorical_cross_entropy")
def test_categorical_td_equals_rlax(batch):
    logits_tm1, r_t, discount_t, logits_t = batch
    theirs = jax.vmap(rlax.categorical_td_learning, in_axes=(None, 0, 0, 0, None, 0))

    def loss(logits, next_logits):
        return losses.categorical_td(logits, r_t, discount_t, jax.nn.softmax(next_logits), ATOMS)

    expected = theirs(ATOMS, logits_tm1, r_t, discount_t, ATOMS, logits_t)
    np.testing.assert_allclose(loss(logits_tm1, logits_t), expected, rtol=1e-5)
    wanted = jax.grad(lambda x: theirs(ATOMS, x, r_t, discount_t, ATOMS, logits_t).sum())(logits_tm1)
    found, of_target = jax.grad(lambda *x: loss(*x).sum(), argnums=(0, 1))(logits_tm1, logits_t)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert (of_target == 0).all()


@pytest.mark.parametrize("huber", [0.0, 1.0, 0.4])
def test_quantile_td_equals_rlax(huber, batch):
    quantiles_tm1, r_t, discount_t, quantiles_t = batch
    tau = (jnp.arange(5) + 0.5) / 5

    def theirs(quantiles):
        target = r_t[:, None] + discount_t[:, None] * quantiles_t
        one = lambda source, target: rlax.quantile_regression_loss(source, tau, target, huber)  # noqa: E731
        return jax.vmap(one)(quantiles, target)

    def ours(quantiles, after):
        return losses.quantile_td(quantiles, r_t, discount_t, after, huber)

    np.testing.assert_allclose(ours(quantiles_tm1, quantiles_t), theirs(quantiles_tm1), rtol=1e-5)
    found, of_target = jax.grad(lambda *x: ours(*x).sum(), argnums=(0, 1))(quantiles_tm1, quantiles_t)
    np.testing.assert_allclose(found, jax.grad(lambda x: theirs(x).sum())(quantiles_tm1), rtol=1e-4, atol=1e-6)
    assert (of_target == 0).all()


def test_quantiles_that_minimise_it_are_those_of_the_samples():
    samples = jnp.asarray(np.random.default_rng(2).exponential(size=1000), jnp.float32)

    @jax.jit
    def fitted(quantiles):
        down = lambda _, x: x - 0.05 * jax.grad(losses.quantile_regression)(x, samples, 0.0)  # noqa: E731
        return jax.lax.fori_loop(0, 3000, down, quantiles)

    np.testing.assert_allclose(fitted(jnp.zeros(4)), np.quantile(samples, [0.125, 0.375, 0.625, 0.875]), atol=0.05)
