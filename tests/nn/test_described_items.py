"""Items that pretrained models describe: adaptors, fusion with ids, encoders that are asked for each item once."""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from recjax.nn import ItemTower, OncePerItem, Recommendation, UserTower, adaptors, with_new_items
from recjax.nn.in_blocks import BLOCK, each_once
from recjax.types import PAD_ID, Feature, Items

N, V, DIM = 11, 5, 8
IDS = jnp.array([[PAD_ID, 0, N], [3, 10, 3]])


@pytest.fixture(scope="module")
def described() -> Items:
    vectors = np.random.default_rng(0).normal(size=(N, V)).astype(np.float32)
    return Items(
        popularity=jnp.ones(N), is_new=jnp.zeros(N, bool), features={"text": Feature(jnp.asarray(vectors), "vectors")}
    )


def moved(params):
    """The parameters with noise, so that none is zero."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    return jax.tree.unflatten(
        treedef, [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    )


def wide(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])


@pytest.mark.parametrize("name", list(adaptors))
@pytest.mark.parametrize("norm", [1.0, 0.2])
def test_adaptors_make_vectors_of_about_the_norm_that_is_asked_for(name, norm):
    x = jax.random.normal(jax.random.key(0), (64, 100))
    x /= jnp.linalg.norm(x, axis=1, keepdims=True)
    module = adaptors.make(name, dim=128, initial_norm=norm)
    made = module.apply(jax.jit(module.init)(jax.random.key(1), x), x)
    assert made.shape == (64, 128)
    assert np.linalg.norm(made, axis=1).mean() == pytest.approx(norm, rel=0.15)


def test_the_mixture_of_experts_is_its_formula():
    x = np.random.default_rng(0).normal(size=(4, V))
    module = adaptors.make("moe", dim=DIM, experts=3)
    params = moved(jax.jit(module.init)(jax.random.key(0), jnp.asarray(x)))
    w = wide(params)
    gates = softmax(x @ w["gate"]["kernel"], axis=1)
    experts = np.einsum("bkv,kvd->bkd", x[:, None] - w["shift"], w["kernel"])
    np.testing.assert_allclose(module.apply(params, jnp.asarray(x)), (gates[:, :, None] * experts).sum(1), atol=1e-4)


def test_the_weights_of_experts_are_noisy_in_training_alone():
    x = jnp.ones((2, V))
    module = adaptors.make("moe", dim=DIM, experts=3, dropout=0.0)
    params = moved(jax.jit(module.init)(jax.random.key(0), x))
    noisy = [module.apply(params, x, rngs={"dropout": jax.random.key(k)}) for k in (1, 1, 2)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.allclose(noisy[0], noisy[2])
    np.testing.assert_array_equal(module.apply(params, x), module.apply(params, x))


@pytest.mark.parametrize("fusion", ["sum", "residual", "gate"])
@pytest.mark.parametrize("use_id", [True, False])
def test_id_and_description_are_joined_by_the_formula(described, fusion, use_id):
    module = ItemTower(N, DIM, use_id=use_id, fusion=fusion)
    params = moved(jax.jit(module.init)(jax.random.key(0), IDS, described))
    w = wide(params)
    text = (
        np.asarray(described.features["text"].values, np.float64) @ w["adapt"]["Dense_0"]["kernel"]
        + w["adapt"]["Dense_0"]["bias"]
    )
    ids = w["embedding"][:N] if use_id else np.zeros((N, DIM))
    expected = ids + text
    if fusion == "gate" and use_id:
        logits = np.concatenate([ids, text], 1) @ w["gate"]["kernel"] + w["gate"]["bias"]
        g = 1 / (1 + np.exp(-logits))
        expected = g * ids + (1 - g) * text
    vectors = module.apply(params, IDS, described)
    np.testing.assert_allclose(module.apply(params, described, method="all"), expected, atol=1e-5)
    np.testing.assert_allclose(vectors[1], expected[[3, 10, 3]], atol=1e-5)
    # What is no known item has no description, and padding nothing at all.
    np.testing.assert_allclose(vectors[0, 2], w["embedding"][N if use_id else 0], atol=1e-6)
    assert not vectors[0, 0].any()


def test_residual_ids_say_nothing_before_training(described):
    described_only = ItemTower(N, DIM, use_id=False)
    residual = ItemTower(N, DIM, fusion="residual")
    params = jax.jit(residual.init)(jax.random.key(0), IDS, described)
    without = {"params": {**params["params"], "embedding": params["params"]["embedding"][:1]}}
    np.testing.assert_array_equal(
        residual.apply(params, described, method="all"), described_only.apply(without, described, method="all")
    )


def test_dropout_of_ids_leaves_descriptions_alone(described):
    module = ItemTower(N, DIM, id_dropout=0.5)
    params = moved(jax.jit(module.init)(jax.random.key(0), IDS, described))
    alone = {"params": {**params["params"], "embedding": jnp.zeros_like(params["params"]["embedding"])}}
    text = module.apply(alone, described, method="all")
    dropped = module.apply(params, described, method="all", rngs={"dropout": jax.random.key(3)})
    is_text = np.isclose(dropped, text, atol=1e-6).all(1)
    assert 0 < is_text.sum() < N
    kept = text + 2 * params["params"]["embedding"][:N]
    np.testing.assert_allclose(dropped[~is_text], kept[~is_text], atol=1e-5)


def test_an_unknown_fusion_is_named(described):
    with pytest.raises(ValueError, match=r"fusion is 'product'; choose one of \('sum', 'residual', 'gate'\)"):
        ItemTower(N, DIM, fusion="product").init(jax.random.key(0), IDS, described)


def of_texts(encoder=None):
    item = ItemTower(N, DIM, use_id=False, encoders={} if encoder is None else {"text": encoder})
    return Recommendation(item=item, user=UserTower(DIM))


class Counted(nn.Module):
    """A text encoder that says how many items it was asked for."""

    note: object
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, values):
        kernel = self.param("kernel", nn.initializers.normal(), (V, V))
        jax.debug.callback(lambda values: self.note(np.asarray(values)), values)
        return jnp.tanh(values @ kernel)


@pytest.mark.parametrize("ids", [[[4, 4], [2, 4]], [[0]], [list(range(9)) * 3]])
def test_each_item_is_encoded_once_and_gradients_are_those_of_encoding_all(ids):
    x = jax.random.normal(jax.random.key(0), (9, 3))
    w, ids = jax.random.normal(jax.random.key(1), (3, 4)), jnp.array(ids)
    once = jax.jit(lambda w: (each_once(lambda rows, n: jnp.tanh(x[rows] @ w), ids, 9) ** 3).sum())
    plain = jax.jit(lambda w: (jnp.tanh(x @ w)[ids] ** 3).sum())
    for made, expected in zip(jax.value_and_grad(once)(w), jax.value_and_grad(plain)(w), strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_blocks_without_items_are_not_computed():
    blocks = []

    def encode(rows, number):
        jax.debug.callback(lambda number: blocks.append(int(number)), number)
        return rows[:, None].astype(jnp.float32)

    few = jnp.tile(jnp.arange(BLOCK + 1), 10)
    made = jax.jit(lambda ids: each_once(encode, ids, 100 * BLOCK))(few)
    jax.effects_barrier()
    np.testing.assert_array_equal(made[:, 0], few)
    assert sorted(set(blocks)) == [0, 1]


def test_history_and_scored_items_are_encoded_together(described, observation):
    asked = []
    module = of_texts(OncePerItem(functools.partial(Counted, asked.append)))
    params = jax.jit(module.init)(jax.random.key(0), observation, described)
    positives, negatives = jnp.array([[1], [2], [3], [4]]), jnp.array([5, 6, 5])
    asked.clear()
    own, shared = module.apply(params, observation, positives, negatives, described, method="against")
    jax.effects_barrier()
    assert len(asked) == 1
    scores = jax.jit(module.apply)(params, observation, described)
    np.testing.assert_allclose(own, jnp.take_along_axis(scores, positives, 1), atol=1e-5)
    np.testing.assert_allclose(shared, scores[:, negatives], atol=1e-5)


def test_an_encoder_takes_the_place_of_vectors(described, observation):
    module = of_texts(OncePerItem(functools.partial(Counted, lambda values: None)))
    params = jax.jit(module.init)(jax.random.key(0), observation, described)
    kernel = params["params"]["item"]["encoder"]["kernel"]
    frozen = described.with_features(text=Feature(jnp.tanh(described.features["text"].values @ kernel), "vectors"))
    item = {name: value for name, value in params["params"]["item"].items() if name != "encoder"}
    plain = {"params": {**params["params"], "item": item}}
    np.testing.assert_allclose(
        jax.jit(module.apply)(params, observation, described),
        jax.jit(of_texts().apply)(plain, observation, frozen),
        atol=1e-5,
    )


@pytest.mark.parametrize("use_id", [True, False])
def test_new_items_are_their_descriptions_and_old_ones_stay(described, observation, use_id):
    few = jax.tree.map(lambda leaf: leaf[:8], described)
    small = Recommendation(item=ItemTower(8, DIM, use_id=use_id, fusion="residual"), user=UserTower(DIM))
    known = dataclasses.replace(observation, history=jnp.minimum(observation.history, 7))
    params = moved(jax.jit(small.init)(jax.random.key(0), known, few))
    large, grown = (
        Recommendation(item=ItemTower(N, DIM, use_id=use_id, fusion="residual"), user=UserTower(DIM)),
        with_new_items(params, N),
    )
    scores = jax.jit(large.apply)(grown, known, described)
    np.testing.assert_allclose(scores[:, :8], jax.jit(small.apply)(params, known, few), atol=1e-5)
    described_only = params["params"]["item"]["adapt"]["Dense_0"]
    expected = described.features["text"].values[8:] @ described_only["kernel"] + jnp.tile(
        described_only["bias"], (N - 8, 1)
    )
    np.testing.assert_allclose(
        large.apply(grown, described, method=lambda m, x: m.item.all(x))[8:], expected, atol=1e-5
    )
    if use_id:
        # The item outside the vocabulary is the same one.
        np.testing.assert_array_equal(
            grown["params"]["item"]["embedding"][-2:], params["params"]["item"]["embedding"][-2:]
        )
        with pytest.raises(ValueError, match="num_items is 7, but the network knows 8; items cannot be taken away"):
            with_new_items(params, 7)
