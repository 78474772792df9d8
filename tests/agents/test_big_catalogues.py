"""What agents do for big catalogues is what they do for small ones, but for the cost."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, nn
from recjax.catalogue import row_adam, row_sgd
from recjax.fit import RowWise
from recjax.replay import Batch
from recjax.types import Feature, Items, Observation, Response, Spec, Step, seed_axes

SPEC = Spec(num_items=30, slate_size=2, history_length=4)
BATCH = 6


def make_items(num_items=SPEC.num_items, features=True):
    rng = np.random.default_rng(0)
    genres = jnp.asarray(rng.integers(0, 2, (num_items, 3)), jnp.float32)
    return Items(
        popularity=jnp.ones(num_items),
        is_new=jnp.zeros(num_items, bool),
        features={"genres": Feature(genres, "multi_hot")} if features else {},
    )


def random_sample(seed, num_items=SPEC.num_items, batch=BATCH):
    rng = np.random.default_rng(seed)

    def observation():
        history = jnp.asarray(rng.integers(-1, num_items, (batch, 1, SPEC.history_length)), jnp.int32)
        return Observation(history=history, behaviour=jnp.where(history < 0, -1, 1))

    reward = jnp.asarray(rng.normal(size=(batch, 1, SPEC.slate_size)), jnp.float32)
    steps = Step(
        observation=observation(),
        slate=jnp.asarray(rng.integers(-1, num_items, (batch, 1, SPEC.slate_size)), jnp.int32),
        log_prob=jnp.zeros(reward.shape[:-1]),
        extras=None,
        response=Response(click=(reward > 0).astype(jnp.float32)),
        reward=reward,
        terminated=jnp.zeros((batch, 1), bool),
        truncated=jnp.zeros((batch, 1), bool),
        next_observation=observation(),
    )
    return Batch(steps, jnp.ones(batch, bool), jnp.arange(batch), jnp.full(batch, 1.0 / batch))


def make(kind, optimizer, **options):
    if kind == "dqn":
        network = nn.DotProductQ.of(SPEC.num_items, dim=8, encoder="attention")
        return agents.dqn(network, optimizer, target=agents.TargetNetwork(period=2), **options)
    if kind == "joint":
        network = nn.DotProductQ.of(SPEC.num_items, dim=8, encoder="attention")
        model = nn.Recommendation.of(SPEC.num_items, dim=8, encoder="attention")
        clicks = agents.ClickPrediction(model, negatives=16)
        return agents.dqn(network, optimizer, target=agents.TargetNetwork(period=2), clicks=clicks, **options)
    network = nn.Recommendation.of(SPEC.num_items, dim=8, encoder="attention")
    return agents.supervised(agents.ClickPrediction(network, negatives=16), optimizer, **options)


def learn(agent, items, updates=5):
    state = agent.init(jax.random.key(0), SPEC, items)
    step = jax.jit(agent.learn)
    history = []
    for update in range(updates):
        state, metrics, _ = step(jax.random.key(update), state, random_sample(update))
        history.append(metrics)
    return state, history


@pytest.mark.parametrize("index_every", [None, 3])
@pytest.mark.parametrize("kind", ["dqn", "supervised", "joint"])
def test_rows_learn_what_whole_tables_learn(kind, index_every):
    found, expected = (
        learn(
            make(
                kind,
                RowWise(row_adam(0.05, eps=1e-2), optax.adam(0.05, eps=1e-2), max_grad_norm=1.0, whole=whole),
                index_every=index_every,
            ),
            make_items(),
        )
        for whole in (False, True)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), found[1], expected[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), found[0].params, expected[0].params
    )


@pytest.mark.parametrize("kind", ["dqn", "supervised", "joint"])
def test_a_kept_index_that_is_always_refreshed_changes_nothing(kind):
    optimizer = RowWise(row_adam(0.05, eps=1e-2), optax.adam(0.05, eps=1e-2))
    fresh, expected = learn(make(kind, optimizer), make_items())
    kept, found = learn(make(kind, optimizer, index_every=1), make_items())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), kept.params, fresh.params)
    assert all(metrics["index_age"] == 0 for metrics in found)
    assert found[-1]["index_drift"] > 0, "genre weights are shared, so vectors had drifted"
    assert "index_age" not in expected[-1]


@pytest.mark.parametrize("kind", ["dqn", "supervised"])
def test_items_with_rows_of_their_own_never_drift(kind):
    _, metrics = learn(make(kind, RowWise(row_sgd(0.05), optax.sgd(0.05)), index_every=2), make_items(features=False))
    assert [int(m["index_age"]) for m in metrics] == [1, 0, 1, 0, 1]
    assert metrics[-1]["index_drift"] < 1e-6


def test_the_policy_and_the_target_read_the_kept_vectors():
    agent = make("dqn", optax.sgd(0.0), index_every=100)
    state = agent.init(jax.random.key(0), SPEC, make_items())
    _, index = agent.scores(state, jax.tree.map(lambda x: x[:, 0], random_sample(0).experience.observation))
    assert index.vectors is state.index.vectors
    silent = state.target_index.replace(vectors=jnp.zeros_like(index.vectors))
    silenced = dataclasses.replace(state, target_index=silent)
    sample = random_sample(0)
    step = jax.jit(agent.learn)
    (_, before, _), (_, after, _) = (step(jax.random.key(0), s, sample) for s in (state, silenced))
    assert before["td_error"] != after["td_error"]


def test_sampled_loss_estimates_the_whole_softmax():
    network = nn.Recommendation.of(SPEC.num_items, dim=8)
    sample, items = random_sample(1), make_items()
    whole = agents.supervised(agents.ClickPrediction(network), optax.sgd(0.0))
    sampled = agents.supervised(agents.ClickPrediction(network, negatives=20_000), optax.sgd(0.0))
    state = whole.init(jax.random.key(0), SPEC, items)
    _, expected, _ = jax.jit(whole.learn)(jax.random.key(0), state, sample)
    _, found, _ = jax.jit(sampled.learn)(jax.random.key(0), state, sample)
    assert expected["clicks"] > 2
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.02)


def test_memory_of_an_update_does_not_grow_with_the_catalogue():
    def temporary(num_items):
        network = nn.DotProductQ.of(num_items, dim=8, encoder="attention")
        optimizer = RowWise(row_adam(0.05, eps=1e-2), optax.adam(0.05, eps=1e-2))
        agent = agents.dqn(network, optimizer, index_every=100)
        items = make_items(num_items)
        spec = dataclasses.replace(SPEC, num_items=num_items)
        state = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec, items))
        update = jax.jit(lambda state, sample: agent.learn(jax.random.key(0), state, sample), donate_argnums=0)
        return update.lower(state, random_sample(0, num_items)).compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(50_000), temporary(400_000)
    assert large < 1.1 * small
    assert large < 400_000 * 8 * 4 / 2


def test_seeds_keep_an_index_each():
    agent = make("dqn", RowWise(row_adam(0.05, eps=1e-2), optax.adam(0.05, eps=1e-2)), index_every=2)
    init = lambda key: agent.init(key, SPEC, make_items())  # noqa: E731
    axes = seed_axes(jax.eval_shape(init, jax.random.key(0)))
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.jit(jax.vmap(init, out_axes=axes))(keys)
    sample = random_sample(0)
    learn = lambda state: agent.learn(jax.random.key(0), state, sample)[0]  # noqa: E731
    found = jax.jit(jax.vmap(learn, in_axes=(axes,), out_axes=axes))(states)
    init, learn = jax.jit(init), jax.jit(learn)
    for seed in range(2):
        expected = learn(init(keys[seed]))
        np.testing.assert_allclose(found.index.vectors[seed], expected.index.vectors, rtol=1e-3, atol=1e-5)
    assert found.index.age == 1


def test_bad_options_are_named():
    network = nn.DotProductQ.of(SPEC.num_items)
    with pytest.raises(ValueError, match="index_every=10 must be at least 1 and needs a target network that is copied"):
        agents.dqn(network, optax.sgd(0.1), target=agents.TargetNetwork(tau=0.1), index_every=10)
    with pytest.raises(ValueError, match="MLPQ has no item vectors that could be cached"):
        agents.dqn(nn.MLPQ.of(SPEC.num_items), optax.sgd(0.1), index_every=10).init(
            jax.random.key(0), SPEC, make_items()
        )
    with pytest.raises(ValueError, match="negatives is 0"):
        agents.ClickPrediction(nn.Recommendation.of(SPEC.num_items), negatives=0)
    model = agents.ClickPrediction(nn.Recommendation.of(SPEC.num_items))
    agent = agents.supervised(model, RowWise(row_sgd(0.1), optax.sgd(0.1)))
    with pytest.raises(ValueError, match="row-wise optimiser, but the loss depends on it other than through rows"):
        learn(agent, make_items(), updates=1)
