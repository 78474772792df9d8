"""Item and user representation against sums written out by hand."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn import ItemTower, MeanEncoder, SelfAttentionEncoder, UserTower
from recjax.nn.features import linear_encoder
from recjax.types import PAD_ID, Feature, Observation

N, DIM, VOCABULARY = 11, 8, 5
IDS = jnp.array([[PAD_ID, 0, N], [3, 10, 3]], jnp.int32)


def _expected(weights, items, use_id=True):
    """Rows of items 0 .. N-1 and of the item outside the vocabulary, in float64."""
    rows = []
    for i in range(N + 1):
        row = weights["embedding"][i if use_id else 0] if use_id or i == N else np.zeros(DIM)
        if i < N:
            row = row + np.asarray(items.features["genres"].values[i], np.float64) @ weights["multi_hot"]["kernel"]
            row = row + np.asarray(items.features["numbers"].values[i], np.float64) @ weights["numeric"]["kernel"]
            words = [w for w in items.features["title"].values[i].tolist() if w != PAD_ID]
            row = row + (np.mean([weights["words"][w] for w in words], axis=0) if words else 0)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("use_id", [True, False])
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_item_vectors_are_the_sum_of_their_features(key, items, use_id, hidden):
    module = ItemTower(N, DIM, use_id=use_id, hidden=hidden)
    params = jax.jit(module.init)(key, IDS, items)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    expected = _expected(weights, items, use_id)
    for layer in range(2 if hidden else 0):
        dense = weights[f"layers_{layer}"]
        expected = np.maximum(expected, 0) @ dense["kernel"] + dense["bias"]

    @jax.jit
    def outputs(params):
        # More ids than items take another path through the catalogue.
        many = module.apply(params, jnp.tile(IDS, (1, 5)), items)
        return module.apply(params, IDS, items), module.apply(params, items, method="all"), many

    vectors, catalogue, many = outputs(params)
    np.testing.assert_allclose(vectors[0, 1:], expected[[0, N]], atol=1e-5)
    np.testing.assert_allclose(vectors[1], expected[[3, 10, 3]], atol=1e-5)
    assert not vectors[0, 0].any()
    np.testing.assert_allclose(catalogue, expected[:N], atol=1e-5)
    np.testing.assert_allclose(many, np.tile(vectors, (1, 5, 1)), atol=1e-5)


@pytest.mark.parametrize("repeats", [1, 5])
def test_padding_gets_no_gradient_and_the_unknown_item_does(key, items, repeats):
    module = ItemTower(N, DIM)
    params = jax.jit(module.init)(key, IDS, items)
    ids = jnp.tile(IDS, (1, repeats))
    gradient = jax.jit(jax.grad(lambda params, ids: (module.apply(params, ids, items) ** 2).sum()))
    moved = gradient(params, ids)["params"]["embedding"].any(-1)
    assert np.flatnonzero(moved).tolist() == [0, 3, 10, N]
    only_padding = gradient(params, jnp.full_like(ids, PAD_ID))
    assert not any(leaf.any() for leaf in jax.tree.leaves(only_padding))


def test_items_need_not_have_features(key, items):
    bare = items.without_features()
    module = ItemTower(N, DIM)
    params = jax.jit(module.init)(key, IDS, bare)
    assert jax.tree.map(jnp.shape, params["params"]) == {"embedding": (N + 2, DIM)}
    np.testing.assert_array_equal(module.apply(params, bare, method="all"), params["params"]["embedding"][:N])


@pytest.mark.parametrize("repeats", [1, 5])
def test_vectors_of_items_lose_numbers_where_a_key_of_dropout_is_given_and_nowhere_else(key, items, repeats):
    module = ItemTower(N, DIM, dropout=0.5)
    params = jax.jit(module.init)(key, IDS, items)
    ids = jnp.tile(IDS, (1, repeats))
    rngs = {"dropout": jax.random.key(1)}
    for arguments, method in (((ids, items), "__call__"), ((items,), "all")):
        whole = module.apply(params, *arguments, method=method)
        np.testing.assert_array_equal(whole, module.clone(dropout=0.0).apply(params, *arguments, method=method))
        dropped = module.apply(params, *arguments, method=method, rngs=rngs)
        np.testing.assert_array_equal(np.where(dropped == 0, 0, 2 * whole), dropped)  # what is left is scaled up
        assert 0.3 < np.mean(dropped[whole != 0] == 0) < 0.7


def test_item_representation_names_what_does_not_fit(key, items):
    with pytest.raises(ValueError, match="num_items is 12, but items has 11 rows"):
        ItemTower(12, DIM).init(key, IDS, items)
    for feature, message in (
        (
            Feature(jnp.ones((N, 2)), "colours"),
            "is of kind 'colours', which has no encoder; .*numeric",
        ),
        (
            Feature(jnp.ones((3, 2)), "numeric"),
            r"has values of shape \(3, 2\); it needs one row for each of the 11",
        ),
        (Feature(None, "numeric"), "has values of shape None; it needs one row for each of the 11"),
        (Feature(jnp.ones((N, 2), int), "words"), r"'words' \(words_more\) has no size; give Feature"),
    ):
        with pytest.raises(ValueError, match=message):
            ItemTower(N, DIM).init(key, IDS, items.with_features(more=feature))
    with pytest.raises(ValueError, match=r"encoders has \['text'\], but the items have the features \['genres', "):
        ItemTower(N, DIM, encoders={"text": linear_encoder}).init(key, IDS, items)


def test_features_keep_their_kinds_under_maps_of_arrays(items):
    first = jax.tree.map(lambda leaf: leaf[:4], items)
    assert first.num_items == 4
    assert {name: (each.kind, each.size) for name, each in first.features.items()} == {
        "genres": ("multi_hot", None),
        "numbers": ("numeric", None),
        "title": ("words", VOCABULARY),
    }
    np.testing.assert_array_equal(first.content, items.features["genres"].values[:4])


def test_several_features_of_a_kind_have_parameters_by_their_names(key, items):
    more = items.with_features(
        tags=Feature(jnp.ones((N, 4)), "multi_hot"), author=Feature(jnp.zeros((N, 1), jnp.int32), "words", 6)
    )
    params = jax.jit(ItemTower(N, DIM).init)(key, IDS, more)["params"]
    assert jax.tree.map(jnp.shape, params) == {
        "embedding": (N + 2, DIM),
        "multi_hot_genres": {"kernel": (3, DIM)},
        "multi_hot_tags": {"kernel": (4, DIM)},
        "numeric": {"kernel": (2, DIM)},
        "words_author": (6, DIM),
        "words_title": (VOCABULARY, DIM),
    }
    assert more.content is more.features["genres"].values
    assert items.without_features().content is None


def test_user_vector_is_affine_in_the_encoded_history(key, observation):
    vectors = jax.random.normal(jax.random.key(1), (4, 4, DIM))
    module = UserTower(DIM, encoder="mean")
    params = jax.jit(module.init)(key, observation, vectors)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    users = jax.jit(module.apply)(params, observation, vectors)
    for row in range(4):
        kept = np.flatnonzero(np.asarray(observation.history[row]) != PAD_ID)
        encoded = weights["cold_start"]
        if kept.size:
            behaviours = weights["behaviour"][np.asarray(observation.behaviour[row])[kept]]
            encoded = (np.asarray(vectors[row], np.float64)[kept] + behaviours).mean(0)
        expected = encoded @ weights["output"]["kernel"] + weights["output"]["bias"]
        expected = expected + np.asarray(observation.context[row], np.float64) @ weights["context"]["kernel"]
        np.testing.assert_allclose(users[row], expected, atol=1e-5)


def test_without_a_projection_a_user_is_the_encoded_history(key, observation):
    module = UserTower(DIM, use_behaviour=False, project=False)
    vectors = jax.random.normal(key, (*observation.history.shape, DIM))
    params = jax.jit(module.init)(key, observation, vectors)
    assert set(params["params"]) <= {"cold_start", "context"}
    user = module.apply(params, dataclasses.replace(observation, context=None), vectors)
    encoded = MeanEncoder().apply({}, vectors, observation.history != PAD_ID)
    some = np.asarray((observation.history != PAD_ID).any(-1))
    np.testing.assert_allclose(user[some], encoded[some], atol=1e-6)


def test_only_the_cold_start_learns_from_users_without_history(key, observation):
    vectors = jnp.ones((4, 4, DIM))
    module = UserTower(DIM, encoder="gru")
    params = jax.jit(module.init)(key, observation, vectors)
    gradient_of = jax.jit(jax.grad(lambda params: (module.apply(params, observation, vectors)[0] ** 2).sum()))
    gradient = gradient_of(params)["params"]
    assert jnp.abs(gradient["cold_start"]).max() > 0
    untouched = [gradient["behaviour"], *jax.tree.leaves(gradient["history"])]
    assert all(bool((leaf == 0).all()) for leaf in untouched)


def test_unknown_behaviour_is_no_behaviour(key, observation):
    vectors = jnp.ones((4, 4, DIM))
    module = UserTower(DIM)
    params = jax.jit(module.init)(key, observation, vectors)
    unknown = Observation(observation.history, jnp.full_like(observation.behaviour, PAD_ID), observation.context)
    without = {"params": {**params["params"], "behaviour": jnp.zeros_like(params["params"]["behaviour"])}}
    np.testing.assert_array_equal(module.apply(params, unknown, vectors), module.apply(without, observation, vectors))


def test_encoder_can_be_a_function_that_makes_a_module(key, observation):
    module = UserTower(DIM, encoder=functools.partial(SelfAttentionEncoder, num_blocks=2))
    params = jax.eval_shape(module.init, key, observation, jnp.ones((4, 4, DIM)))
    assert {"block_0", "block_1"} <= set(params["params"]["history"])
    with pytest.raises(ValueError, match="no history encoder named 'lstm'"):
        UserTower(DIM, encoder="lstm").init(key, observation, jnp.ones((4, 4, DIM)))
