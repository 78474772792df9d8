"""Coat: networks that read what was shown and what it earned as one number an item, by DQN and by policy gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _learners import Learned, Task, finite, in_a_loop

from recjax import agents, envs, loop
from recjax.nn import DenseNetwork
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation


class Read(NamedTuple):
    """What networks read of a user.

    Attributes:
      recent: ``f32[B, N]`` which items were shown lately.
      answers: ``f32[B, N]`` how the user answered.
      shown: ``f32[B, N]`` which items were shown.
      turn: ``f32[B, L + 1]`` how many items were shown, one-hot.
    """

    recent: Array
    answers: Array
    shown: Array
    turn: Array

    @classmethod
    def of(cls, observation: Observation, count: int, recent: int, has_ratings: bool) -> Read:
        """Of the last ``recent`` of ``count`` items; ratings end the context, otherwise the answer is a click."""
        history = observation.history
        there = history != PAD_ID
        place, rows = jnp.where(there, history, count), jnp.arange(len(history))[:, None]
        if has_ratings:
            assert observation.context is not None
            answer = (observation.context[:, -history.shape[1] :] - 3.0) / 2.0
        else:
            answer = (observation.behaviour == int(Behaviour.CLICK)).astype(jnp.float32)
        blank = jnp.zeros((len(history), count))
        return cls(
            recent=blank.at[rows, place[:, -recent:]].set(1.0, mode="drop"),
            answers=blank.at[rows, place].add(answer, mode="drop"),
            shown=blank.at[rows, place].set(1.0, mode="drop"),
            turn=jax.nn.one_hot(jnp.sum(there, axis=1), history.shape[1] + 1),
        )


class ShownItems(nn.Module):
    """Values of all items, or their logits, by which were shown, which of them lately, and how the user answered.

    ``W [recent, answer] + V[t] + MLP([shown, answer, recent, t])``, where the first three are one number an item
    and ``t`` counts the items shown.

    Attributes:
      recent: how many items are recent.
      has_ratings: whether the context ends with ratings from 1 to 5; otherwise the answer is a click.
      hidden: width of the hidden layer.
    """

    recent: int
    has_ratings: bool
    hidden: int = 128

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B, N]``."""
        count = items.num_items
        recent, answers, shown, turn = Read.of(observation, count, self.recent, self.has_ratings)
        zeros, small = nn.initializers.zeros, nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        linear = nn.Dense(count, kernel_init=zeros)(jnp.concatenate([recent, answers], axis=1))
        hidden = nn.relu(nn.Dense(self.hidden)(jnp.concatenate([shown, answers, recent, turn], axis=1)))
        return linear + nn.Dense(1, kernel_init=zeros)(turn) + nn.Dense(count, kernel_init=small)(hidden)


class ShownItemsValue(nn.Module):
    """The value of a state by the same: ``V[t] + MLP([shown, answer, recent, t])``; see :class:`ShownItems`."""

    recent: int
    has_ratings: bool
    hidden: int = 128

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B]``."""
        read = Read.of(observation, items.num_items, self.recent, self.has_ratings)
        hidden = nn.relu(nn.Dense(self.hidden)(jnp.concatenate(read, axis=1)))
        zeros = nn.initializers.zeros
        return (nn.Dense(1, kernel_init=zeros)(read.turn) + nn.Dense(1, kernel_init=zeros)(hidden))[:, 0]


USERS, ROLLOUT_USERS = 64, 256
"""Who are served side by side, by DQN and by policy gradients."""

GRADIENTS = {"reinforce": "REINFORCE", "a2c": "A2C", "ppo": "PPO"}


class Shown(NamedTuple):
    """How a learner meets users.

    Attributes:
      coats: that each seed shows.
      is_rated: whether users rate; otherwise they click.
      discount: γ.
      repeats: whether a coat may be shown again.
    """

    coats: int
    is_rated: bool
    discount: float
    repeats: bool

    @property
    def reading(self) -> dict[str, Any]:
        """Fields of the networks."""
        return {"recent": 7 if self.is_rated else 10, "has_ratings": self.is_rated}

    @property
    def turns(self) -> int:
        """Coats of the longest session."""
        return 30 if self.is_rated else 10

    def run(self, env: envs.Environment, agent: agents.Agent, seeds: int, smoke: bool, users: int) -> Learned:
        """In sessions of known length; ratings are a tenth of what they are."""
        steps = 2 * self.turns if smoke else self.coats // users
        schedule = loop.LoopConfig(
            steps=steps, users=8 if smoke else users, seeds=seeds, batch_size=8 if smoke else 128,
            replay_capacity=100_000, learn_start=10, eval_every=steps // 5, eval_users=16 if smoke else 1024,
            eval_steps=self.turns,
        )  # fmt: skip
        reward, scale = ("rating", 0.1) if self.is_rated else ("click", 1.0)
        return in_a_loop(finite(env), agent, schedule, reward, scale=scale)


def learn(env: envs.Environment, seeds: int, smoke: bool, *, shown: Shown) -> Learned:
    """DQN."""
    steps = shown.coats // USERS
    agent = agents.dqn(
        DenseNetwork(ShownItems(**shown.reading)),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.linear_schedule(1e-3, 5e-5, steps))),
        discount=shown.discount,
        loss="mse",
        target=agents.TargetNetwork(tau=0.05),
        policy=agents.SlatePolicy(exclude_history=not shown.repeats, epsilon=(1.0, 0.05, steps // 2)),
    )
    return shown.run(env, agent, seeds, smoke, USERS)


def learn_policy(env: envs.Environment, seeds: int, smoke: bool, *, shown: Shown, name: str) -> Learned:
    """A policy gradient, by rollouts of ten coats; without a critic, of whole sessions."""
    length = shown.turns if name == "reinforce" else 10
    critic = {} if name == "reinforce" else {"critic": ShownItemsValue(**shown.reading)}
    agent = agents.agents.make(
        name,
        DenseNetwork(ShownItems(**shown.reading)),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
        length=length,
        discount=shown.discount,
        exclude_history=not shown.repeats,
        **critic,
    )
    return shown.run(env, agent, seeds, smoke, 8 if smoke else ROLLOUT_USERS)


def make(smoke: bool, *, of: Any, **options: Any) -> envs.Environment:
    """Coat, or a small matrix in its place."""
    if smoke:
        options["ratings"] = np.random.default_rng(0).integers(1, 6, (6, 40))
    made: envs.Environment = of(**options)
    return made


def tasks(
    name: str, shown: Shown, bar: float, whose: str, mode: str | None = None, gradients: Iterable[str] = ()
) -> list[Task]:
    """EasyRL4Rec's Coat in a mode, or clicks where there is none, by DQN and by policy gradients."""
    signal = "rating" if shown.is_rated else "click"
    env = partial(make, of=envs.coat, mode=mode, faithful=True) if mode else partial(make, of=envs.coat_clicks)
    discounted = f"γ={shown.discount:g}"
    by_dqn = Task(
        name, f"DQN, {discounted}, {shown.coats // 1000} k coats", env, partial(learn, shown=shown),
        f"{signal}=1", shown.turns, bar, whose,
    )  # fmt: skip
    return [by_dqn] + [
        dataclasses.replace(
            by_dqn,
            name=f"{name}, {short}",
            learner=f"{GRADIENTS[short]}, {discounted}, {shown.coats // 1000} k coats",
            learn=partial(learn_policy, shown=shown, name=short),
        )
        for short in gradients
    ]


_OURS = "a list that is the same for all"

TASKS = (
    *tasks("coat, FreeB", Shown(512_000, True, 0.6, True), 87.7, f"{_OURS}; A2C 81.80", "FreeB", GRADIENTS),
    *tasks("coat, NX_0", Shown(512_000, True, 0.6, False), 75.65, "A2C", "NX_0", GRADIENTS),
    *tasks("coat_clicks", Shown(512_000, False, 0.0, False), 3.414, f"{_OURS}; DQN with the best encoder 2.955"),
)
