"""SARDINE: DQN that shows few items of a topic on a slate, and knows what was clicked lately, and of which topics."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _learners import Learned, Task, in_a_loop

from recjax import agents, envs, loop
from recjax.agents.slates import Selection
from recjax.catalogue import ItemIndex, ranked, score_at
from recjax.nn import ItemVectorNetwork
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree

SLATE, TOPICS, SESSION = 10, 10, 100
"""Slots of a slate, topics, and slates of a session."""
SLATES, LATE = 20, 5
"""Slates of a history, and how many of the last ones are late."""
OF_A_TOPIC = 2
"""Items of one main topic on a slate, at most: whoever clicks one topic often is bored by all of them."""


class ClickedItemsQ(ItemVectorNetwork):
    """``q(s, a) = <f(s), v(a)> + V(s) + b(a)``, where ``v(a)`` is a learned vector and the main topic of the item.

    ``f`` is a linear function and an MLP of the sums of the vectors of clicked and of passed items, of the whole
    history and of its late part, of the context, and of the topics of clicks in each late slate. The MLP and ``V`` are
    also told how many items of each slate were clicked.

    Attributes:
      count: items in the catalogue.
      dim: width of the learned vectors.
      hidden: width of the two hidden layers.
    """

    count: int
    dim: int = 32
    hidden: int = 128

    def setup(self) -> None:
        """Declares the parameters."""
        zeros = nn.initializers.zeros
        self.vectors = self.param("vectors", nn.initializers.normal(self.dim**-0.5), (self.count + 1, self.dim))
        self.bias = self.param("bias", zeros, (self.count, 1))
        self.linear = nn.Dense(self.dim + TOPICS, use_bias=False, kernel_init=zeros)
        self.layers = [nn.Dense(self.hidden), nn.Dense(self.hidden)]
        self.last = nn.Dense(self.dim + TOPICS + 1, kernel_init=nn.initializers.normal(0.01))

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Values of every item, ``f32[B, N]``."""
        queries, index = self.catalogue(observation, items)
        return queries @ index.vectors.T

    @property
    def num_items(self) -> int:
        """Items in the catalogue (``N``)."""
        return self.count

    def queries(self, observation: Observation, items: Items) -> Array:
        """``f32[B, dim + TOPICS + 2]``."""
        assert observation.context is not None
        history, count = observation.history, len(observation.history)
        topics = _topics(history, items)
        vectors = jnp.concatenate([self.vectors[jnp.where(history == PAD_ID, self.count, history)], topics], axis=-1)
        clicked = (observation.behaviour == int(Behaviour.CLICK)).astype(jnp.float32)
        passed = (observation.behaviour == int(Behaviour.IMPRESSION)).astype(jnp.float32)
        late = (jnp.arange(SLATES * SLATE) >= (SLATES - LATE) * SLATE).astype(jnp.float32)
        weights = jnp.stack([clicked / 4, passed / SLATES, clicked * late, passed * late / LATE], axis=1)
        sums = jnp.einsum("bld,bkl->bkd", vectors, weights).reshape(count, -1)
        of_slates = (topics * clicked[..., None]).reshape(count, SLATES, SLATE, TOPICS).sum(axis=2)
        known = jnp.concatenate([sums, observation.context, of_slates[:, -LATE:].reshape(count, -1) / 2], axis=1)

        hidden = jnp.concatenate([known, of_slates.sum(axis=-1) / 5], axis=1)
        for layer in self.layers:
            hidden = nn.relu(layer(hidden))
        query, value = jnp.split(self.last(hidden), [self.dim + TOPICS], axis=1)
        return jnp.concatenate([query + self.linear(known), value, jnp.ones_like(value)], axis=1)

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of the index of :meth:`catalogue`, ``f32[..., dim + TOPICS + 2]``."""
        vectors = self.vectors[ids]
        return jnp.concatenate([vectors, _topics(ids, items), jnp.ones_like(vectors[..., :1]), self.bias[ids]], axis=-1)

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Values ``f32[B, M]`` of the items ``actions: i32[B, M]``."""
        return jnp.einsum("bd,bmd->bm", self.queries(observation, items), self.item_vectors(actions, items))

    def catalogue(self, observation: Observation, items: Items) -> tuple[Array, ItemIndex]:
        """Queries and index."""
        return self.queries(observation, items), ItemIndex(self.item_vectors(jnp.arange(self.count), items))


def _topics(ids: Array, items: Items) -> Array:
    """One-hot main topics ``f32[..., TOPICS]``, zeros for padding."""
    return items.features["main_topic"].values[jnp.maximum(ids, 0)] * (ids != PAD_ID)[..., None]


def varied(agent: agents.Agent, policy: agents.SlatePolicy, items: Items) -> agents.Agent:
    """The agent with slates of the best items of which at most ``OF_A_TOPIC`` are of one main topic."""
    topic = np.argmax(np.asarray(items.features["main_topic"].values), axis=1)
    members = np.full((TOPICS, np.bincount(topic).max()), PAD_ID, np.int32)
    for number in range(TOPICS):
        own = np.flatnonzero(topic == number)
        members[number, : len(own)] = own

    def select(state: PyTree, observation: Observation) -> Selection:
        queries, index = agent.scores(state, observation)
        ids = jnp.broadcast_to(jnp.asarray(members), (len(observation.history), *members.shape))
        values = score_at(queries, index, ids.reshape(len(ids), -1)).reshape(ids.shape)
        values, place = jax.lax.top_k(jnp.where(ids == PAD_ID, -jnp.inf, values), OF_A_TOPIC)
        kept = jnp.take_along_axis(ids, place, axis=2).reshape(len(ids), -1)
        slate = jnp.take_along_axis(kept, jax.lax.top_k(values.reshape(kept.shape), SLATE)[1], axis=1)
        return Selection(*ranked(slate, len(topic)), None, slate)

    act, log_prob = policy.functions(select)
    return agent._replace(act=act, log_prob=log_prob)


def learn(env: envs.Environment, seeds: int, smoke: bool) -> Learned:
    """DQN, slot by slot."""
    steps = 20 if smoke else 6000
    policy = agents.SlatePolicy(exclude_history=False, epsilon=(0.5, 0.05, steps // 4))
    agent = agents.dqn(
        ClickedItemsQ(env.spec.num_items),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.linear_schedule(4e-3, 1e-4, steps))),
        discount=0.9,
        loss="mse",
        target=agents.TargetNetwork(tau=0.01),
        policy=policy,
    )
    schedule = loop.LoopConfig(
        steps=steps, users=8 if smoke else 64, seeds=seeds, batch_size=8 if smoke else 128, replay_capacity=100_000,
        learn_start=10, eval_every=steps // 5, eval_users=16 if smoke else 512, eval_steps=10 if smoke else SESSION,
    )  # fmt: skip
    return in_a_loop(env, varied(agent, policy, env.items), schedule, "click")


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
