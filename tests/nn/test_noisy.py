"""Noisy layers: the mean without a key, and noise of the variance that factorised noise has."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import nn

ROWS = 40_000
EXPECTED_ABS = np.sqrt(2 / np.pi)
"""Of a standard normal number, which is the variance of its signed root."""


@pytest.fixture(scope="module")
def layer():
    """A layer of three inputs and two outputs, its parameters in float64, an input and many outputs for it."""
    module = nn.NoisyDense(2)
    params = module.init(jax.random.key(0), jnp.ones((1, 3)))
    keys = iter(jax.random.split(jax.random.key(1), 4))
    params = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(next(keys), x.shape), params)
    inputs = jnp.array([0.5, -2.0, 1.0])
    rows = jnp.broadcast_to(inputs, (ROWS, 3))
    noisy = jax.jit(lambda key: module.apply(params, rows, rngs={"noise": key}))(jax.random.key(2))
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    return module, params, own, np.asarray(inputs, np.float64), np.asarray(noisy, np.float64)


def test_without_a_key_it_is_a_dense_layer(layer):
    module, params, own, inputs, _ = layer
    found = module.apply(params, jnp.asarray(inputs, jnp.float32)[None])
    np.testing.assert_allclose(found[0], inputs @ own["kernel"] + own["bias"], rtol=1e-5)


def test_noise_has_the_mean_and_the_covariance_of_the_formula(layer):
    *_, own, inputs, noisy = layer
    np.testing.assert_allclose(noisy.mean(0), inputs @ own["kernel"] + own["bias"], atol=0.05)
    # Signed roots have variance E|z|, and those of inputs and outputs are independent.
    weights = inputs[:, None] * own["kernel_spread"]
    variance = (weights**2).sum(0) * EXPECTED_ABS**2 + own["bias_spread"] ** 2 * EXPECTED_ABS
    np.testing.assert_allclose(noisy.var(0), variance, rtol=0.05)
    # Outputs share the noise of inputs, so that their squares move together, though they do not.
    centred = noisy - noisy.mean(0)
    assert abs(np.corrcoef(centred.T)[0, 1]) < 0.03
    assert np.corrcoef((centred**2).T)[0, 1] > 0.05


def test_the_noise_of_the_bias_is_a_signed_root():
    module = nn.NoisyDense(1, initial_spread=0.5)
    params = module.init(jax.random.key(0), jnp.zeros((1, 4)))
    noisy = jax.jit(lambda key: module.apply(params, jnp.zeros((ROWS, 4)), rngs={"noise": key}))(jax.random.key(1))
    drawn = (np.asarray(noisy, np.float64)[:, 0] - float(params["params"]["bias"][0])) / (0.5 / 2)
    np.testing.assert_allclose((drawn**2).mean(), EXPECTED_ABS, rtol=0.02)
    np.testing.assert_allclose((drawn**4).mean(), 1.0, rtol=0.03)


def test_parameters_begin_as_in_the_source():
    own = nn.NoisyDense(300).init(jax.random.key(0), jnp.zeros((1, 100)))["params"]
    assert np.abs(own["kernel"]).max() == pytest.approx(0.1, rel=1e-3)
    assert np.std(own["kernel"]) == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    np.testing.assert_allclose(own["kernel_spread"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(own["bias_spread"], 0.05, rtol=1e-6)
