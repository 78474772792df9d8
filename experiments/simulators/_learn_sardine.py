"""SARDINE: a Q-network that knows which of the shown items were clicked, and how lately."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from _learners import Learned, Task, in_a_loop

from recjax import agents, envs, loop
from recjax.catalogue import ItemIndex
from recjax.nn import ItemVectorNetwork
from recjax.types import Array, Behaviour, Items, Observation

SLATE, SLATES, SESSION = 10, 5, 100
"""Slots of a slate, slates of a history, and slates of a session."""


class ClickedItemsQ(ItemVectorNetwork):
    """``q(s, a) = <f(s), v(a)> + V(s) + b(a)``, where ``s`` is the sums of the vectors of clicked and of passed items.

    ``f`` is a linear function and an MLP of these sums and of the context; the MLP and ``V`` are also told how many
    items of each of the last slates were clicked.

    Attributes:
      count: items in the catalogue.
      dim: width of the vectors of items.
      hidden: width of the two hidden layers.
    """

    count: int
    dim: int = 32
    hidden: int = 128

    def setup(self) -> None:
        """Declares the parameters."""
        zeros = nn.initializers.zeros
        self.vectors = self.param("vectors", nn.initializers.normal(self.dim**-0.5), (self.count + 2, self.dim))
        self.bias = self.param("bias", zeros, (self.count, 1))
        self.linear = nn.Dense(self.dim, use_bias=False, kernel_init=zeros)
        self.layers = [nn.Dense(self.hidden), nn.Dense(self.hidden)]
        self.last = nn.Dense(self.dim + 1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Values of every item, ``f32[B, N]``."""
        queries, index = self.catalogue(observation, items)
        return queries @ index.vectors.T

    @property
    def num_items(self) -> int:
        """Items in the catalogue (``N``)."""
        return self.count

    def queries(self, observation: Observation, items: Items) -> Array:
        """``f32[B, dim + 2]``."""
        assert observation.context is not None
        vectors = self.vectors[observation.history]
        clicked = (observation.behaviour == int(Behaviour.CLICK)).astype(jnp.float32)
        passed = (observation.behaviour == int(Behaviour.IMPRESSION)).astype(jnp.float32) / SLATES
        sums = [jnp.einsum("bld,bl->bd", vectors, weights) for weights in (clicked, passed)]
        known = jnp.concatenate([*sums, observation.context], axis=1)
        of_slates = jnp.sum(clicked.reshape(len(clicked), -1, SLATE), axis=-1) / SLATES
        hidden = jnp.concatenate([known, of_slates], axis=1)
        for layer in self.layers:
            hidden = nn.relu(layer(hidden))
        query, value = jnp.split(self.last(hidden), [self.dim], axis=1)
        return jnp.concatenate([query + self.linear(known), value, jnp.ones_like(value)], axis=1)

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of the index of :meth:`catalogue`, ``f32[..., dim + 2]``."""
        vectors = self.vectors[ids]
        return jnp.concatenate([vectors, jnp.ones_like(vectors[..., :1]), self.bias[ids]], axis=-1)

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Values ``f32[B, M]`` of the items ``actions: i32[B, M]``."""
        return jnp.einsum("bd,bmd->bm", self.queries(observation, items), self.item_vectors(actions, items))

    def catalogue(self, observation: Observation, items: Items) -> tuple[Array, ItemIndex]:
        """Queries and index."""
        return self.queries(observation, items), ItemIndex(self.item_vectors(jnp.arange(self.count), items))


def learn(env: envs.Environment, seeds: int, smoke: bool) -> Learned:
    """DQN, slot by slot."""
    steps = 20 if smoke else 6000
    agent = agents.dqn(
        ClickedItemsQ(env.spec.num_items),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.linear_schedule(2e-3, 1e-4, steps))),
        discount=0.9,
        loss="mse",
        target=agents.TargetNetwork(tau=0.01),
        policy=agents.SlatePolicy(exclude_history=False, epsilon=(1.0, 0.05, steps // 2)),
    )
    schedule = loop.LoopConfig(
        steps=steps, users=8 if smoke else 64, seeds=seeds, batch_size=8 if smoke else 128, replay_capacity=100_000,
        learn_start=10, eval_every=steps // 5, eval_users=16 if smoke else 512, eval_steps=10 if smoke else SESSION,
    )  # fmt: skip
    return in_a_loop(env, agent, schedule, "click")


def make(smoke: bool, *, faithful: bool) -> envs.Environment:
    """SlateTopK-BoredInf, or that with few items."""
    few = envs.SardineSetting(num_items=40, omega=0.95, episode_length=10)
    return envs.sardine(few if smoke else "SlateTopK-BoredInf-v0", faithful=faithful, history_length=SLATE * SLATES)


def task(name: str, faithful: bool) -> Task:
    """With the original's influence, or the corrected one."""
    return Task(
        name, "DQN, γ=0.9, 384 k slates", partial(make, faithful=faithful), learn, "click", SESSION, 145.6,
        "the short-term oracle", cohort=512,
    )  # fmt: skip


TASKS = (task("sardine, faithful", True), task("sardine, corrected", False))
