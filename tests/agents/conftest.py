"""Logged steps with known answers, for the agents to learn from."""

from __future__ import annotations

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from recjax.nn import DenseNetwork
from recjax.replay import Batch
from recjax.types import Items, Observation, Response, Step


class TableQ(nn.Module):
    """A user's own Flax module: one value for every last item and item."""

    num_items: int

    @nn.compact
    def __call__(self, observation, items):
        table = self.param("table", nn.initializers.zeros, (self.num_items + 1, self.num_items))
        return table[observation.history[:, -1]]


def observe(state, length=1):
    """Users whose last item is ``state``."""
    state = jnp.asarray(state, jnp.int32)
    history = jnp.broadcast_to(state[..., None], (*state.shape, length))
    return Observation(history=history, behaviour=jnp.where(history < 0, -1, 1).astype(jnp.int32))


def windows(s_tm1, slate, reward, s_t, terminated, truncated=None, valid=None):
    """A batch from nested lists: states ``[B, n]``, slates and rewards ``[B, n, K]``, flags ``[B, n]``."""
    reward = jnp.asarray(reward, jnp.float32)
    terminated = jnp.asarray(terminated, bool)
    steps = Step(
        observation=observe(s_tm1),
        slate=jnp.asarray(slate, jnp.int32),
        log_prob=jnp.zeros(reward.shape[:-1]),
        extras=None,
        response=Response(click=reward),
        reward=reward,
        terminated=terminated,
        truncated=jnp.zeros_like(terminated) if truncated is None else jnp.asarray(truncated, bool),
        next_observation=observe(s_t),
    )
    rows = terminated.shape[0]
    valid = jnp.ones(rows, bool) if valid is None else jnp.asarray(valid, bool)
    return Batch(steps, valid, jnp.arange(rows), jnp.full(rows, 1.0 / rows))


def make_items(num_items):
    return Items(popularity=jnp.arange(num_items, dtype=jnp.float32), is_new=jnp.zeros(num_items, bool))


def fit(agent, spec, sample, updates=300, hparams=None):
    """The agent's state after learning from one sample again and again."""
    state = agent.init(jax.random.key(0), spec, make_items(spec.num_items), hparams)

    @jax.jit
    def run(state):
        learn = lambda state, key: agent.learn(key, state, sample)[:2]  # noqa: E731
        return jax.lax.scan(learn, state, jax.random.split(jax.random.key(1), updates))

    return run(state)


@pytest.fixture(scope="session")
def kit():
    """The functions above, because test modules cannot import one another."""

    def table_q(num_items):
        return DenseNetwork(TableQ(num_items))

    return SimpleNamespace(TableQ=table_q, observe=observe, windows=windows, make_items=make_items, fit=fit)
