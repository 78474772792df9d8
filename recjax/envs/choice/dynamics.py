"""How one simulated user answers a slate: choice, conversion, satisfaction, boredom, leaving.

Let ``l_j`` be the preference logit of the item in slot ``j``, ``z_j`` its unit topic vector and
``m`` the user's memory of consumed topics. With the names of :class:`~recjax.envs.ResponseModel`:

* boredom ``b_j = max(0, <m, z_j>)``, in [0, 1];
* attraction ``a_j = l_j - boredom_weight * b_j``;
* appeal ``e_j = a_j + bait * g_j`` with a standard normal ``g_j`` of each item;
* choice: one softmax over ``choice_scale * e_j + j * log(position_discount)`` of the slots and
  ``no_click_logit``, so a slate gets at most one click;
* satisfaction with the clicked item ``y = sigmoid(a_j)``; the click converts with probability
  ``conversion_rate * y``;
* slow satisfaction ``s``: a click moves it to ``s + satisfaction_rate * (y - s)``, no click to
  ``s * (1 - no_click_decay)``;
* memory ``m <- memory_decay * m + (1 - memory_decay) * z_j``, without the last term if nothing
  was clicked;
* the user leaves with probability ``leave_base + leave_slope * (1 - s)``.

So the same topic again pleases less each time, and a while of other topics brings it back.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recjax.envs.base import Transition
from recjax.envs.choice.models import draw
from recjax.envs.choice.response_model import ResponseModel
from recjax.response import CLICK, CONVERSION, SATISFACTION
from recjax.types import PAD_ID, Array, Behaviour, Observation, Response

SIGNALS = (CLICK, CONVERSION, SATISFACTION)
"""What these users answer."""


@struct.dataclass
class ItemFactors:
    """What the dynamics know of every item. Policies never see it.

    Attributes:
      vectors: ``f32[N, T]`` preference factors.
      bias: ``f32[N]`` logit with which an average user likes the item.
      topics: ``f32[N, T]`` unit vectors (or zero) that boredom compares.
      bait: ``f32[N]`` standard normal, how far an item promises more than it holds.
    """

    vectors: Array
    bias: Array
    topics: Array
    bait: Array


@struct.dataclass
class User:
    """The state of one user. Only ``observation`` is for policies.

    Attributes:
      user: ``i32[]`` row of the user in the log, ``PAD_ID`` for one who was drawn afresh.
      vector: ``f32[T]`` preference factors.
      bias: ``f32[]`` logit with which the user likes an average item.
      observation: histories as the platform has logged them.
      memory: ``f32[T]`` decaying mean of the topics consumed in this session, norm at most 1.
      satisfaction: ``f32[]`` slow satisfaction with the platform, in [0, 1].
      steps: ``i32[]`` slates seen in this session.
    """

    user: Array
    vector: Array
    bias: Array
    observation: Observation
    memory: Array
    satisfaction: Array
    steps: Array


@jax.jit
def topics(vectors: Array) -> Array:
    """Unit topic vectors ``f32[N, T]`` of items with factors ``vectors``.

    The mean item is taken out first: what all items share tells no two of them apart. An item
    that is the mean item has no topic, hence a zero vector, and never bores.
    """
    centred = vectors - jnp.mean(vectors, axis=0, keepdims=True)
    norm = jnp.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / jnp.where(norm > 0, norm, 1.0)


def arrive(user: Array, vector: Array, bias: Array, observation: Observation, response_model: ResponseModel) -> User:
    """A user at the start of a session: rested (nothing in memory) and as satisfied as declared."""
    return User(
        user=user,
        vector=vector,
        bias=bias,
        observation=observation,
        memory=jnp.zeros_like(vector),
        satisfaction=jnp.asarray(response_model.initial_satisfaction, jnp.float32),
        steps=jnp.zeros((), jnp.int32),
    )


def preference_logits(user: User, slate: Array, factors: ItemFactors) -> Array:
    """``f32[K]``: the logits with which ``user`` likes the items of ``slate``, boredom aside."""
    return factors.vectors[slate] @ user.vector + factors.bias[slate] + user.bias


def boredom(user: User, slate: Array, factors: ItemFactors) -> Array:
    """``f32[K]`` in [0, 1]: how much of each item's topic the user has just had."""
    return jnp.maximum(factors.topics[slate] @ user.memory, 0.0)


def attraction(user: User, slate: Array, response_model: ResponseModel, factors: ItemFactors) -> Array:
    """``f32[K]``: the logits with which ``user`` likes the items of ``slate`` at this moment."""
    return preference_logits(user, slate, factors) - response_model.boredom_weight * boredom(user, slate, factors)


def choice_logits(appeal: Array, shown: Array, response_model: ResponseModel) -> Array:
    """Logits ``f32[K + 1]`` of the user's choice: one a slot, and last the one of no click.

    Args:
      appeal: ``f32[K]``.
      shown: ``bool[K]``, False for slots that hold no item and so cannot be clicked.
      response_model: the declared parameters.
    """
    position = jnp.arange(appeal.shape[-1]) * jnp.log(response_model.position_discount)
    slots = jnp.where(shown, response_model.choice_scale * appeal + position, -jnp.inf)
    return jnp.append(slots, response_model.no_click_logit)


def pick(logits: Array, uniform: Array) -> Array:
    """Index drawn from the softmax of ``logits`` over their last axis, by one uniform number.

    Args:
      logits: ``f32[..., M]``; a logit of minus infinity is never picked.
      uniform: ``f32[...]`` in [0, 1).
    """
    return draw(jax.nn.softmax(logits), uniform)


class Choice(NamedTuple):
    """What a user took from a slate.

    Attributes:
      click: ``bool[K]``, True in the slot that was clicked.
      happened: ``bool[]`` whether one was.
      item: ``i32[]`` what it held, ``PAD_ID`` where nothing was clicked.
      shown: ``bool[K]`` slots that hold an item.
    """

    click: Array
    happened: Array
    item: Array
    shown: Array


def choose(uniform: Array, appeal: Array, slate: Array, num_items: int, response_model: ResponseModel) -> Choice:
    """What a user takes from a slate, by one uniform number.

    Args:
      uniform: ``f32[]`` in [0, 1).
      appeal: ``f32[K]``.
      slate: ``i32[K]`` items; a slot with an id outside the catalogue shows nothing and is never clicked.
      num_items: items of the catalogue.
      response_model: the declared parameters.
    """
    shown = (slate >= 0) & (slate < num_items)
    slot = pick(choice_logits(appeal, shown, response_model), uniform)
    click = jnp.arange(slate.shape[0]) == slot
    happened = jnp.any(click)
    item = jnp.where(happened, slate[jnp.minimum(slot, slate.shape[0] - 1)], PAD_ID)
    return Choice(click, happened, item, shown)


def settle(user: User, choice: Choice, topic: Array, pleasure: Array, response_model: ResponseModel) -> User:
    """The user after a choice: memory, slow satisfaction and clock have moved, the history has not.

    Args:
      user: before the slate.
      choice: what was taken.
      topic: ``f32[T]`` of the item that was.
      pleasure: ``f32[]`` satisfaction with it.
      response_model: the declared parameters.
    """
    satisfaction = jnp.where(
        choice.happened,
        user.satisfaction + response_model.satisfaction_rate * (pleasure - user.satisfaction),
        user.satisfaction * (1.0 - response_model.no_click_decay),
    )
    consumed = jnp.where(choice.happened, topic, 0.0)
    return dataclasses.replace(
        user,
        memory=response_model.memory_decay * user.memory + (1.0 - response_model.memory_decay) * consumed,
        satisfaction=satisfaction,
        steps=user.steps + 1,
    )


def ends(uniform: Array, user: User, response_model: ResponseModel) -> tuple[Array, Array]:
    """``(terminated, truncated)``, ``bool[]`` each: whether the user leaves after a step, or is cut off.

    Args:
      uniform: ``f32[]`` in [0, 1).
      user: after the step.
      response_model: the declared parameters.
    """
    terminated = uniform < leave_probability(user.satisfaction, response_model)
    return terminated, (user.steps >= response_model.max_steps) & ~terminated


def append(observation: Observation, item: Array, behaviour: Array, happened: Array) -> Observation:
    """``observation`` with one event more at the end of its history, where it ``happened``."""

    def push(row: Array, value: Array) -> Array:
        return jnp.where(happened, jnp.concatenate([row[1:], value[None].astype(row.dtype)]), row)

    return dataclasses.replace(
        observation, history=push(observation.history, item), behaviour=push(observation.behaviour, behaviour)
    )


def step(key: Array, user: User, slate: Array, response_model: ResponseModel, factors: ItemFactors) -> Transition:
    """One user answers one slate.

    Args:
      key: PRNG key.
      user: state before the slate.
      slate: ``i32[K]`` item ids. A slot with an id outside the catalogue (``PAD_ID``) shows nothing.
      response_model: declared parameters.
      factors: what the dynamics know of the items.

    Returns:
      The transition; its ``info`` has ``user_satisfaction`` (slow satisfaction after
      the slate) and ``boredom`` (its mean over the slate before the choice).
    """
    choice_u, conversion_u, leave_u = jax.random.uniform(key, (3,))
    attracted = attraction(user, slate, response_model, factors)
    appeal = attracted + response_model.bait * factors.bait[slate]
    choice = choose(choice_u, appeal, slate, factors.bias.shape[0], response_model)
    pleasure = jnp.where(choice.click, jax.nn.sigmoid(attracted), 0.0)
    conversion = conversion_u < response_model.conversion_rate * pleasure
    response = Response(
        click=choice.click.astype(jnp.float32), conversion=conversion.astype(jnp.float32), satisfaction=pleasure
    )

    after = settle(user, choice, factors.topics[choice.item], jnp.sum(pleasure), response_model)
    behaviour = jnp.where(jnp.any(conversion), int(Behaviour.PURCHASE), int(Behaviour.CLICK))
    observation = append(user.observation, choice.item, behaviour, choice.happened)
    after = dataclasses.replace(after, observation=observation)
    terminated, truncated = ends(leave_u, after, response_model)
    bored = jnp.where(choice.shown, boredom(user, slate, factors), 0.0)
    info = {"user_satisfaction": after.satisfaction, "boredom": jnp.mean(bored)}
    return Transition(observation, after, response, terminated, truncated, info)


def leave_probability(satisfaction: Array, response_model: ResponseModel) -> Array:
    """Probability of leaving after a step with slow satisfaction ``satisfaction``."""
    return jnp.minimum(response_model.leave_base + response_model.leave_slope * (1.0 - satisfaction), 1.0)
