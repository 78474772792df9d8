"""Users in the style of KuaiSim: a step by hand on each level, with the original's quirks and without."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.agents import oracle
from recjax.data import Dataset, IdMap, Interactions
from recjax.envs import KuaiSimNetwork, UserModel
from recjax.loop import episode_runner
from recjax.types import PAD_ID, Behaviour, Observation, Revealed

USERS, ITEMS, LENGTH, WIDTH = 5, 12, 6, 4
CLICK, LIKE, IMPRESSION = Behaviour.CLICK, Behaviour.LIKE, Behaviour.IMPRESSION


@pytest.fixture(scope="module")
def log() -> Dataset:
    """Clicks and likes of what was rated."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(USERS), 8), np.concatenate([rng.permutation(ITEMS)[:8] for _ in range(USERS)])
    return Dataset(
        "feed",
        Interactions(user, item, np.arange(40), rng.integers(0, 2, 40), np.full(40, LIKE)),
        IdMap(tuple(map(str, range(USERS)))),
        IdMap(tuple(map(str, range(ITEMS)))),
        extras={"is_click": rng.integers(0, 2, 40)},
    )


CONFIG = envs.UserModelConfig(members=1, width=WIDTH, history_length=LENGTH, columns={"is_click": CLICK})


def untrained(faithful: bool) -> UserModel:
    network = KuaiSimNetwork(
        2, USERS, ITEMS, latent=4, width=WIDTH, hidden=8, history_length=LENGTH, double_sigmoid=faithful
    )
    nobody = jnp.zeros(1, jnp.int32)
    blank = Observation(nobody[:, None], nobody[:, None])
    items = envs.environments.make("synthetic", num_items=ITEMS, slate_size=1).items.without_features()
    params = network.init(jax.random.key(0), nobody, blank, nobody[:, None], items)
    # Scales apart from 1, so that scores tell behaviours and items apart.
    params = jax.tree.map(lambda leaf: 1.7 * leaf[None], params)
    return UserModel(params, jnp.zeros(3), network, (CLICK, LIKE), True, LENGTH)


MODELS = {faithful: untrained(faithful) for faithful in (False, True)}


def made(log: Dataset, faithful: bool, **options) -> envs.Environment:
    return envs.kuaisim(log, user_model=MODELS[faithful], config=CONFIG, faithful=faithful, slate_size=3, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def known(env, state, ids, dropout_key=None):
    """Scores ``f64[M, 2]``, encodings ``f64[M, d]`` and the state ``f64[3 d]``, asked of the network itself."""
    network, params = MODELS[False].network, env.params
    one = jax.tree.map(lambda leaf: leaf[None], state.observation)
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)

    def ask(method, *arguments, key=None):
        rngs = {} if key is None else {"dropout": key}
        return network.apply(params.network, *arguments, method=method, rngs=rngs)

    encodings = np.asarray(ask("encode", jnp.asarray(ids), params.items), np.float64)
    state = ask("state", state.user[None], one, params.items, key=keys[0])
    attention = np.asarray(ask("attention", state, key=keys[1])[0], np.float64)
    return encodings @ attention.T / WIDTH, encodings, np.asarray(state[0], np.float64)


def test_scores_are_means_of_products_and_bounded_by_the_second_sigmoid(log):
    envs_of = {faithful: made(log, faithful) for faithful in (False, True)}
    _, state = envs_of[False].reset(jax.random.key(0), envs_of[False].params, None)
    ids = np.arange(ITEMS)
    by_hand, encodings, _ = known(envs_of[False], state, ids)
    # Layer norms with scale 1.7 and no bias: encodings of mean 0 and length 1.7 sqrt(d).
    np.testing.assert_allclose(encodings.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encodings, axis=1), 1.7 * np.sqrt(WIDTH), rtol=1e-3)
    one = jax.tree.map(lambda leaf: leaf[None], state.observation)
    for faithful, env in envs_of.items():
        logits, strengths = MODELS[faithful].network.apply(
            env.params.network, state.user[None], one, jnp.asarray(ids)[None], env.params.items
        )
        np.testing.assert_allclose(logits[0], sigmoid(by_hand) if faithful else by_hand, rtol=2e-4, atol=1e-5)
        assert not strengths.any()
    twice = sigmoid(sigmoid(by_hand))
    assert twice.min() > 0.5
    assert twice.max() < 0.7311


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("level", ["session", "request"])
def test_a_slate_by_hand(log, faithful, level):
    env = made(log, faithful, level=level, rho=0.7, weights={"click": 1.0, "like": 2.5})
    step = jax.jit(lambda key, state, slate: env.step(key, state, slate, env.params, None))
    _, arrived = env.reset(jax.random.key(3), env.params, None)
    for seed, slate in enumerate([[3, 1, 2], [7, 7, 0], [5, PAD_ID, 9]]):
        state = dataclasses.replace(arrived, temper=jnp.float32(3.5 - seed), steps=jnp.int32(4))
        key = jax.random.key(seed)
        answer_key, dropout_key = jax.random.split(key) if faithful else (key, None)
        there = np.array(slate) >= 0
        found, encodings, _ = known(env, state, np.maximum(slate, 0), dropout_key)
        chance = sigmoid(sigmoid(found)) if faithful else sigmoid(found)
        if level == "session":
            unit = encodings / np.linalg.norm(encodings, axis=1, keepdims=True) * there[:, None]
            products = unit[:, None] * unit[None]
            alike = (products.mean(axis=2) if faithful else products.sum(axis=2)).mean(axis=1)
            chance = np.maximum(chance - 0.7 * alike[:, None], 0)
        answers = there[:, None] & (np.asarray(jax.random.uniform(answer_key, (3, 2))) < chance)
        reward = (answers @ [1.0, 2.5]).mean()
        temper = 3.5 - seed + (np.clip(reward - 2, -2, 0) if level == "session" else -1)

        after = step(key, state, jnp.array(slate))
        np.testing.assert_array_equal(after.response["click"], answers[:, 0])
        np.testing.assert_array_equal(after.response["like"], answers[:, 1])
        assert float(after.state.temper) == pytest.approx(temper, abs=1e-5)
        assert bool(after.terminated) == (level == "session" and temper < 1)
        assert bool(after.truncated) == (level == "request" and temper < 1)
        names = [LIKE if like else CLICK if click else IMPRESSION for click, like in answers]
        new = [(item, name) for item, name in zip(slate, names, strict=True) if item >= 0]
        assert after.observation.history.tolist()[-len(new) :] == [item for item, _ in new]
        assert after.observation.behaviour.tolist()[-len(new) :] == [name for _, name in new]
        np.testing.assert_array_equal(after.observation.history[: -len(new)], state.observation.history[len(new) :])


@pytest.mark.parametrize("faithful", [False, True])
def test_several_sessions_by_hand(log, faithful):
    env = made(log, faithful, level="cross_session", temper=2.0)
    step = jax.jit(lambda key, state, vector: env.step(key, state, vector, env.params, None))
    _, state = env.reset(jax.random.key(3), env.params, None)
    vector = np.array([1.0, -0.4])
    rewards, days = [], []
    for turn in range(12):
        key = jax.random.key(turn)
        answer_key, first_key, second_key = jax.random.split(key, 3) if faithful else (key, None, None)
        found, _, _ = known(env, state, np.arange(ITEMS), first_key)
        chance = sigmoid(found)  # a single sigmoid, also with the quirks
        shown = np.argsort(-(chance @ vector), kind="stable")[:3]
        uniform = np.asarray(jax.random.uniform(answer_key, (7,)))
        answers = uniform[:6].reshape(3, 2) < chance[shown]
        rewards.append(answers.sum(axis=1).mean())

        after = step(key, state, jnp.asarray(vector, jnp.float32))
        np.testing.assert_allclose(after.response["click"], [answers[:, 0].mean()], rtol=1e-6)
        np.testing.assert_allclose(after.response["like"], [answers[:, 1].mean()], rtol=1e-6)
        assert after.observation.history.tolist()[-3:] == shown.tolist()
        if turn % 2:
            moved = known(env, after.state, [0], second_key)[2]
            returning = np.asarray(env.params.returning, np.float64)
            mean = np.mean(rewards[-2:])
            chance = np.clip(moved @ returning[:-1] + returning[-1] + 0.1 * mean + 0.4, 0.001, 0.999)
            weights = np.exp(np.log(chance) + np.arange(10) * np.log(1 - chance))
            day = 1 + np.sum(np.cumsum(weights) / weights.sum() <= uniform[6])
            days.append(float(after.response["return_days"][0]))
            assert days[-1] == day
            assert float(after.state.temper) == 2.0
        else:
            assert float(after.response["return_days"][0]) == 0.0
            assert float(after.state.temper) == 1.0
        assert not bool(after.terminated)
        assert bool(after.truncated) == (turn == 11)  # six sessions of two slates
        state = after.state
    assert len(set(days)) > 1


def test_sessions_are_as_long_as_temper_allows(log):
    """A slate costs 2 less its reward, and a user leaves as soon as 19 have been spent."""
    env = made(log, True, rho=0.0)
    agent = oracle(env.oracles["myopic"].choose)
    episodes = episode_runner(env, agent, users=256, steps=25)(jax.random.key(0), None)
    assert bool(episodes.ended.all())
    spent = 2 * np.asarray(episodes.length) - np.asarray(episodes.reward) / 3
    assert spent.min() > 19 - 1e-3
    assert spent.max() <= 21 + 1e-3


def test_myopic_slates_are_spread_where_similarity_is_dear(log):
    found = {}
    for rho in (0.0, 3.0):
        env = made(log, False, rho=rho)
        keys = jax.random.split(jax.random.key(0), 8)
        observation, state = jax.vmap(env.reset, in_axes=(0, None, None))(keys, env.params, None)
        slates = env.oracles["myopic"].choose(keys[0], Revealed(observation, state, env.params, None), None)
        after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, state, slates, env.params, None)
        found[rho] = float(jnp.mean(after.info["similarity"]))
    assert found[3.0] < found[0.0] - 0.1


def test_a_model_is_fitted_to_a_log(log):
    few = dataclasses.replace(CONFIG, epochs=1, batch_size=16, validation=0.3)
    model = envs.fit_kuaisim(log, few, faithful=True)
    assert model.behaviours == (CLICK, LIKE)
    assert model.network.double_sigmoid
    env = envs.kuaisim_faithful(log, user_model=model, config=few)
    assert [signal.name for signal in env.spec.signals] == ["click", "like"]
    assert env.params.weights.tolist() == [1.0, 0.0]


def test_bad_arguments_are_named(log):
    with pytest.raises(ValueError, match="level is 'day'; choose one of request, session, cross_session"):
        made(log, False, level="day")
    with pytest.raises(ValueError, match=r"rho=-1"):
        made(log, False, rho=-1.0)
    with pytest.raises(ValueError, match=r"temper=0\.5"):
        made(log, False, temper=0.5)
    with pytest.raises(ValueError, match="weights has hate; the behaviours of this log are click, like"):
        made(log, False, weights={"hate": 1.0})
    with pytest.raises(ValueError, match=r"needs a model of fit_kuaisim\(faithful=True\)"):
        envs.kuaisim_faithful(log, user_model=MODELS[False], config=CONFIG)
