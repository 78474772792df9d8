"""Evolution strategies against their definition in NumPy, and on users whose best vectors are known."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, loop
from recjax.response import Response, Signal
from recjax.testing import check_agent
from recjax.types import Items, Spec

SIGMA = 0.5
BEST = np.array([[0.5, -1.0], [2.0, 0.25]])
"""Of each of two kinds of users, the vector that earns the most, which is 0; others earn less by their squares."""


def vector_users() -> envs.Environment:
    """Users of two kinds, told by the context, who leave after one vector."""
    spec = Spec(1, 1, 1, context_size=2, action_size=2, signals=(Signal("earned", "what a vector earns"),))

    def observe(kind):
        return dataclasses.replace(spec.empty_observation(), context=jax.nn.one_hot(kind, 2))

    def reset(key, params, world):
        kind = jax.random.randint(key, (), 0, 2)
        return observe(kind), kind

    def step(key, state, slate, params, world):
        response = Response(earned=-jnp.sum((slate - params[state]) ** 2)[None])
        return envs.Transition(observe(state), state, response, jnp.array(True), jnp.array(False), {})

    items = Items(popularity=jnp.zeros(1), is_new=jnp.zeros(1, bool))
    return envs.Environment(spec, jnp.asarray(BEST, jnp.float32), items, reset, step)


class Linear(nn.Module):
    """A vector for each kind of users."""

    size: int = 2

    @nn.compact
    def __call__(self, observation, items):
        return nn.Dense(self.size, use_bias=False)(observation.context)


def test_a_generation_is_pairs_of_mirror_images():
    search = agents.evolution_strategy(optax.sgd(1.0), population=6, sigma=SIGMA)
    state = search.init({"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)})
    tried = search.ask(jax.random.key(0), state)
    assert jax.tree.map(jnp.shape, tried) == {"a": (6, 2), "b": (6,)}
    for name, around in state.params.items():
        middle = (tried[name][:3] + tried[name][3:]) / 2
        np.testing.assert_allclose(middle, jnp.broadcast_to(around, middle.shape), rtol=1e-6)
    large = agents.evolution_strategy(optax.sgd(1.0), population=4000, sigma=SIGMA)
    spread = np.std(large.ask(jax.random.key(1), large.init(jnp.zeros(3))))
    np.testing.assert_allclose(spread, SIGMA, rtol=0.03)


def test_parameters_climb_along_the_mean_of_the_noise_weighted_by_ranks():
    rate, start = 0.3, np.array([1.0, -2.0, 0.5])
    search = agents.evolution_strategy(optax.sgd(rate), population=8, sigma=SIGMA)
    key, fitness = jax.random.key(2), np.array([5.0, -1e9, 3.0, 3.0, 7.0, 0.0, 1e9, 2.0])
    state = search.init(jnp.asarray(start, jnp.float32))
    noise = (np.asarray(search.ask(key, state), float) - start) / SIGMA
    ranks = np.array([5.0, 0.0, 3.5, 3.5, 6.0, 1.0, 7.0, 2.0]) / 7 - 0.5
    climbed = start + rate * (ranks @ noise) / (8 * SIGMA)
    after = search.tell(key, state, jnp.asarray(fitness, jnp.float32))
    np.testing.assert_allclose(after.params, climbed, rtol=1e-5)
    assert int(after.step) == 1


def test_the_search_finds_what_earns_the_most():
    env, population = vector_users(), 64
    agent = agents.vector_policy(Linear())
    search = agents.evolution_strategy(optax.adam(0.1), population=population, sigma=0.2)
    serve = loop.episode_runner(env, agent, users=4, steps=1, reward="earned=1")
    begun = agent.init(jax.random.key(0), env.spec, env.items)

    def generation(found, key):
        draw_key, serve_key = jax.random.split(key)
        users = jnp.tile(jax.random.split(serve_key, population // 2), 2)
        served = jax.vmap(lambda key, params: serve(key, begun.replace(params=params)).reward.mean())
        return search.tell(draw_key, found, served(users, search.ask(draw_key, found))), None

    keys = jax.random.split(jax.random.key(1), 80)
    found = jax.jit(lambda state: jax.lax.scan(generation, state, keys)[0])(search.init(begun.params))
    np.testing.assert_allclose(found.params["params"]["Dense_0"]["kernel"], BEST, atol=0.15)


def test_a_policy_of_vectors_keeps_the_contract():
    check_agent(agents.vector_policy(Linear()), vector_users())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 3}, "population is 3"),
        ({"population": 0}, "population is 0"),
        ({"sigma": 0.0}, r"sigma is 0\.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        agents.evolution_strategy(optax.sgd(0.1), **options)


def test_fitness_of_another_generation_is_refused():
    search = agents.evolution_strategy(optax.sgd(0.1), population=4)
    with pytest.raises(ValueError, match=r"fitness has shape \(6,\); a generation has 4 policies"):
        search.tell(jax.random.key(0), search.init(jnp.zeros(2)), jnp.zeros(6))


def test_vectors_are_refused_where_they_do_not_fit():
    env, key = vector_users(), jax.random.key(0)
    with pytest.raises(ValueError, match=r"gives \(1, 3\) for one user; Spec\.action_size asks for \(1, 2\)"):
        agents.vector_policy(Linear(3)).init(key, env.spec, env.items)
    with pytest.raises(ValueError, match=r"Spec\.action_size is 0: actions are slates"):
        agents.vector_policy(Linear()).init(key, Spec(1, 1, 1, context_size=2), env.items)
