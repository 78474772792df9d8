"""The dynamics of users in the style of KuaiSim; :mod:`recjax.envs.sims.kuaisim` tells them in formulas."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from recjax.catalogue import BlockScorer, top_k
from recjax.envs.base import Transition
from recjax.envs.choice.models import draw
from recjax.envs.users.answering import remember
from recjax.envs.users.kuaisim_network import KuaiSimNetwork, scores
from recjax.response import Response
from recjax.types import Array, Behaviour, Items, Observation, PyTree

Level = Literal["request", "session", "cross_session"]

DAYS, SESSIONS = 10, 6


@struct.dataclass
class Params:
    """What all users share.

    Attributes:
      network: parameters of the response model.
      items: the features of all items.
      arrivals: what was logged of every user, leaves ``[U, ...]``.
      weights: ``f32[S]`` what behaviours count for in the reward of a slate.
      returning: ``f32[3 d + 1]`` the map ``b``, its constant last.
    """

    network: PyTree
    items: Items
    arrivals: Observation
    weights: Array
    returning: Array


@struct.dataclass
class User:
    """The state of one user.

    Attributes:
      user: ``i32[]`` row of the user in the log.
      observation: histories as the platform has logged them.
      temper: ``f32[]`` what is left of it.
      rewards: ``f32[]`` sum over the slates of this session.
      steps: ``i32[]`` slates of this session.
      sessions: ``i32[]`` sessions that have ended.
    """

    user: Array
    observation: Observation
    temper: Array
    rewards: Array
    steps: Array
    sessions: Array


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is fixed for all users; see :func:`kuaisim`."""

    network: KuaiSimNetwork
    behaviours: tuple[Behaviour, ...]
    level: Level
    rho: float
    temper: float
    slate_size: int
    faithful: bool

    def ask(self, params: Params, method: str, *arguments: Any, key: Array | None = None) -> Array:
        """A method of the network, with dropout where there is a key."""
        rngs = {} if key is None else {"dropout": key}
        return self.network.apply(params.network, *arguments, method=method, rngs=rngs)  # type: ignore[return-value]


def reset(key: Array, params: Params, world: PyTree, *, rules: Rules) -> tuple[Observation, User]:
    """A user of the log arrives with the history of its end."""
    del world
    user = jax.random.randint(key, (), 0, params.arrivals.history.shape[0])
    observation = jax.tree.map(lambda leaf: leaf[user], params.arrivals)
    zero = jnp.zeros((), jnp.int32)
    state = User(user, observation, jnp.float32(rules.temper), jnp.zeros(()), zero, zero)
    return observation, state


def attention_of(user: User, params: Params, rules: Rules, key: Array | None = None) -> tuple[Array, Array]:
    """What a user looks for ``f32[S, d]``, and the user's state ``f32[3 d]``."""
    one = jax.tree.map(lambda leaf: leaf[None], user)
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    state = rules.ask(params, "state", one.user, one.observation, params.items, key=keys[0])
    return rules.ask(params, "attention", state, key=keys[1])[0], state[0]


def similarity(encodings: Array, faithful: bool) -> Array:
    """``f32[K]``: how similar each of ``f32[K, d]`` is to all of them on average."""
    unit = encodings / jnp.maximum(jnp.linalg.norm(encodings, axis=-1, keepdims=True), 1e-12)
    cosine = jnp.mean(unit @ unit.T, axis=-1)
    return cosine / encodings.shape[-1] if faithful else cosine


def step(key: Array, state: User, slate: Array, params: Params, world: PyTree, *, rules: Rules) -> Transition:
    """A slate of a request or a session."""
    del world
    answer_key, dropout_key = (*jax.random.split(key),) if rules.faithful else (key, None)
    there = (slate >= 0) & (slate < params.items.num_items)
    shown = jnp.where(there, slate, 0)
    encodings = rules.ask(params, "encode", shown, params.items)
    attention, _ = attention_of(state, params, rules, dropout_key)
    logits = scores(attention[None], encodings[None])[0]
    chance = jax.nn.sigmoid(jax.nn.sigmoid(logits) if rules.faithful else logits)
    alike = similarity(jnp.where(there[:, None], encodings, 0.0), rules.faithful)
    if rules.level == "session":
        chance = jnp.maximum(chance - rules.rho * alike[:, None], 0.0)
    answers = there[:, None] & (jax.random.uniform(answer_key, chance.shape) < chance)

    reward = jnp.mean(answers @ params.weights)
    lost = jnp.clip(reward - 2.0, -2.0, 0.0) if rules.level == "session" else -1.0
    after = _moved(state, slate, answers, there, reward, lost, rules)
    over = after.temper < 1.0
    response = Response(
        **{one.name.lower(): answers[:, k].astype(jnp.float32) for k, one in enumerate(rules.behaviours)}
    )
    never = jnp.zeros((), bool)
    ends = (over, never) if rules.level == "session" else (never, over)
    return Transition(
        after.observation, after, response, *ends, {"temper": after.temper, "similarity": jnp.mean(alike)}
    )


def _moved(
    state: User, slate: Array, answers: Array, there: Array, reward: Array, lost: Array | float, rules: Rules
) -> User:
    """The user after a slate, within the session."""
    done = answers @ (1 << jnp.arange(len(rules.behaviours)))
    return dataclasses.replace(
        state,
        observation=remember(state.observation, slate, done, there, rules),
        temper=state.temper + lost,
        rewards=state.rewards + reward,
        steps=state.steps + 1,
    )


def step_vector(key: Array, state: User, slate: Array, params: Params, world: PyTree, *, rules: Rules) -> Transition:
    """What a vector ranks highest, in one of several sessions."""
    del world
    count = rules.slate_size * len(rules.behaviours)
    answer_key, *dropout_keys = jax.random.split(key, 3) if rules.faithful else (key, None, None)
    uniform = jax.random.uniform(answer_key, (count + 1,))
    attention, _ = attention_of(state, params, rules, dropout_keys[0])
    shown = _best(attention, slate, params, rules)
    encodings = rules.ask(params, "encode", shown, params.items)
    chance = jax.nn.sigmoid(scores(attention[None], encodings[None])[0])
    answers = uniform[:count].reshape(chance.shape) < chance

    reward = jnp.mean(answers @ params.weights)
    after = _moved(state, shown, answers, jnp.ones(len(shown), bool), reward, -1.0, rules)
    over = after.temper < 1.0
    _, moved = attention_of(after, params, rules, dropout_keys[1])
    days = 1.0 + draw(return_chances(moved, after.rewards / after.steps, params), uniform[count])
    after = dataclasses.replace(
        after,
        temper=jnp.where(over, rules.temper, after.temper),
        rewards=jnp.where(over, 0.0, after.rewards),
        steps=jnp.where(over, 0, after.steps),
        sessions=state.sessions + over,
    )
    shares = {one.name.lower(): jnp.mean(answers[:, k])[None] for k, one in enumerate(rules.behaviours)}
    response = Response(return_days=jnp.where(over, days, 0.0)[None], **shares)
    truncated = after.sessions >= SESSIONS
    return Transition(after.observation, after, response, jnp.zeros((), bool), truncated, {"temper": after.temper})


def return_chances(state: Array, reward: Array, params: Params) -> Array:
    """``f32[10]``: probabilities, but for a factor, of returning after 1 .. 10 days.

    Args:
      state: ``f32[3 d]`` of the user when the session has ended.
      reward: ``f32[]`` mean over its slates.
      params: what all users share.
    """
    chance = jnp.clip(state @ params.returning[:-1] + params.returning[-1] + 0.1 * reward + 0.4, 0.001, 0.999)
    return chance * (1.0 - chance) ** jnp.arange(DAYS)


def _best(attention: Array, vector: Array, params: Params, rules: Rules) -> Array:
    """The items ``i32[K]`` of the catalogue that a vector ``f32[S]`` ranks highest."""

    def values(queries: tuple[Array, Array], encodings: Array) -> Array:
        attention, vector = queries
        return jnp.einsum("bms,bs->bm", jax.nn.sigmoid(scores(attention, encodings)), vector)

    def of_block(queries: tuple[Array, Array], start: Array | int, size: int) -> Array:
        encodings = rules.ask(params, "encode", start + jnp.arange(size), params.items)
        return values(queries, encodings[None])

    def of_ids(queries: tuple[Array, Array], ids: Array) -> Array:
        return values(queries, rules.ask(params, "encode", ids, params.items))

    scorer = BlockScorer(of_block, params.items.num_items, of_ids)
    return top_k((attention[None], vector[None]), scorer, rules.slate_size)[1][0]
