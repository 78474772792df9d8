"""A log from an environment that has none: what a platform would have if it had shown things at random."""

from __future__ import annotations

import jax
import numpy as np

from recjax.agents import random
from recjax.data import Dataset, IdMap, Interactions
from recjax.envs import Environment
from recjax.loop import Interaction, follow
from recjax.rewards import click
from recjax.types import Array, Observation, Step


def collect_log(env: Environment, *, users: int, steps: int, key: Array, name: str = "collected") -> Dataset:
    """Shows random slates to new users and keeps what the platform would log of it.

    Args:
      env: the environment.
      users: users who arrive; nobody replaces those who leave.
      steps: slates shown to each of them, at most.
      key: one typed PRNG key.
      name: of the data set.

    Returns:
      The histories that users arrived with and everything they clicked since, in order;
      ``Interactions.time`` counts the events of each user.

    Raises:
      ValueError: nothing was clicked, so there is nothing to learn from.
    """
    agent = random()
    state = agent.init(key, env.spec, env.items)
    interaction = Interaction(env, agent, reward=click)
    arrive_key, run_key = jax.random.split(key)

    def visit(carry: None, step: Step, staying: Array) -> tuple[None, tuple[Array, Array, Array]]:
        clicked = step.response.signal("click") > 0
        # The environment's own history says what kind of behaviour the newest event was.
        assert step.next_observation is not None
        return carry, (step.slate, clicked, step.next_observation.behaviour[:, -1])

    @jax.jit
    def rollout(arrive_key: Array, run_key: Array) -> tuple[Observation, tuple[Array, Array, Array]]:
        world_key, tick_key = jax.random.split(jax.random.fold_in(arrive_key, 0))
        world = env.world(world_key)
        arrived = interaction.arrive(arrive_key, env.params, world, users)
        keys = jax.random.split(run_key, steps), jax.random.split(tick_key, steps)
        _, shown = follow(interaction, state, arrived, world, keys, visit, None, explore=True)
        return arrived.observation, shown

    before, (slates, clicked, behaviours) = jax.device_get(rollout(arrive_key, run_key))
    past_user, past_at = np.nonzero(before.history >= 0)
    step, user, slot = np.nonzero(clicked)
    length = env.spec.history_length
    log = Interactions(
        user=np.concatenate([past_user, user]),
        item=np.concatenate([before.history[past_user, past_at], slates[step, user, slot]]),
        time=np.concatenate([past_at, length + step]),
        behaviour=np.concatenate([before.behaviour[past_user, past_at], behaviours[step, user]]),
    )
    if not len(log):
        raise ValueError(
            f"{users} users clicked nothing in {steps} random slates; show more slates or raise click rates."
        )
    names = [IdMap(tuple(str(i) for i in range(count))) for count in (users, env.spec.num_items)]
    return Dataset(name=name, interactions=log, users=names[0], items=names[1])
