"""A language model inside a recommender: cached lower layers, its weights, and training of both."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, fit, language, nn
from recjax.data import Interactions, sequences
from recjax.models.sequence import SequenceConfig, Start, fit_sequences
from recjax.replay import Batch
from recjax.types import PAD_ID, Items, Observation, Response, Spec, Step

N = 10
HISTORY = jnp.array([[PAD_ID, 0, 5, 5], [2, 1, 3, 4]])
OBSERVATION = Observation(HISTORY, jnp.where(HISTORY >= 0, 1, PAD_ID))


@pytest.fixture(scope="module")
def texts(titles):
    return titles[:N]


@pytest.fixture(scope="module")
def bare():
    return Items(popularity=jnp.ones(N), is_new=jnp.zeros(N, bool))


def network(model, first=0, **options):
    item = nn.ItemTower(N, 6, use_id=False, encoders={"text": language.text_tower(model, first=first)})
    return nn.Recommendation(item=item, user=nn.UserTower(6, **options))


def with_weights(module, model, items, first=0):
    return language.with_language(jax.jit(module.init)(jax.random.key(1), OBSERVATION, items), model, first=first)


@pytest.mark.parametrize(("name", "pooling"), [("bert", "mean"), ("gpt2", "last"), ("llama", "last")])
def test_vectors_are_those_of_encode(models, texts, bare, name, pooling):
    model = models[name]
    items = language.with_tokens(bare, model, texts)
    tower = language.text_tower(model, pooling=pooling).make()
    params = {"params": {"language": model.params["params"]}}
    made = jax.jit(tower.apply)(params, items.features["text"].values)
    np.testing.assert_allclose(made, language.encode(model, texts, pooling=pooling, normalize=True), atol=2e-5)


@pytest.mark.parametrize("name", ["llama"])
def test_layers_above_kept_states_give_the_same_scores(models, texts, bare, name):
    model = models[name]
    whole, upper = network(model), network(model, first=1)
    items = language.with_tokens(bare, model, texts)
    cached = language.with_tokens(bare, model, texts, first=1)
    params = with_weights(whole, model, items)
    above = language.with_language(params, model, first=0) | {}
    item = dict(above["params"]["item"])
    own = language.slice_layers({"params": item["encoder"]["language"]}, 1, model.config.num_layers)["params"]
    above = {"params": above["params"] | {"item": item | {"encoder": {"language": own}}}}
    expected = jax.jit(whole.apply)(params, OBSERVATION, items)
    np.testing.assert_allclose(jax.jit(upper.apply)(above, OBSERVATION, cached), expected, atol=1e-5)
    values = cached.features["text"].values
    assert values["states"].shape == (*values["tokens"].shape, model.config.dim)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("cached", "computed"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_cached_states_may_have_another_dtype_than_the_network(models, texts, bare, name, cached, computed):
    model = models[name]
    vectors = []
    for dtype, of_states in ((jnp.dtype(computed), jnp.dtype(cached)), (jnp.float32, jnp.float32)):
        items = language.with_tokens(bare, model, texts, first=1, dtype=of_states)
        tower = language.text_tower(model, first=1, dtype=dtype).make()
        params = {"params": {"language": language.slice_layers(model.params, 1, 3)["params"]}}
        vectors.append(jax.jit(tower.apply)(params, items.features["text"].values))
    np.testing.assert_allclose(vectors[0].astype(jnp.float32), vectors[1], atol=0.05)


def test_a_tower_computes_as_its_model_does(models):
    model = models["bert"]
    quick = dataclasses.replace(model, module=model.module.clone(dtype=jnp.bfloat16, remat=True))
    tower = language.text_tower(quick).make()
    assert (tower.dtype, tower.remat) == (jnp.bfloat16, True)
    assert language.text_tower(quick, dtype=jnp.float32).make().dtype == jnp.float32


def test_max_tokens_cuts_texts_and_keeps_special_tokens(small, texts, bare):
    before = small.tokenizer([texts[-1] * 9])[0]
    tokens = language.with_tokens(bare, small, texts, max_tokens=5).features["text"].values
    assert tokens.shape == (N, 5)
    ends = small.tokenizer.special_ids
    last = np.array(tokens)[np.arange(N), (np.array(tokens) != PAD_ID).sum(1) - 1]
    assert set(last) <= set(ends)
    np.testing.assert_array_equal(small.tokenizer([texts[-1] * 9])[0], before)


def test_training_moves_the_language_model_and_lowers_the_loss(small, texts, bare):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(24), 6)
    item = (rng.integers(0, N, 24)[user] + np.tile(np.arange(6), 24)) % N
    log = sequences(Interactions(user, item, time=np.arange(len(user))), 24)
    items = language.with_tokens(bare, small, [f"{one} {n}" for n, one in enumerate(texts)])
    module = network(small, encoder=functools.partial(nn.SelfAttentionEncoder, num_blocks=1, num_heads=1))
    params = with_weights(module, small, items)
    config = SequenceConfig(
        epochs=8, batch_size=8, history_length=5, learning_rate=1e-2, loss="sampled_softmax", sampler="in_batch",
        num_buckets=1, accumulate=1,
    )  # fmt: skip
    fitted = fit_sequences(module, log, items, config, key=jax.random.key(0), start=Start(params))
    own, learned = (tree["params"]["item"]["encoder"]["language"] for tree in (params, fitted.params))
    queries = (tree["layers"]["attention"]["query"]["kernel"] for tree in (own, learned))
    assert not np.allclose(*queries)

    frozen = fit.only(lambda path: "language" not in path)
    adapted = fit_sequences(module, log, items, config, key=jax.random.key(0), start=Start(params, frozen))
    for trained in (fitted, adapted):
        assert trained.history[-1]["loss"] < 0.95 * trained.history[0]["loss"]
    jax.tree.map(np.testing.assert_array_equal, own, adapted.params["params"]["item"]["encoder"]["language"])


def test_bad_input_is_named(small, texts, bare):
    with pytest.raises(ValueError, match="There are 2 texts of 10 items; give one text an item"):
        language.with_tokens(bare, small, texts[:2])
    with pytest.raises(ValueError, match="first is 2; the model has layers 0 to 1"):
        language.text_tower(small, first=2)
    module = network(small)
    with pytest.raises(ValueError, match=r"encoders has \['text'\], but the items have the features \[\]"):
        module.init(jax.random.key(0), OBSERVATION, bare)
    items = language.with_tokens(bare, small, texts)
    params = jax.jit(module.init)(jax.random.key(0), OBSERVATION, items)
    with pytest.raises(
        ValueError, match=r"other shapes than the model's layers from 1 on; .*text_tower\(model, first=1\)"
    ):
        language.with_language(params, small, first=1)
    plain = nn.Recommendation.of(N, dim=6)
    with pytest.raises(ValueError, match="has no TextTower; give its ItemTower encoders="):
        language.with_language(plain.init(jax.random.key(0), OBSERVATION, bare), small)
    without = dataclasses.replace(small, tokenizer=None)
    with pytest.raises(ValueError, match="no tokenizer"):
        language.with_tokens(bare, without, texts)


def test_td_errors_train_the_language_model(small, texts, bare):
    items = language.with_tokens(bare, small, texts, first=1)
    item = nn.ItemTower(N, 6, use_id=False, encoders={"text": language.text_tower(small, first=1)})
    network = nn.DotProductQ(item=item, user=nn.UserTower(6))
    params = language.with_language(jax.jit(network.init)(jax.random.key(1), OBSERVATION, items), small, first=1)
    agent = agents.dqn(
        network,
        optax.adam(1e-3),
        target=agents.TargetNetwork(period=4),
        index_every=2,
        policy=agents.SlatePolicy(exclude_history=False),
    )
    state = agent.init(jax.random.key(0), Spec(num_items=N, slate_size=2, history_length=4), items, params=params)
    slots, users = jnp.ones((2, 2)), jnp.zeros(2, bool)
    step = Step(
        OBSERVATION,
        jnp.array([[1, 2], [6, 5]]),
        jnp.zeros(2),
        None,
        Response(click=slots),
        slots,
        users,
        users,
        OBSERVATION,
    )
    sample = Batch(jax.tree.map(lambda leaf: leaf[:, None], step), jnp.ones(2, bool), jnp.arange(2), jnp.full(2, 0.5))
    learned, metrics, _ = jax.jit(agent.learn)(jax.random.key(0), state, sample)
    own, before = (tree["params"]["item"]["encoder"]["language"]["layers"] for tree in (learned.params, params))
    assert np.isfinite(metrics["loss"])
    moved = jax.tree.map(lambda x, y: not np.allclose(x, y), own, before)
    assert moved["attention"]["value"]["kernel"]
