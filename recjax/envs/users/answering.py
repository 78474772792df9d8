"""How one user of a fitted model answers a slate, remembers it and leaves.

* Of the members of an ensemble a user is one, drawn on arrival; or users are the mean of all, where every combination
  of behaviours loses ``pessimism`` standard deviations of its probability over members, and doing nothing gains them.
* The items of a slate are answered independently of each other, given the user: of each, one combination of behaviours
  is drawn.
* The history gets what was shown (what was taken, where the log holds no more), in the order of the slots.
* After every item that was shown the user leaves with the probability of
  :func:`recjax.envs.users.session_ends.leave_probability`, in one draw for the slate.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Transition
from recjax.envs.choice.models import draw
from recjax.envs.events import append_events
from recjax.envs.users.exposures import combinations, history_codes
from recjax.envs.users.joint import chances
from recjax.envs.users.networks import UserNetwork
from recjax.envs.users.session_ends import leave_probability
from recjax.response import Response
from recjax.types import Array, Behaviour, Items, Observation, PyTree


@struct.dataclass
class Params:
    """What all users share.

    Attributes:
      networks: parameters of the members, leaves ``[members, ...]``.
      ends: ``f32[3]``, when users leave.
      items: the features of all items.
      arrivals: what was logged of every user, leaves ``[U, ...]``.
    """

    networks: PyTree
    ends: Array
    items: Items
    arrivals: Observation


@struct.dataclass
class User:
    """The state of one user. Only ``observation`` is for policies.

    Attributes:
      user: ``i32[]`` row of the user in the log.
      member: ``i32[]`` the member of the ensemble that the user is.
      observation: histories as the platform has logged them.
      shown: ``i32[]`` items shown in this session.
      positive: ``i32[]`` how many of them were answered.
      steps: ``i32[]`` slates seen in this session.
    """

    user: Array
    member: Array
    observation: Observation
    shown: Array
    positive: Array
    steps: Array


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is fixed for all users.

    Attributes:
      network: of every member.
      behaviours: what users do, the weakest first.
      has_impressions: whether histories hold what was shown and not taken.
      max_steps: slates after which a session is cut.
      pessimism: see above; None where every user is a member.
    """

    network: UserNetwork
    behaviours: tuple[Behaviour, ...]
    has_impressions: bool
    max_steps: int
    pessimism: float | None


def arrive(user: Array, member: Array, params: Params) -> User:
    """A user at the start of a session, with the history of the log's end."""
    observation = jax.tree.map(lambda leaf: leaf[user], params.arrivals)
    zero = jnp.zeros((), jnp.int32)
    return User(user, member, observation, zero, zero, zero)


def expected(user: User, shown: Array, params: Params, rules: Rules) -> Array:
    """``f32[M, 2^S]``: probabilities of what one user does with each of ``shown: i32[M]``."""
    observation = jax.tree.map(lambda leaf: leaf[None], user.observation)

    def of_member(networks: PyTree) -> Array:
        network: Any = rules.network
        logits, strengths = network.apply(networks, user.user[None], observation, shown[None], params.items)
        return chances(logits[0], strengths)

    # All members are asked: to take the parameters of one would copy them for each user.
    found = jax.vmap(of_member)(params.networks)
    if rules.pessimism is None:
        return found[user.member]
    wary = jnp.maximum(jnp.mean(found, axis=0) - rules.pessimism * jnp.std(found, axis=0), 0.0)[:, 1:]
    return jnp.concatenate([1.0 - jnp.sum(wary, axis=1, keepdims=True), wary], axis=1)


def respond(key: Array, state: User, slate: Array, params: Params, rules: Rules) -> Transition:
    """One user answers one slate.

    Args:
      key: PRNG key.
      state: before the slate.
      slate: ``i32[K]`` items. A slot with an id outside the catalogue shows nothing.
      params: what all users share.
      rules: what is fixed.
    """
    count = slate.shape[0]
    uniform = jax.random.uniform(key, (count + 1,))
    there = (slate >= 0) & (slate < params.items.num_items)
    probabilities = expected(state, jnp.where(there, slate, 0), params, rules)
    done = jnp.where(there, draw(probabilities, uniform[:count]), 0)
    answers = jnp.asarray(combinations(len(rules.behaviours)), jnp.float32)[done]
    names = [one.name.lower() for one in rules.behaviours]
    response = Response(**{name: answers[:, column] for column, name in enumerate(names)})

    positive = state.positive + jnp.cumsum(done > 0)
    shown = state.shown + jnp.cumsum(there)
    leaving = leave_probability(params.ends, jnp.maximum(shown, 1).astype(jnp.float32), positive.astype(jnp.float32))
    stays = jnp.prod(jnp.where(there, 1.0 - leaving, 1.0))
    after = dataclasses.replace(
        state,
        observation=remember(state.observation, slate, done, there if rules.has_impressions else done > 0, rules),
        shown=shown[-1],
        positive=positive[-1],
        steps=state.steps + 1,
    )
    terminated = uniform[count] >= stays
    truncated = (after.steps >= rules.max_steps) & ~terminated
    info = {"leave_probability": 1.0 - stays}
    return Transition(after.observation, after, response, terminated, truncated, info)


def remember(observation: Observation, slate: Array, done: Array, kept: Array, rules: Any) -> Observation:
    """The observation with those of a slate's items that are ``kept`` at the end of its history.

    Args:
      observation: of one user.
      slate: ``i32[K]``.
      done: ``i32[K]`` combinations of behaviours.
      kept: ``bool[K]``.
      rules: says which behaviours there are.
    """
    codes = jnp.asarray(history_codes(rules.behaviours))[done]
    return dataclasses.replace(
        observation,
        history=append_events(observation.history, slate, kept),
        behaviour=append_events(observation.behaviour, codes, kept),
    )
