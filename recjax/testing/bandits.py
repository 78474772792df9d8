"""Bandits whose best slate is known, so that regret is exact: users who stay as they are and answer at once.

Every seed of a run has a problem of its own, drawn by ``Environment.init_world``; all agents meet the same ones. What
a slot earns less, in expectation, than that of the best slate is the signal "regret". It is there for measurement:
agents learn from rewards, and the reward is another signal.

>>> env = linear_bandit(num_items=20, dim=3)
>>> problem = env.world(jax.random.key(0))
>>> bool(problem.best[0, 0] == problem.means[0].max())
True
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.envs import Environment, Oracle, Transition, environments
from recjax.response import CLICK, Response, Signal
from recjax.types import Array, Feature, Items, Observation, PyTree, Revealed, Spec

EARNED = Signal("earned", "The reward of the item: linear in its features, and noise")
REGRET = Signal("regret", "What the item earns less, in expectation, than that in the same slot of the best slate")


@struct.dataclass
class Problem:
    """What is to be found, for ``G`` kinds of users.

    Attributes:
      means: ``f32[G, N]`` expected reward of each item.
      best: ``f32[G, K]`` those of the best slate, the largest first.
    """

    means: Array
    best: Array


def linear_bandit(
    num_items: int = 50, dim: int = 5, *, kinds: int = 1, noise: float = 0.3, slate_size: int = 1
) -> Environment:
    """Users whose rewards ("earned") are linear in what is known of an item, with normal noise.

    Items have one feature "vector", ``f32[N, dim]`` of length 1, the same for all seeds. A seed draws for each kind of
    users a vector ``θ`` of length 1; an item ``v`` earns ``<v, θ> + N(0, noise²)``. The context is the kind, one-hot.

    Args:
      num_items: ``N``.
      dim: numbers that are known of an item.
      kinds: of users; 1 has no context.
      noise: standard deviation, at least 0.
      slate_size: ``K``; each slot earns by itself.

    Raises:
      ValueError: an argument is out of range.
    """
    if min(dim, kinds) < 1 or noise < 0:
        raise ValueError(f"dim is {dim}, kinds {kinds} and noise {noise}; they must be at least 1, 1 and 0.")
    vectors = _unit(np.random.default_rng(0).normal(size=(num_items, dim)))
    items = _items(num_items, vector=Feature(jnp.asarray(vectors, jnp.float32), "vectors"))

    def means(key: Array) -> Array:
        return _unit(jax.random.normal(key, (kinds, dim))) @ items.features["vector"].values.T

    def answer(key: Array, mean: Array) -> Response:
        return Response(earned=mean + noise * jax.random.normal(key, mean.shape))

    return _bandit(_spec(num_items, slate_size, kinds, EARNED), items, means, answer)


def bernoulli_bandit(
    num_items: int = 10, *, kinds: int = 1, chances: Sequence[float] | None = None, slate_size: int = 1
) -> Environment:
    """Users who click each item with a probability of its own, of which nothing is known before.

    Args:
      num_items: ``N``.
      kinds: of users, told by the context, one-hot; 1 has no context.
      chances: of a click on each item, the same for all seeds and kinds; by default a seed draws them uniformly from
        [0, 1].
      slate_size: ``K``; each slot is clicked by itself.

    Raises:
      ValueError: an argument is out of range.
    """
    if kinds < 1:
        raise ValueError(f"kinds is {kinds}; it must be at least 1.")
    if chances is not None and not (len(chances) == num_items and all(0 <= chance <= 1 for chance in chances)):
        raise ValueError(f"chances is {chances}; it must be {num_items} numbers in [0, 1], one an item.")

    def means(key: Array) -> Array:
        shape = kinds, num_items
        return jax.random.uniform(key, shape) if chances is None else jnp.broadcast_to(jnp.asarray(chances), shape)

    def answer(key: Array, mean: Array) -> Response:
        return Response(click=jax.random.bernoulli(key, mean).astype(jnp.float32))

    return _bandit(_spec(num_items, slate_size, kinds, CLICK), _items(num_items), means, answer)


environments.register("probe_linear_bandit", linear_bandit)
environments.register("probe_bernoulli_bandit", bernoulli_bandit)


def _unit(vectors: PyTree) -> PyTree:
    return vectors / (vectors**2).sum(-1, keepdims=True) ** 0.5


def _items(num_items: int, **features: Feature) -> Items:
    return Items(popularity=jnp.ones(num_items), is_new=jnp.zeros(num_items, bool), features=features)


def _spec(num_items: int, slate_size: int, kinds: int, reward: Signal) -> Spec:
    return Spec(num_items, slate_size, 1, context_size=kinds if kinds > 1 else 0, signals=(reward, REGRET))


def _bandit(
    spec: Spec, items: Items, means: Callable[[Array], Array], answer: Callable[[Array, Array], Response]
) -> Environment:
    """The environment of problems with such means, in which a slot with a mean is answered so."""

    def init_world(key: Array, params: None) -> Problem:
        del params
        drawn = means(key)
        return Problem(drawn, jax.lax.top_k(drawn, spec.slate_size)[0])

    def observe(kind: Array) -> Observation:
        context = jax.nn.one_hot(kind, spec.context_size) if spec.context_size else None
        return dataclasses.replace(spec.empty_observation(), context=context)

    def reset(key: Array, params: None, world: Problem) -> tuple[Observation, Array]:
        del params
        kind = jax.random.randint(key, (), 0, len(world.means))
        return observe(kind), kind

    def step(key: Array, state: Array, slate: Array, params: None, world: Problem) -> Transition:
        del params
        mean, stays = world.means[state, slate], jnp.zeros((), bool)
        response = Response(**answer(key, mean), regret=world.best[state] - mean)
        return Transition(observe(state), state, response, stays, stays, {})

    optimum = Oracle(partial(_choose, slots=spec.slate_size), "the items that earn the most: the optimum")
    return Environment(spec, None, items, reset, step, init_world, oracles={"optimum": optimum})


def _choose(key: Array, users: Revealed, setting: None, *, slots: int) -> Array:
    del key, setting
    return jax.lax.top_k(users.world.means[users.state], slots)[1]
