"""Formulas of the networks, from their towers, in float64 NumPy; and what works across networks."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics.pairwise import cosine_similarity

from recjax import catalogue
from recjax.nn import (
    MLPQ,
    DenseNetwork,
    DotProductQ,
    DuelingDotProductQ,
    ItemTower,
    Recommendation,
    UserTower,
    catalogue_scores,
    check_towers,
    has_item_vectors,
    item_vectors,
    q_networks,
    warm_start,
)

N, DIM = 11, 8
TOWERS = {"item": ItemTower(N, DIM), "user": UserTower(DIM)}


def _towers(network, params, observation, items):
    def towers(module):
        return module.represent(observation, items), module.item.all(items)

    users, vectors = jax.jit(lambda params: network.apply(params, method=towers))(params)
    return np.asarray(users, np.float64), np.asarray(vectors, np.float64)


def _weights(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])


def _random_like(params):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves) + 1)
    moved = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=False)]
    return jax.tree.unflatten(treedef, moved)


def _make(network, observation, items):
    return network, _random_like(jax.jit(network.init)(jax.random.key(0), observation, items))


@pytest.mark.parametrize("dueling", [False, True])
def test_dot_product_q(observation, items, dueling):
    network, params = _make((DuelingDotProductQ if dueling else DotProductQ).of(N, DIM), observation, items)
    users, vectors = _towers(network, params, observation, items)
    weights = _weights(params)
    advantage = weights["scale"] * cosine_similarity(users, vectors) + weights["item_bias"].T
    if dueling:
        advantage -= advantage.mean(1, keepdims=True)
    expected = advantage + users @ weights["value"]["kernel"] + weights["value"]["bias"]
    np.testing.assert_allclose(jax.jit(network.apply)(params, observation, items), expected, atol=1e-5)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
def test_mlp_q(observation, items, dueling, hidden):
    network, params = _make(MLPQ.of(N, DIM, hidden=hidden, dueling=dueling), observation, items)
    users, vectors = _towers(network, params, observation, items)
    weights = _weights(params)
    first = np.concatenate([weights["user_layer"]["kernel"], weights["item_layer"]["kernel"]])
    expected = np.zeros((4, N))
    for row in range(4):
        for item in range(N):
            x = np.concatenate([users[row], vectors[item]]) @ first + weights["user_layer"]["bias"]
            for i in range(len(hidden)):
                x = np.maximum(x, 0) @ weights[f"kernel_{i}"] + weights[f"bias_{i}"]
            expected[row, item] = x[0] + weights["item_bias"][item, 0]
    if dueling:
        value = users @ weights["value"]["kernel"] + weights["value"]["bias"]
        expected += value - expected.mean(1, keepdims=True)
    np.testing.assert_allclose(jax.jit(network.apply)(params, observation, items), expected, atol=1e-5)


def test_mlp_first_layer_starts_like_one_dense_layer_over_both_vectors(observation, items):
    network = MLPQ.of(N, 64, hidden=(256,))
    weights = _weights(jax.jit(network.init)(jax.random.key(0), observation, items))
    for name in ("user_layer", "item_layer"):
        np.testing.assert_allclose(weights[name]["kernel"].var(), 1 / (64 + 64), rtol=0.05)


@pytest.mark.parametrize("learn_temperature", [False, True])
def test_recommendation(observation, items, learn_temperature):
    network = Recommendation.of(N, DIM, temperature=0.2, learn_temperature=learn_temperature)
    params = jax.jit(network.init)(jax.random.key(0), observation, items)
    logits = cosine_similarity(*_towers(network, params, observation, items)) / 0.2
    np.testing.assert_allclose(network.apply(params, observation, items), logits, atol=1e-5)
    log_probs = network.apply(params, observation, items, method="log_probs")
    np.testing.assert_allclose(log_probs, log_softmax(logits, axis=1), atol=1e-5)
    queries = network.apply(params, observation, items, method="queries")
    index = network.apply(params, items, method="item_index")
    np.testing.assert_allclose(catalogue.max_score(queries, index), logits.max(1), atol=1e-5)


def test_registered_names_build_the_networks():
    assert {name: type(q_networks.make(name, **TOWERS)).__name__ for name in q_networks} == {
        "dot_product": "DotProductQ",
        "mlp": "MLPQ",
        "dueling_dot_product": "DuelingDotProductQ",
        "dueling_mlp": "MLPQ",
        "quantile_dot_product": "QuantileDotProductQ",
        "categorical_dot_product": "CategoricalDotProductQ",
    }
    assert q_networks.make("dueling_mlp", **TOWERS).dueling
    assert not q_networks.make("mlp", **TOWERS).dueling


def test_mlp_without_layers_is_refused(observation, items):
    with pytest.raises(ValueError, match=r"MLPQ\.hidden is empty"):
        MLPQ.of(N, DIM, hidden=()).init(jax.random.key(0), observation, items)


@pytest.mark.parametrize("name", ["mlp", "dueling_mlp"])
def test_mlp_over_a_big_catalogue_needs_only_blocks_of_memory(name, observation):
    from recjax.types import Items, Spec

    num_items, rows = 20_000, 32
    network = q_networks.make(name, item=ItemTower(num_items, 4), user=UserTower(4), hidden=(64,))
    items = Items(popularity=jnp.ones(num_items), is_new=jnp.zeros(num_items, bool))
    users = Spec(num_items=num_items, slate_size=1, history_length=3).empty_observation((rows,))
    params = jax.eval_shape(network.init, jax.random.key(0), users, items)
    search = jax.jit(lambda *arguments: catalogue.max_score(*catalogue_scores(network, *arguments)))
    temporary = search.lower(params, users, items).compile().memory_analysis().temp_size_in_bytes
    item_halves = num_items * 64 * 4
    assert temporary < 2 * item_halves + 4 * rows * 128 * 64 * 4
    assert temporary < rows * num_items * 64 * 4 / 8


class Popularity(nn.Module):
    """Somebody's own module: no more than scores of all items."""

    @nn.compact
    def __call__(self, observation, items):
        weight = self.param("weight", nn.initializers.ones, ())
        cold = (observation.history < 0).all(1)
        return weight * jnp.where(cold[:, None], items.popularity[None], -items.popularity[None])


def test_own_modules_that_score_all_items_are_wrapped(key, observation, items):
    items = items.replace(popularity=jnp.arange(N, dtype=jnp.float32))
    network = DenseNetwork(Popularity())
    params = jax.jit(network.init)(key, observation, items)
    queries, index = catalogue_scores(network, params, observation, items)
    assert catalogue.argmax(queries, index).tolist() == [N - 1, 0, 0, 0]
    assert catalogue.top_k(queries, index, 2, block_size=4)[1].tolist() == [[N - 1, N - 2], [0, 1], [0, 1], [0, 1]]
    ids = jnp.full((4, 1), 3)
    assert catalogue.score_at(queries, index, ids)[:, 0].tolist() == [3.0, -3.0, -3.0, -3.0]
    assert network.apply(params, observation, ids, items, method="at")[:, 0].tolist() == [3.0, -3.0, -3.0, -3.0]
    assert (network.num_items, has_item_vectors(network)) == (None, False)
    with pytest.raises(ValueError, match=r"Popularity is no nn\.ScoringNetwork; wrap .* nn\.DenseNetwork\(Popularity"):
        catalogue_scores(Popularity(), params, observation, items)


def test_towers_of_two_widths_are_refused(key, observation, items):
    network = DotProductQ(item=ItemTower(N, 8), user=UserTower(4))
    with pytest.raises(ValueError, match=r"DotProductQ\.item\.dim is 8 but user\.dim is 4; use one width"):
        network.init(key, observation, items)


def test_networks_that_share_towers_need_the_same():
    check_towers(DotProductQ.of(N, encoder="gru"), Recommendation.of(N, encoder="gru", temperature=0.5))
    with pytest.raises(ValueError, match=r"DotProductQ\.user\.encoder is 'gru' but Rec.*\.user\.encoder is 'mean'"):
        check_towers(DotProductQ.of(N, encoder="gru"), Recommendation.of(N))
    with pytest.raises(ValueError, match="DenseNetwork has no item and user tower to share"):
        check_towers(DenseNetwork(Popularity()), Recommendation.of(N))


def test_item_vectors_are_a_matter_of_the_class():
    assert has_item_vectors(DotProductQ.of(N))
    assert has_item_vectors(Recommendation.of(N))
    assert not has_item_vectors(DuelingDotProductQ.of(N))
    with pytest.raises(ValueError, match=r"MLPQ has no item vectors that could be cached"):
        item_vectors(MLPQ.of(N), {}, None)


def test_warm_start_copies_the_towers_and_nothing_else(key, observation, items):
    source = jax.jit(Recommendation.of(N, DIM, learn_temperature=True).init)(jax.random.key(1), observation, items)
    params = jax.jit(DotProductQ.of(N, DIM).init)(key, observation, items)
    started = warm_start(params, source)["params"]
    for name in ("user", "item"):
        jax.tree.map(np.testing.assert_array_equal, started[name], source["params"][name])
    np.testing.assert_array_equal(started["value"]["kernel"], params["params"]["value"]["kernel"])
    assert set(started) == set(params["params"])


def test_warm_start_leaves_a_tower_that_differs(key, observation, items):
    source = jax.jit(Recommendation.of(N, DIM, encoder="gru").init)(jax.random.key(1), observation, items)
    params = jax.jit(DotProductQ.of(N, DIM).init)(key, observation, items)
    started = warm_start(params, source)["params"]
    jax.tree.map(np.testing.assert_array_equal, started["item"], source["params"]["item"])
    jax.tree.map(np.testing.assert_array_equal, started["user"], params["params"]["user"])


def test_warm_start_from_something_else_is_refused(key, observation, items):
    source = jax.jit(Recommendation.of(N, 2 * DIM).init)(jax.random.key(1), observation, items)
    params = jax.jit(DotProductQ.of(N, DIM).init)(key, observation, items)
    with pytest.raises(ValueError, match=r"no tower has equal structure and shapes.*\(13, 8\).*\(13, 16\)"):
        warm_start(params, source)
