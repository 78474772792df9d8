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
    plan = fit.TrainingPlan(epochs=1, batch_size=2)
    fitted = fit.fit_epochs(loss_fn, optax.sgd(0.1), shifted, jnp.zeros(2), plan, key=jax.random.key(0))
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


@pytest.fixture
def stack():
    """What a scanned module has: three layers in one array, and a head above them."""
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "params": {
            "layers": {
                "query": {"kernel": jax.random.normal(keys[0], (3, 4, 5)), "bias": jnp.zeros((3, 5))},
                "heads": {"kernel": jax.random.normal(keys[1], (3, 4, 2, 5))},
            },
            "head": {"kernel": jax.random.normal(keys[2], (5, 6))},
        }
    }


def in_layers(path):
    return "layers" in path


def test_stacked_layers_each_have_a_change_of_their_own(stack):
    """A loop over the layers, each merged as if it were alone."""
    adaptation = fit.lora(2, alpha=3.0, stacked=in_layers)
    variables = adaptation.init(jax.random.key(1), stack)
    jax.tree.map(np.testing.assert_array_equal, adaptation.expand(stack, variables), stack)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), variables)
    before = jax.tree.map(np.array, stack)
    changed = adaptation.expand(stack, variables)["params"]
    for name in ("query", "heads"):
        part = jax.tree.map(lambda x: np.asarray(x, np.float64), variables[f"params/layers/{name}/kernel"])
        for layer, kernel in enumerate(before["params"]["layers"][name]["kernel"]):
            change = 1.5 * part["a"][layer] @ part["b"][layer]
            assert np.linalg.matrix_rank(change) == 2
            found = changed["layers"][name]["kernel"][layer]
            np.testing.assert_allclose(found, kernel + change.reshape(kernel.shape), rtol=1e-5, atol=1e-5)
    assert variables["params/head/kernel"]["a"].shape == (5, 2)
    jax.tree.map(np.testing.assert_array_equal, stack, before)


def test_a_stacked_change_by_hand():
    """peft's ``W + alpha / r * B A``, whose matrices are transposed: 2 * [1, 2]' [3, 4] for one layer."""
    adaptation = fit.lora(1, alpha=2.0, stacked=lambda path: True)
    params = {"kernel": jnp.ones((2, 2, 2))}
    a, b = jnp.array([[[1.0], [2.0]], [[0.0], [1.0]]]), jnp.array([[[3.0, 4.0]], [[5.0, 0.0]]])
    changed = adaptation.expand(params, {"kernel": {"a": a, "b": b}})
    np.testing.assert_array_equal(changed["kernel"], [[[7, 9], [13, 17]], [[1, 1], [11, 1]]])


def test_layers_of_a_stack_start_from_different_directions(stack):
    a = fit.lora(2, stacked=in_layers).init(jax.random.key(0), stack)["params/layers/query/kernel"]["a"]
    assert np.abs(a[0] - a[1]).min() > 1e-4
    wide = {"layers": jnp.zeros((9, 400, 3))}
    a = fit.lora(5, in_layers, stacked=in_layers).init(jax.random.key(0), wide)["layers"]["a"]
    np.testing.assert_allclose(a.std(), 1 / 20, rtol=0.05)


def test_a_chain_is_low_rank_below_a_head_that_is_trained_whole(stack):
    low, head = (
        fit.lora(1, lambda path: "query" in path and path[-1] == "kernel", stacked=in_layers),
        fit.only(lambda path: "head" in path),
    )
    both = fit.chain(low, head)
    variables = both.init(jax.random.key(0), stack)
    jax.tree.map(np.testing.assert_array_equal, both.expand(stack, variables), stack)
    variables = jax.tree.map(lambda leaf: leaf + 1, variables)
    changed = both.expand(stack, variables)
    expected = head.expand(low.expand(stack, variables[0]), variables[1])
    jax.tree.map(np.testing.assert_array_equal, changed, expected)
    np.testing.assert_array_equal(changed["params"]["head"]["kernel"], stack["params"]["head"]["kernel"] + 1)
    moved = jax.tree.map(lambda one, other: bool(jnp.any(one != other)), changed, stack)["params"]
    assert moved == {
        "layers": {"query": {"kernel": True, "bias": False}, "heads": {"kernel": False}}, "head": {"kernel": True}
    }  # fmt: skip


def test_errors_of_stacks_and_chains(stack):
    with pytest.raises(ValueError, match=r"params/layers/query/bias has shape \(3, 5\) of stacked layers; select"):
        fit.lora(1, lambda path: path[-1] == "bias", stacked=in_layers).init(jax.random.key(0), stack)
    with pytest.raises(ValueError, match="params/head/kernel selected by two adaptations"):
        fit.chain(fit.lora(1), fit.only(lambda path: "head" in path)).init(jax.random.key(0), stack)


def test_errors(params):
    with pytest.raises(ValueError, match="rank is 0"):
        fit.lora(0)
    with pytest.raises(ValueError, match="Nothing is selected for training; the parameters are params/dense/kernel"):
        fit.only(lambda path: False).init(jax.random.key(0), params)
    with pytest.raises(ValueError, match=r"params/dense/bias has shape \(3,\); select matrices"):
        fit.lora(1, lambda path: True).init(jax.random.key(0), params)
