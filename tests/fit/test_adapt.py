"""Adaptations: what is trained, what stays, and that low-rank changes are what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import fit


@pytest.fixture
def params():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "params": {
            "dense": {"kernel": jax.random.normal(keys[0], (4, 3)), "bias": jnp.zeros(3)},
            "heads": {"kernel": jax.random.normal(keys[1], (4, 2, 3))},
        }
    }


@pytest.mark.parametrize("adaptation", [fit.only(lambda path: "dense" in path), fit.lora(2), fit.lora(1, alpha=5.0)])
def test_it_starts_from_the_parameters_as_they_are(adaptation, params):
    variables = adaptation.init(jax.random.key(1), params)
    jax.tree.map(np.testing.assert_array_equal, adaptation.expand(params, variables), params)


def test_only_trains_what_is_selected(params):
    adaptation = fit.only(lambda path: path[-1] == "bias")
    variables = adaptation.init(jax.random.key(0), params)

    def loss_fn(variables, batch, key):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(adaptation.expand(params, variables))) + 0.0, {}

    shifted = jax.tree.map(lambda leaf: leaf + 1, variables)
    fitted = fit.fit_epochs(
        loss_fn, optax.sgd(0.1), shifted, jnp.zeros(2), key=jax.random.key(0), epochs=1, batch_size=2
    )
    changed = adaptation.expand(params, fitted.params)
    np.testing.assert_array_equal(changed["params"]["dense"]["kernel"], params["params"]["dense"]["kernel"])
    np.testing.assert_allclose(changed["params"]["dense"]["bias"], 0.8)


def test_low_rank_changes_equal_numpy(params):
    adaptation = fit.lora(2, alpha=3.0)
    variables = adaptation.init(jax.random.key(0), params)
    variables = jax.tree.map(lambda leaf: leaf + 0.5, variables)
    changed = adaptation.expand(params, variables)
    for name, shape in (("dense", (4, 3)), ("heads", (4, 2, 3))):
        part = jax.tree.map(np.asarray, variables[f"params/{name}/kernel"])
        change = 1.5 * part["a"].astype(np.float64) @ part["b"]
        assert np.linalg.matrix_rank(change, tol=1e-6) <= 2
        expected = np.asarray(params["params"][name]["kernel"]) + change.reshape(shape)
        np.testing.assert_allclose(changed["params"][name]["kernel"], expected, rtol=1e-5)
    np.testing.assert_array_equal(changed["params"]["dense"]["bias"], params["params"]["dense"]["bias"])


def test_errors(params):
    with pytest.raises(ValueError, match="rank is 0"):
        fit.lora(0)
    with pytest.raises(ValueError, match="Nothing is selected for training; the parameters are params/dense/kernel"):
        fit.only(lambda path: False).init(jax.random.key(0), params)
    with pytest.raises(ValueError, match=r"params/dense/bias has shape \(3,\); select matrices"):
        fit.lora(1, lambda path: True).init(jax.random.key(0), params)
