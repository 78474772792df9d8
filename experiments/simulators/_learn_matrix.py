"""Coat: Q-networks that read what was shown and what it earned as one number an item."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _learners import Learned, Task, finite, in_a_loop

from recjax import agents, envs, loop
from recjax.nn import DenseNetwork
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation


class ShownItemsQ(nn.Module):
    """Values of all items by which were shown, which of them lately, and how the user answered.

    ``q = W [recent, answer] + V[t] + MLP([shown, answer, recent, t])``, where the first three are one number an item
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
        """Values ``f32[B, N]``."""
        history, count = observation.history, items.num_items
        there = history != PAD_ID
        place, rows = jnp.where(there, history, count), jnp.arange(len(history))[:, None]
        if self.has_ratings:
            assert observation.context is not None
            answer = (observation.context[:, -history.shape[1] :] - 3.0) / 2.0
        else:
            answer = (observation.behaviour == int(Behaviour.CLICK)).astype(jnp.float32)
        blank = jnp.zeros((len(history), count))
        shown = blank.at[rows, place].set(1.0, mode="drop")
        recent = blank.at[rows, place[:, -self.recent :]].set(1.0, mode="drop")
        answers = blank.at[rows, place].add(answer, mode="drop")
        turn = jax.nn.one_hot(jnp.sum(there, axis=1), history.shape[1] + 1)

        zeros, small = nn.initializers.zeros, nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        linear = nn.Dense(count, kernel_init=zeros)(jnp.concatenate([recent, answers], axis=1))
        hidden = nn.relu(nn.Dense(self.hidden)(jnp.concatenate([shown, answers, recent, turn], axis=1)))
        return linear + nn.Dense(1, kernel_init=zeros)(turn) + nn.Dense(count, kernel_init=small)(hidden)


USERS = 64
"""Who are served side by side."""


def learn(
    env: envs.Environment, seeds: int, smoke: bool, *, shown: int, signal: str, discount: float, repeats: bool
) -> Learned:
    """DQN in sessions of known length, from ``shown`` coats of each seed."""
    steps = 20 if smoke else shown // USERS
    is_rated = signal == "rating"
    agent = agents.dqn(
        DenseNetwork(ShownItemsQ(recent=7 if is_rated else 10, has_ratings=is_rated)),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.linear_schedule(1e-3, 5e-5, steps))),
        discount=discount,
        loss="mse",
        target=agents.TargetNetwork(tau=0.05),
        policy=agents.SlatePolicy(exclude_history=not repeats, epsilon=(1.0, 0.05, steps // 2)),
    )
    schedule = loop.LoopConfig(
        steps=steps, users=8 if smoke else USERS, seeds=seeds, batch_size=8 if smoke else 128, replay_capacity=100_000,
        learn_start=10, eval_every=steps // 5, eval_users=16 if smoke else 1024, eval_steps=30 if is_rated else 10,
    )  # fmt: skip
    return in_a_loop(finite(env), agent, schedule, signal, scale=0.1 if is_rated else 1.0)


def make(smoke: bool, *, of: Any, **options: Any) -> envs.Environment:
    """Coat, or a small matrix in its place."""
    if smoke:
        options["ratings"] = np.random.default_rng(0).integers(1, 6, (6, 40))
    made: envs.Environment = of(**options)
    return made


def task(
    name: str, shown: int, bar: float, whose: str, *, mode: str | None = None, discount: float, repeats: bool = False
) -> Task:
    """EasyRL4Rec's Coat in a mode, or clicks where there is none."""
    signal = "rating" if mode else "click"
    env = partial(make, of=envs.coat, mode=mode, faithful=True) if mode else partial(make, of=envs.coat_clicks)
    return Task(
        name, f"DQN, γ={discount:g}, {shown // 1000} k coats", env,
        partial(learn, shown=shown, signal=signal, discount=discount, repeats=repeats),
        f"{signal}=1", 30 if mode else 10, bar, whose,
    )  # fmt: skip


_OURS = "a list that is the same for all"

TASKS = (
    task("coat, FreeB", 512_000, 87.7, f"{_OURS}; A2C 81.80", mode="FreeB", discount=0.6, repeats=True),
    task("coat, NX_0", 512_000, 75.65, "A2C", mode="NX_0", discount=0.6),
    task("coat_clicks", 512_000, 3.414, f"{_OURS}; DQN with the best encoder 2.955", discount=0.0),
)
