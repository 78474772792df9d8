"""Learning rates by depth: which part gets which, whatever the optimiser and whatever is adapted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import fit

WHERE = {"stacked": lambda path: "layers" in path, "bottom": lambda path: "words" in path}


@pytest.fixture
def params():
    draw = iter(jax.random.split(jax.random.key(0), 4))
    return {
        "words": jax.random.normal(next(draw), (5, 4)),
        "layers": {"kernel": jax.random.normal(next(draw), (3, 4, 2)), "bias": jax.random.normal(next(draw), (3, 2))},
        "head": {"kernel": jax.random.normal(next(draw), (4, 2))},
    }


@pytest.mark.parametrize("make", [fit.adamw, fit.adafactor])
def test_updates_are_those_of_the_optimiser_times_the_decay_by_hand(make, params):
    """Two steps, as the second would tell if the state saw scaled gradients."""
    plain = make(fit.linear(0.1, 10, 2), weight_decay=0.1, max_grad_norm=1.0)
    scaled = fit.layer_wise(plain, 0.5, **WHERE)
    states, grads = [plain.init(params), scaled.init(params)], jax.tree.map(jnp.cos, params)
    for _ in range(2):
        one, states[0] = plain.update(grads, states[0], params)
        other, states[1] = scaled.update(grads, states[1], params)
        grads = jax.tree.map(lambda leaf: leaf * 2 - 1, grads)
    np.testing.assert_array_equal(other["head"]["kernel"], one["head"]["kernel"])
    np.testing.assert_array_equal(other["words"], one["words"] / 16)
    for layer, factor in enumerate((8, 4, 2)):
        for name in ("kernel", "bias"):
            np.testing.assert_array_equal(other["layers"][name][layer], one["layers"][name][layer] / factor)
    assert np.abs(one["words"]).min() > 0


def test_variables_of_adaptations_count_by_what_they_change(params):
    adaptation = fit.chain(
        fit.lora(1, lambda path: path == ("layers", "kernel"), stacked=WHERE["stacked"]),
        fit.only(lambda path: path[0] in ("words", "head")),
    )
    variables = adaptation.init(jax.random.key(0), params)
    optimizer = fit.layer_wise(optax.sgd(1.0), 0.5, **WHERE)
    (low, whole), _ = optimizer.update(jax.tree.map(jnp.ones_like, variables), optimizer.init(variables))
    for part in ("a", "b"):
        np.testing.assert_array_equal(low["layers/kernel"][part][:, 0, 0], [-1 / 8, -1 / 4, -1 / 2])
    assert float(whole["words"][0, 0]) == -1 / 16
    assert float(whole["head/kernel"][0, 0]) == -1


@pytest.mark.parametrize("make", [fit.adamw, fit.adafactor])
def test_rates_of_paths_multiply_updates_and_nothing_else(make, params):
    plain = make(fit.linear(0.1, 10, 2), weight_decay=0.1, max_grad_norm=1.0)
    scaled = fit.path_wise(plain, lambda path: 0.25 if path[-1] == "kernel" else 1.0)
    states, grads = [plain.init(params), scaled.init(params)], jax.tree.map(jnp.cos, params)
    for _ in range(2):
        one, states[0] = plain.update(grads, states[0], params)
        other, states[1] = scaled.update(grads, states[1], params)
        grads = jax.tree.map(lambda leaf: leaf * 2 - 1, grads)
    for part in ("layers", "head"):
        np.testing.assert_array_equal(other[part]["kernel"], one[part]["kernel"] / 4)
    np.testing.assert_array_equal(other["layers"]["bias"], one["layers"]["bias"])
    np.testing.assert_array_equal(other["words"], one["words"])


def test_errors(params):
    with pytest.raises(ValueError, match=r"decay is 0.*in \(0, 1\], e.g. 0.9"):
        fit.layer_wise(optax.sgd(1.0), 0.0, **WHERE)
    with pytest.raises(ValueError, match=r"of one number of layers, but found \['head/kernel'\]"):
        fit.layer_wise(optax.sgd(1.0), 0.9, **WHERE).init({"head": params["head"]})
    with pytest.raises(ValueError, match=r"found \{'layers/0': 2, 'layers/1': 3\}"):
        fit.layer_wise(optax.sgd(1.0), 0.9, **WHERE).init({"layers": [jnp.ones(2), jnp.ones(3)]})
