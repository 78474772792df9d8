"""interest_evolution: SlateQ with a learned choice model and a learned value of choosing nothing."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from _learners import Learned, Task, in_a_loop

from recjax import agents, envs, loop
from recjax.catalogue import Choices, dense_scorer
from recjax.nn import SlateNetwork
from recjax.types import Items, Observation

LONGEST = 600
"""Slates after which all sessions have ended."""
SCALE = 0.1
"""Of rewards in minutes, so that what is learned of values and of choices counts alike."""


class TopicsSlateQ(SlateNetwork):
    """Odds and values of all topics at once, from what is known of the user; documents are told apart by topic alone.

    ``[l, a, V, V_0] = W x + MLP(x)`` of the context ``x``; choosing a document of topic ``t`` has the logit ``l_t`` and
    the value ``V + a_t``, choosing nothing the value ``V + V_0``. It is less work than a network that reads
    every candidate, and ``W`` soon has most of what a budget is worth.

    Attributes:
      topics: number of topics.
      hidden: widths of the hidden layers.
    """

    topics: int
    hidden: tuple[int, ...] = (128, 64)

    @nn.compact
    def choices(self, observation: Observation, items: Items) -> Choices:
        """See :class:`recjax.nn.SlateNetwork`."""
        assert observation.context is not None
        assert observation.candidates is not None
        hidden, size = observation.context, 2 * self.topics + 2
        for width in self.hidden:
            hidden = nn.relu(nn.Dense(width)(hidden))
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        both = nn.Dense(size, kernel_init=small)(hidden)
        both += nn.Dense(size, use_bias=False, kernel_init=nn.initializers.zeros)(observation.context)
        odds, gains, value, nothing = jnp.split(both, [self.topics, 2 * self.topics, 2 * self.topics + 1], axis=-1)
        documents = observation.candidates.ids
        odds, gains = (jnp.take_along_axis(of, documents, axis=-1) for of in (odds, gains))
        return Choices(dense_scorer(odds), dense_scorer(value + gains), (value + nothing)[:, 0])

    def __call__(self, observation: Observation, items: Items) -> Choices:
        """The same."""
        return self.choices(observation, items)


def learn(env: envs.Environment, seeds: int, smoke: bool, *, shown: int) -> Learned:
    """SlateQ from ``shown`` slates of each seed."""
    users = 8 if smoke else 256
    steps = 20 if smoke else shown // users // 4 * 4
    agent = agents.slate_q(
        TopicsSlateQ(env.spec.num_items),
        optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.linear_schedule(3e-3, 1e-4, steps))),
        discount=0.999,
        loss="mse",
        choice_weight=0.1,
        target=agents.TargetNetwork(tau=0.03),
        policy=agents.SlatePolicy(exclude_history=False, epsilon=(1.0, 0.05, steps // 3)),
    )
    schedule = loop.LoopConfig(
        steps=steps, users=users, seeds=seeds, batch_size=8 if smoke else 512, replay_capacity=131_072, learn_start=8,
        chunk=steps // 4, eval_every=steps // 4, eval_users=16 if smoke else 500, eval_steps=20 if smoke else LONGEST,
    )  # fmt: skip
    return in_a_loop(env, agent, schedule, "watch_time", scale=SCALE)


def make(smoke: bool, *, budget: bool) -> envs.Environment:
    """Three slots, ten candidates."""
    del smoke
    return envs.interest_evolution(slate_size=3, num_candidates=10, budget=budget)


def task(name: str, shown: int, bar: float, whose: str, *, budget: bool) -> Task:
    """For a number of slates."""
    return Task(
        name, f"SlateQ, γ=0.999, {shown / 1e6:g} M slates", partial(make, budget=budget), partial(learn, shown=shown),
        "watch_time", LONGEST, bar, whose, cohort=2048,
    )  # fmt: skip


TASKS = (
    task("interest_evolution, stock", 300_000, 183.0, "SlateQ as published 174.6", budget=False),
    task("interest_evolution, budget", 3_000_000, 270.0, "SlateQ as published 174.6", budget=True),
)
