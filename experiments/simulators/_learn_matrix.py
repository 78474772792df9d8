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


def learn(env: envs.Environment, seeds: int, smoke: bool, *, signal: str, discount: float, repeats: bool) -> Learned:
    """DQN in sessions of known length."""
    steps = 20 if smoke else 8000
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
        steps=steps, users=8 if smoke else 64, seeds=seeds, batch_size=8 if smoke else 128, replay_capacity=100_000,
        learn_start=10, eval_every=steps // 5, eval_users=16 if smoke else 1024, eval_steps=30 if is_rated else 10,
    )  # fmt: skip
    return in_a_loop(finite(env), agent, schedule, signal, scale=0.1 if is_rated else 1.0)


def make(smoke: bool, *, of: Any, **options: Any) -> envs.Environment:
    """Coat, or a small matrix in its place."""
    if smoke:
        options["ratings"] = np.random.default_rng(0).integers(1, 6, (6, 40))
    made: envs.Environment = of(**options)
    return made


_DQN = "DQN, γ={}, 512 k coats"
_OURS = "a list that is the same for all"

TASKS = (
    Task(
        "coat, FreeB",
        _DQN.format(0.6),
        partial(make, of=envs.coat, mode="FreeB", faithful=True),
        partial(learn, signal="rating", discount=0.6, repeats=True),
        "rating=1",
        30,
        87.7,
        f"{_OURS}; A2C 81.80",
    ),
    Task(
        "coat, NX_0",
        _DQN.format(0.6),
        partial(make, of=envs.coat, mode="NX_0", faithful=True),
        partial(learn, signal="rating", discount=0.6, repeats=False),
        "rating=1",
        30,
        75.65,
        "A2C",
    ),
    Task(
        "coat_clicks",
        _DQN.format(0),
        partial(make, of=envs.coat_clicks),
        partial(learn, signal="click", discount=0.0, repeats=False),
        "click",
        10,
        3.414,
        f"{_OURS}; DQN with the best encoder 2.955",
    ),
)
