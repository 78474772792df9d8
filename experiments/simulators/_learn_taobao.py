"""VirtualTaobao: a cycle of vectors, found by an evolution strategy and by PPO."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _learners import TESTING, TRAINING, Learned, Task, finite, in_a_loop, stacked

from recjax import agents, envs, loop
from recjax.nn import ContextValue, GaussianPolicy
from recjax.types import Array, Items, Observation, PyTree

TURNS = 50


class Cycle(nn.Module):
    """One of a few vectors, in turns: ``tanh(W[t mod period])`` with the turn ``t``, the last number of the context.

    Users leave where vectors are alike, and hardly differ in what they click.

    Attributes:
      period: how many vectors there are.
      size: numbers of a vector.
    """

    period: int
    size: int = 27

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """Vectors ``f32[B, size]``."""
        del items
        assert observation.context is not None
        turn = observation.context[:, -1].astype(jnp.int32)
        vectors = self.param("vectors", nn.initializers.normal(0.3), (self.period, self.size))
        return jnp.tanh(vectors[turn % self.period])


def learn(env: envs.Environment, seeds: int, smoke: bool) -> Learned:
    """Each seed by itself; one user a policy, and the same one for a policy and its mirror image."""
    generations, population, followed = (4, 4, 16) if smoke else (150, 512, 256)
    agent = agents.vector_policy(Cycle(period=5))
    search = agents.evolution_strategy(optax.adam(0.1), population=population, sigma=1.0)
    serve, test = (
        loop.episode_runner(env, agent, users=users, steps=TURNS, reward="clicks=1") for users in (1, followed)
    )

    @jax.jit
    def generation(key: Array, state: PyTree, found: PyTree) -> PyTree:
        draw_key, serve_key = jax.random.split(key)
        users = jnp.tile(jax.random.split(serve_key, population // 2), 2)
        served = jax.vmap(lambda key, params: serve(key, state.replace(params=params)))
        return search.tell(draw_key, found, served(users, search.ask(draw_key, found)).reward[:, 0])

    states, curves, every = [], [], generations // 4
    for seed in range(seeds):
        begin_key, key = jax.random.split(jax.random.fold_in(jax.random.key(TRAINING), seed))
        state = agent.init(begin_key, env.spec, env.items)
        found, curve = search.init(state.params), []
        for number in range(generations + 1):
            if number % every == 0:
                state = state.replace(params=found.params)
                curve.append(float(jnp.mean(test(jax.random.key(TESTING), state).reward)))
            found = generation(jax.random.fold_in(key, number), state, found)
        states.append(state)
        curves.append(curve)
    shown = np.arange(len(curves[0])) * every * population * TURNS
    return Learned(agent, stacked(states), shown, np.array(curves).T)


USERS, ROLLOUT = 256, 10
"""Of PPO: who are served side by side, and steps of a rollout."""


def learn_ppo(env: envs.Environment, seeds: int, smoke: bool) -> Learned:
    """Normal vectors around a cycle, by rollouts."""
    steps = 2 * ROLLOUT if smoke else 1_536_000 // USERS
    agent = agents.ppo(
        GaussianPolicy(Cycle(period=5), 27, initial_std=0.5),
        ContextValue((64,)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3)),
        length=ROLLOUT,
        discount=0.99,
        regularizer=agents.PolicyRegularizer(entropy=0.0),
    )
    schedule = loop.LoopConfig(
        steps=steps, users=8 if smoke else USERS, seeds=seeds, learn_start=0, eval_every=steps // 5,
        eval_users=16 if smoke else 256, eval_steps=TURNS,
    )  # fmt: skip
    return in_a_loop(finite(env), agent, schedule, "clicks", scale=0.1)


def make(smoke: bool) -> envs.Environment:
    """VirtualTaobao with CIRS's leaving rule, or users of small random networks in their place."""
    if not smoke:
        return envs.virtual_taobao(max_steps=TURNS)
    return envs.virtual_taobao(small_networks(), max_steps=TURNS)


def small_networks() -> dict[str, np.ndarray]:
    """Of one layer each."""
    rng, shapes = np.random.default_rng(0), {"generator": (88, 128), "leave": (101, 88), "action": (21, 88 + 1 + 27)}
    parts = {f"{name}.0.weight": rng.normal(size=shape) / 9 for name, shape in shapes.items()}
    return parts | {f"{name}.0.bias": np.zeros(rows) for name, (rows, _) in shapes.items()}


_EVOLVED = Task(
    "virtual_taobao, 50 turns",
    "evolution strategy, a cycle of 5 vectors, 3.8 M turns at most",
    make,
    learn,
    "clicks=1",
    TURNS,
    62.79,
    "CIRS",
    cohort=64,
)

TASKS = (
    _EVOLVED,
    dataclasses.replace(
        _EVOLVED,
        name="virtual_taobao, 50 turns, ppo",
        learner="PPO, a cycle of 5 vectors, 1.5 M turns",
        learn=learn_ppo,
    ),
)
