"""recjax as a modelling backend: everything of one's own, from outside the package, in a few lines."""

from __future__ import annotations

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, loop, nn, rewards
from recjax.envs import Environment
from recjax.types import Items, Response, Spec


class MyQ(linen.Module):
    """One's own Flax module: any ``(observation, items) -> [B, N]`` will do."""

    @linen.compact
    def __call__(self, observation, items):
        return linen.Dense(items.num_items)(jnp.zeros((observation.history.shape[0], 1)) + 1.0)


def my_reward(response):
    return 2.0 * response["click"] - 0.5


def my_env():
    spec = Spec(num_items=6, slate_size=1, history_length=2)
    items = Items(popularity=jnp.ones(6), is_new=jnp.zeros(6, bool))

    def reset(key, params, world):
        return spec.empty_observation(), jnp.zeros(())

    def step(key, state, slate, params, world):
        likes = (slate == params).astype(jnp.float32)
        return spec.empty_observation(), state, Response(click=likes), jnp.array(True), jnp.array(False), {}

    return Environment(spec, jnp.array(4), items, reset, step)


def my_agent(item=4):
    def act(key, state, observation, *, explore=True):
        users = observation.history.shape[0]
        return agents.Action(jnp.full((users, 1), item), jnp.zeros(users))

    return agents.Agent(init=lambda key, spec, items, hparams=None, params=None: (), act=act)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Registers all three for the time of a test, so that other tests do not meet them."""
    for registry in (rewards.rewards, envs.environments, agents.agents):
        monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    rewards.register("my_reward", my_reward)
    envs.register("my_env", my_env)
    agents.register("my_agent", my_agent)


CONFIG = loop.LoopConfig(
    steps=60, chunk=60, eval_every=60, users=16, eval_users=4, eval_steps=2, seeds=2, batch_size=32,
    replay_capacity=1000, learn_start=2,
)  # fmt: skip


def test_ten_lines_train_a_model_of_ones_own():
    env = envs.environments.make("my_env")
    agent = agents.dqn(nn.DenseNetwork(MyQ()), optax.adam(0.1), discount=0.0, policy=agents.SlatePolicy(epsilon=0.5))
    result = loop.run(env, agent, CONFIG, key=jax.random.key(0), reward="my_reward")
    np.testing.assert_allclose(result.final()["session_reward"], 1.5)


def test_an_agent_of_ones_own_runs_in_the_loop():
    env = envs.environments.make("my_env")
    result = loop.run(env, agents.agents.make("my_agent"), CONFIG, key=jax.random.key(0), reward=my_reward)
    np.testing.assert_allclose(result.final()["session_reward"], 1.5)
    result = loop.run(env, agents.agents.make("my_agent", item=1), CONFIG, key=jax.random.key(0), reward=my_reward)
    np.testing.assert_allclose(result.final()["session_reward"], -0.5)
