"""Yardsticks of the declared dynamics, against all slates of a small catalogue."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, loop
from recjax.envs.choice.oracles import LookAhead, oracles
from recjax.rewards import satisfaction
from recjax.types import Revealed

ITEMS, SLOTS, USERS = 12, 3, 16
MODEL = envs.ResponseModel(bait=1.5, leave_slope=0.2, position_discount=1.0)


@pytest.fixture(scope="module")
def env():
    return envs.synthetic(num_items=ITEMS, slate_size=SLOTS, history_length=4, response_model=MODEL)


@pytest.fixture(scope="module")
def users(env):
    """Users some steps into their sessions, so that memories and satisfactions differ."""
    observation, state = jax.vmap(env.reset, in_axes=(0, None, None))(
        jax.random.split(jax.random.key(0), USERS), env.params, None
    )
    memory = jax.random.normal(jax.random.key(1), state.memory.shape)
    memory = 0.8 * memory / jnp.linalg.norm(memory, axis=-1, keepdims=True)
    return Revealed(
        observation, state.replace(memory=memory, satisfaction=jnp.linspace(0.1, 0.9, USERS)), env.params, None
    )


def expected_value(users, row, slate, worth, weight, reward):
    """In float64, written from the definitions: the reward of a slate and the price of what it does to satisfaction."""
    user = jax.tree.map(lambda x: np.asarray(x[row], float), users.state)
    factors = jax.tree.map(lambda x: np.asarray(x, float), users.params.factors)
    liking = factors.vectors[slate] @ user.vector + factors.bias[slate] + user.bias
    liking = liking - weight * MODEL.boredom_weight * np.maximum(factors.topics[slate] @ user.memory, 0.0)
    odds = np.exp(liking + MODEL.bait * factors.bait[slate] - MODEL.no_click_logit)
    pleasure = 1 / (1 + np.exp(-liking))
    gain = (1.0 if reward == "click" else pleasure) + worth * MODEL.satisfaction_rate * (pleasure - user.satisfaction)
    loss = -worth * MODEL.no_click_decay * user.satisfaction
    return (np.sum(odds * gain) + loss) / (np.sum(odds) + 1)


@pytest.mark.parametrize(
    ("reward", "name", "worth", "weight"),
    [("click", "myopic", 0.0, 1.0), ("satisfaction", "myopic", 0.0, 1.0), ("click", "look_ahead", 8.0, 2.0)],
)
def test_oracles_show_the_best_of_all_slates(users, reward, name, worth, weight):
    found = oracles(SLOTS) if reward == "click" else oracles(SLOTS, satisfaction)
    setting = LookAhead(jnp.float32(worth), jnp.float32(weight)) if name == "look_ahead" else None
    slates = np.asarray(jax.jit(found[name].choose)(jax.random.key(0), users, setting))
    for row in range(USERS):
        seen = set(np.asarray(users.observation.history[row]).tolist())
        allowed = [item for item in range(ITEMS) if item not in seen]
        values = [
            expected_value(users, row, list(slate), worth, weight, reward)
            for slate in itertools.combinations(allowed, SLOTS)
        ]
        shown = expected_value(users, row, slates[row], worth, weight, reward)
        assert not seen & set(slates[row].tolist())
        np.testing.assert_allclose(shown, max(values), rtol=1e-5)


def test_oracles_are_policies_of_a_loop(env):
    """The myopic one earns more of its reward in one step than chance does, and no chance of more is left."""
    followed = {}
    for name, agent in {"random": agents.random(), "myopic": agents.oracle(env.oracles["myopic"].choose)}.items():
        run = loop.episode_runner(env, agent, users=512, steps=1)
        followed[name] = run(jax.random.key(3), agent.init(jax.random.key(4), env.spec, env.items)).reward
    difference = np.asarray(followed["myopic"] - followed["random"])
    assert difference.mean() > 3 * difference.std() / np.sqrt(len(difference))
