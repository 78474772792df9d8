"""Yardsticks of the domains, against all slates of a small catalogue in float64."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.choice.oracles import LookAhead
from recjax.envs.presets.news import Plan as NewsPlan
from recjax.envs.presets.session import Plan as SessionPlan
from recjax.envs.presets.session import belief
from recjax.types import PAD_ID, Behaviour, Revealed

USERS, ITEMS, SLOTS, LENGTH = 5, 9, 2, 4
SHAPE = {"num_items": ITEMS, "slate_size": SLOTS, "history_length": LENGTH}
MODEL = envs.ResponseModel(bait=0.8, boredom_weight=2.0, satisfaction_rate=0.3, no_click_logit=1.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def revealed(env, history, behaviour=Behaviour.CLICK):
    """A few tired users with these histories, and the fields of their states and of the params in float64."""
    world = env.world(jax.random.key(2))
    keys = jax.random.split(jax.random.key(0), USERS)
    _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, world)
    user = state if hasattr(state, "memory") else state.user
    history = jnp.tile(jnp.asarray(history, jnp.int32), (USERS, 1))
    codes = jnp.where(history == PAD_ID, PAD_ID, jnp.asarray(behaviour, jnp.int32))
    observation = dataclasses.replace(user.observation, history=history, behaviour=codes)
    memory = jax.random.normal(jax.random.key(1), user.memory.shape)
    memory = 0.8 * memory / jnp.linalg.norm(memory, axis=-1, keepdims=True)
    user = user.replace(observation=observation, memory=memory, satisfaction=jnp.linspace(0.1, 0.9, USERS))
    state = user if hasattr(state, "memory") else state.replace(user=user)
    return Revealed(observation, state, env.params, world)


def shown(env, name, users, setting=None):
    return np.asarray(jax.jit(env.oracles[name].choose)(jax.random.key(0), users, setting))


def attraction(users, row, weight, vector=None, bias=None):
    """``f64[N]`` of one user under a plan that weighs boredom so."""
    user = users.state if hasattr(users.state, "memory") else users.state.user
    user, factors = jax.tree.map(lambda x: np.asarray(x[row], float), user), users.params.factors
    vectors, topics = np.asarray(factors.vectors, float), np.asarray(factors.topics, float)
    liking = vectors @ (user.vector if vector is None else vector) + np.asarray(factors.bias, float)
    liking = liking + (user.bias if bias is None else bias)
    return liking - weight * MODEL.boredom_weight * np.maximum(topics @ user.memory, 0.0), float(user.satisfaction)


def best_of_all(appeal, reward, pleasure, satisfaction, worth, allowed):
    """The value of a slate as a function, and its largest over all slates."""
    odds = np.exp(appeal - MODEL.no_click_logit)
    gain = reward + worth * MODEL.satisfaction_rate * (pleasure - satisfaction)
    loss = -worth * MODEL.no_click_decay * satisfaction

    def value(slate):
        slate = list(slate)
        return (np.sum(odds[slate] * gain[slate]) + loss) / (np.sum(odds[slate]) + 1)

    return value, max(map(value, itertools.combinations(allowed, SLOTS)))


PLANS = pytest.mark.parametrize(("name", "worth", "weight"), [("myopic", 0.0, 1.0), ("look_ahead", 40.0, 1.5)])
HISTORY = [PAD_ID, 7, 2, 7]


def setting_of(name, worth, weight, kind=LookAhead, **others):
    if name != "look_ahead":
        return None
    return kind(*(jnp.float32(value) for value in (worth, weight, *others.values())))


@PLANS
def test_video(name, worth, weight):
    env = envs.video(**SHAPE, response_model=MODEL)
    users = revealed(env, HISTORY)
    length, bait = (np.asarray(x, float) for x in (env.params.length, env.params.factors.bait))
    slates = shown(env, name, users, setting_of(name, 100 * worth, weight))
    for row in range(USERS):
        liked, satisfaction = attraction(users, row, weight)
        pleasure = sigmoid(liked - np.log(length / 240.0))
        seconds = length * (pleasure + (1 - pleasure) / 2)
        allowed = [item for item in range(ITEMS) if item not in HISTORY]
        value, best = best_of_all(liked + MODEL.bait * bait, seconds, pleasure, satisfaction, 100 * worth, allowed)
        assert not set(slates[row]) & set(HISTORY)
        np.testing.assert_allclose(value(slates[row]), best, rtol=1e-4)


@PLANS
def test_ecommerce(name, worth, weight):
    env = envs.ecommerce(**SHAPE, response_model=MODEL)
    users = revealed(env, HISTORY)
    world = users.world.replace(stock=users.world.stock.at[jnp.array([0, 3])].set(0.0))
    slates = shown(env, name, users._replace(world=world), setting_of(name, worth, weight))
    price, bait = (np.asarray(x, float) for x in (env.params.price, env.params.factors.bait))
    for row in range(USERS):
        liked, satisfaction = attraction(users, row, weight)
        pleasure = sigmoid(liked - float(users.state.sensitivity[row]) * np.log(price / 30.0))
        pleasure[[0, 3]] = 0.0
        allowed = [item for item in range(ITEMS) if item not in HISTORY]
        value, best = best_of_all(
            liked + MODEL.bait * bait, price * 0.5 * 0.5 * pleasure, pleasure, satisfaction, worth, allowed
        )
        np.testing.assert_allclose(value(slates[row]), best, rtol=1e-4)


@PLANS
def test_news(name, worth, weight):
    env = envs.news(**SHAPE, num_candidates=6, per_step=2, response_model=MODEL)
    users = revealed(env, [PAD_ID, PAD_ID, 4, 1])
    urgency = 0.5 if name == "look_ahead" else 0.0
    slates = shown(env, name, users, setting_of(name, worth, weight, NewsPlan, urgency=urgency))
    breaking, perishable = (np.asarray(x, float)[:6] for x in (env.params.breaking, env.params.perishable))
    bait, ages = np.asarray(env.params.factors.bait, float)[:6], np.array([2, 2, 1, 1, 0, 0])

    def with_age(liked, ages):
        return liked + 2.0 * breaking * np.exp(-ages / 3.0) - 2.0 * perishable * ages / 3

    for row in range(USERS):
        liked, satisfaction = attraction(users, row, weight)
        now, later = with_age(liked[:6], ages), with_age(liked[:6], ages + 5)
        pleasure = sigmoid(now)
        reward = 1 + urgency * (pleasure - sigmoid(later))
        value, best = best_of_all(now + MODEL.bait * bait, reward, pleasure, satisfaction, worth, [0, 2, 3, 5])
        assert not set(slates[row]) & {1, 4}, "what was read is not offered again"
        np.testing.assert_allclose(value(slates[row]), best, rtol=1e-4)


@PLANS
def test_music(name, worth, weight):
    env = envs.music(num_items=ITEMS, tracks_per_artist=3, history_length=LENGTH, response_model=MODEL)
    users = revealed(env, HISTORY, [PAD_ID, Behaviour.PLAY, Behaviour.VIEW, Behaviour.PLAY])
    tracks = shown(env, name, users, setting_of(name, worth, weight))[:, 0]
    artist, decay = np.asarray(env.params.artist), MODEL.memory_decay
    familiar = np.zeros(ITEMS)
    familiar[7] = 1 + 0.9**2
    fatigue = (1 - decay) * ((artist == artist[7]) * (1 + decay**2) + (artist == artist[2]) * decay)
    for row in range(USERS):
        liked, satisfaction = attraction(users, row, weight)
        liked = sigmoid(liked - 2.0 * fatigue + 1.5 * familiar - 0.75 * familiar**2)
        pleasure = liked * (1 - 0.2 * np.minimum(familiar, 1))
        played = 1 + worth * MODEL.satisfaction_rate * (pleasure - satisfaction)
        value = liked * played - (1 - liked) * worth * MODEL.no_click_decay * satisfaction
        np.testing.assert_allclose(value[tracks[row]], value.max(), rtol=1e-5)


def test_belief_is_a_newton_step_from_the_prior():
    env = envs.session(**SHAPE, response_model=MODEL, taste_scale=2.0)
    codes = [PAD_ID, Behaviour.IMPRESSION, Behaviour.CLICK, Behaviour.IMPRESSION]
    users = revealed(env, HISTORY, codes)
    observation = jax.tree.map(lambda x: x[0], users.observation)
    mean, covariance = belief(observation, SLOTS, env.params)
    vectors, bias = (np.asarray(x, float)[[7, 2, 7]] for x in (env.params.factors.vectors, env.params.factors.bias))
    chance = sigmoid(bias - np.log(np.exp(MODEL.no_click_logit) + SLOTS - 1))
    hessian = np.eye(8) / 4 + sum(p * (1 - p) * np.outer(q, q) for p, q in zip(chance, vectors, strict=True))
    gradient = vectors.T @ (np.array([0.0, 1.0, 0.0]) - chance)
    np.testing.assert_allclose(covariance, np.linalg.inv(hessian), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, np.linalg.solve(hessian, gradient), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["myopic", "look_ahead", "revealed"])
def test_session(name):
    env = envs.session(**SHAPE, response_model=MODEL, taste_scale=2.0)
    users = revealed(env, HISTORY, [PAD_ID, Behaviour.IMPRESSION, Behaviour.CLICK, Behaviour.IMPRESSION])
    curiosity = 1.5 if name == "look_ahead" else 0.0
    slates = shown(env, name, users, SessionPlan(jnp.float32(curiosity)) if curiosity else None)
    observation = jax.tree.map(lambda x: x[0], users.observation)
    mean, covariance = (np.asarray(x, float) for x in belief(observation, SLOTS, env.params))
    vectors, bait = (np.asarray(x, float) for x in (env.params.factors.vectors, env.params.factors.bait))
    doubt = np.sqrt(np.einsum("nt,ts,ns->n", vectors, covariance, vectors))
    for row in range(USERS):
        known = {} if name == "revealed" else {"vector": mean, "bias": 0.0}
        liked, satisfaction = attraction(users, row, 1.0, **known)
        liked = liked + curiosity * doubt
        allowed = [item for item in range(ITEMS) if item != 2]
        value, best = best_of_all(liked + MODEL.bait * bait, np.ones(ITEMS), sigmoid(liked), satisfaction, 0.0, allowed)
        assert 2 not in slates[row], "what was clicked is not offered again; what was passed over may be"
        np.testing.assert_allclose(value(slates[row]), best, rtol=1e-4)
