"""What single users are worth to a policy: their rewards from arrival to leaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.agents.base import Agent
from recjax.envs.base import Environment
from recjax.loop.interact import Interaction, follow
from recjax.prng import inlined
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.types import Array, PyTree, Step


class Episodes(NamedTuple):
    """Episodes of a cohort, one number a user.

    Attributes:
      reward: ``f32[U]`` the sum of rewards from arrival to leaving.
      length: ``i32[U]`` slates (or vectors) that the user was shown.
      ended: ``bool[U]`` whether the user left or was cut off before the cohort was no longer followed.
    """

    reward: Array
    length: Array
    ended: Array


def episode_runner(
    env: Environment,
    agent: Agent,
    *,
    users: int,
    steps: int,
    reward: Reward | str = "click",
    explore: bool = False,
) -> Callable[[Array, PyTree], Episodes]:
    """A compiled function that follows new users until they leave; nobody takes their place.

    Two policies that are followed with the same key meet the same users and the same chance, as far as their slates
    do not lead them apart, so their differences are paired by user.

    Args:
      env: the environment.
      agent: the policy, or an oracle.
      users: how many users are followed.
      steps: after how many steps they are no longer followed.
      reward: function of the response, or a name as :func:`recjax.rewards.parse` takes.
      explore: whether the agent explores.

    Returns:
      ``(key, state) -> Episodes``, where ``state`` is the agent's.

    >>> from recjax import agents, envs
    >>> env, agent = envs.synthetic(num_items=50), agents.random()
    >>> run = episode_runner(env, agent, users=4, steps=10)
    >>> run(jax.random.key(0), agent.init(jax.random.key(1), env.spec, env.items)).reward.shape
    (4,)
    """
    interaction = Interaction(env, agent, parse_reward(reward) if isinstance(reward, str) else reward)

    def visit(carry: tuple[Array, Array, Array], step: Step, staying: Array) -> tuple[tuple[Array, Array, Array], None]:
        total, length, ended = carry
        leaves = staying & (step.terminated | step.truncated)
        return (total + jnp.sum(step.reward, axis=-1), length + staying, ended | leaves), None

    def run(key: Array, state: PyTree, params: PyTree) -> Episodes:
        world_key, arrive_key, act_key, tick_key = jax.random.split(inlined(key), 4)
        here = interaction._replace(env=env._replace(params=params))
        world = here.env.world(world_key)
        arrived = here.arrive(arrive_key, params, world, users)
        keys = jax.random.split(act_key, steps), jax.random.split(tick_key, steps)
        blank = jnp.zeros(users), jnp.zeros(users, jnp.int32), jnp.zeros(users, bool)
        sums, _ = follow(here, state, arrived, world, keys, visit, blank, explore=explore)
        return Episodes(*sums)

    compiled = jax.jit(run)
    return lambda key, state: compiled(key, state, env.params)
