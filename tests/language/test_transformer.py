"""The three families against PyTorch, and the properties of their layers."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import language
from recjax.language.transformer import Transformer

NAMES = ["bert", "gpt2", "llama", "llama-untied"]


@pytest.fixture(scope="module")
def inputs(frozen):
    ids, mask, segments = frozen.inputs()
    return jnp.asarray(ids, jnp.int32), jnp.asarray(mask), jnp.asarray(segments, jnp.int32)


@functools.partial(jax.jit, static_argnames=("module", "method"))
def apply(module, params, *arguments, method=None, rngs=None):
    return module.apply(params, *arguments, method=method, rngs=rngs)


def run(model, ids, mask, segments=None, **options):
    return apply(dataclasses.replace(model.module, **options), model.params, ids, mask, segments)


run_layers = jax.jit(language.run_layers, static_argnames=("module", "first", "last"))


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_and_logits_are_those_of_pytorch(name, models, inputs, expected):
    model, (ids, mask, segments) = models[name], inputs
    hidden = run(model, ids, mask, segments if name == "bert" else None)
    logits = apply(model.module, model.params, hidden, method="logits")
    np.testing.assert_allclose(np.asarray(hidden)[mask], expected[name]["hidden"], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(np.asarray(logits)[mask], expected[name]["logits"], rtol=1e-5, atol=1e-4)
    assert np.abs(expected[name]["logits"]).max() > 1, "the weights are too small to show a difference"


@pytest.mark.parametrize("name", NAMES)
def test_layers_can_be_run_in_parts(name, models, inputs, expected):
    model, (ids, mask, segments) = models[name], inputs
    module, params = model.module, model.params
    segments = segments if name == "bert" else None
    embedded = apply(module, params, ids, mask, segments, method="embed")
    middle = run_layers(module, params, embedded, mask, last=1)
    np.testing.assert_allclose(np.asarray(middle)[mask], expected[name]["middle"], rtol=1e-5, atol=2e-5)
    hidden = run_layers(module, params, middle, mask, first=1)
    np.testing.assert_allclose(np.asarray(hidden)[mask], expected[name]["hidden"], rtol=1e-5, atol=2e-5)
    upper = language.slice_layers(params, 1, 3)
    assert {len(leaf) for leaf in jax.tree.leaves(upper["params"]["layers"])} == {2}


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 2), (0, 4), (2, 1)])
def test_layers_that_are_not_there_are_refused(first, last, models):
    with pytest.raises(ValueError, match="of 3: need 0 <= first < last <= 3"):
        language.slice_layers(models["llama"].params, first, last)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_padding_changes_nothing(name, left, models, inputs):
    model, (ids, mask, _) = models[name], inputs
    plain = np.asarray(run(model, ids, mask))
    for row, length in enumerate(np.asarray(mask).sum(axis=1)):
        padded_ids, padded_mask = np.full((1, 17), 60, np.int32), np.zeros((1, 17), bool)
        where = slice(17 - length, 17) if left else slice(0, length)
        padded_ids[0, where], padded_mask[0, where] = ids[row, :length], True
        hidden = run(model, jnp.asarray(padded_ids), jnp.asarray(padded_mask))
        np.testing.assert_allclose(hidden[0, where], plain[row, :length], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_texts_without_tokens_are_finite(name, models):
    hidden = run(models[name], jnp.zeros((2, 5), jnp.int32), jnp.zeros((2, 5), bool))
    assert np.isfinite(hidden).all()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_decoders_see_nothing_that_comes_later(name, models, inputs):
    model, (ids, mask, _) = models[name], inputs
    changed = ids.at[0, 7].set((ids[0, 7] + 1) % 61)
    one, other = run(model, ids, mask), run(model, changed, mask)
    np.testing.assert_array_equal(one[0, :7], other[0, :7])
    assert np.abs(one[0, 7:] - other[0, 7:]).max(axis=-1).min() > 1e-3


def test_encoders_see_both_sides(models, inputs):
    model, (ids, mask, _) = models["bert"], inputs
    changed = ids.at[0, 7].set((ids[0, 7] + 1) % 61)
    assert np.abs(run(model, ids, mask)[0, 0] - run(model, changed, mask)[0, 0]).max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_remat_changes_neither_result_nor_gradient(name, models, inputs):
    model, (ids, mask, _) = models[name], inputs

    def gradient(**options):
        module = dataclasses.replace(model.module, **options)
        return jax.jit(jax.grad(lambda params: jnp.sum(module.apply(params, ids, mask)[mask] ** 3)))(model.params)

    plain, again = gradient(), gradient(remat=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, again)
    assert np.isfinite(jax.tree.leaves(plain)[0]).all()
    assert np.abs(plain["params"]["layers"]["attention"]["query"]["kernel"]).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_and_keeps_float32_parameters(name, models, inputs, frozen):
    model, (ids, mask, _) = models[name], inputs
    module = Transformer(model.config, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), ids))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    hidden = run(model, ids, mask, dtype=jnp.bfloat16)
    assert hidden.dtype == jnp.bfloat16
    assert apply(module, model.params, hidden, method="logits").dtype == jnp.float32
    exact = np.asarray(run(model, ids, mask))[mask]
    # bfloat16 keeps eight bits.
    assert np.abs(np.asarray(hidden, np.float32)[mask] - exact).mean() < 0.05 * np.abs(exact).mean()


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_dropout_is_on_with_a_key_only(name, models, inputs):
    model, (ids, mask, _) = models[name], inputs
    config = dataclasses.replace(model.config, dropout=0.3, attention_dropout=0.3, embedding_dropout=0.3)
    module = Transformer(config)
    plain = apply(module, model.params, ids, mask)
    np.testing.assert_array_equal(plain, run(model, ids, mask))
    one, same, other = (
        apply(module, model.params, ids, mask, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - plain).max() > 0.01
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "embedding_dropout"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_every_dropout_is_applied(name, field, models, inputs):
    model, (ids, mask, _) = models[name], inputs
    none = {"dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0}
    module = Transformer(dataclasses.replace(model.config, **(none | {field: 0.3})))
    dropped = apply(module, model.params, ids, mask, rngs={"dropout": jax.random.key(1)})
    assert np.abs(dropped - run(model, ids, mask)).max() > 0.01


def test_layers_differ_in_what_they_drop(models, inputs):
    """Each layer of the scan has a key of its own."""
    model, (ids, mask, _) = models["llama"], inputs
    config = dataclasses.replace(model.config, dropout=0.5)
    zeros = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), model.params["params"]["layers"])
    params = {"params": {**model.params["params"], "layers": zeros}}
    hidden = jnp.zeros((*ids.shape, 16)).at[:].set(1.0)
    one = run_layers(Transformer(config), params, hidden, mask, last=1, rngs={"dropout": jax.random.key(0)})
    two = run_layers(Transformer(config), params, hidden, mask, last=2, rngs={"dropout": jax.random.key(0)})
    again = run_layers(Transformer(config), params, one, mask, last=1, rngs={"dropout": jax.random.key(0)})
    assert np.abs(two - again).max() > 0.01


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_more_tokens_than_positions_are_refused(name, models):
    with pytest.raises(ValueError, match="25 tokens, but the model has 24 positions"):
        models[name].module.apply(models[name].params, jnp.zeros((1, 25), jnp.int32))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_by_hand_on_either_side(pooling):
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(length, 3)) for length in (1, 4, 6)]
    by_hand = {"mean": lambda row: row.mean(axis=0), "cls": lambda row: row[0], "last": lambda row: row[-1]}[pooling]
    for left in (False, True):
        hidden, mask = np.full((4, 6, 3), np.nan, np.float32), np.zeros((4, 6), bool)
        for i, row in enumerate(rows):
            where = slice(6 - len(row), 6) if left else slice(0, len(row))
            hidden[i, where], mask[i, where] = row, True
        pooled = language.pool(jnp.asarray(hidden), jnp.asarray(mask), pooling)
        np.testing.assert_allclose(pooled[:3], np.stack([by_hand(row) for row in rows]), rtol=1e-5)
        np.testing.assert_array_equal(pooled[3], np.zeros(3))


def test_gradients_through_pooling_of_nothing_are_finite():
    gradient = jax.grad(lambda h: jnp.sum(language.pool(h, jnp.zeros((2, 3), bool)) ** 2))(jnp.ones((2, 3, 4)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3, 4)))


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling is 'max'; choose one of"):
        language.pool(jnp.zeros((1, 2, 3)), jnp.ones((1, 2), bool), "max")
