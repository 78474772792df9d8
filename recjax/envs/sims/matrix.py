"""Users who answer with the entries of a matrix of rewards, and leave by rules of their own.

Row ``u`` of the matrix ``M: [U, N]`` is a kind of user. A user who arrives is of a kind drawn uniformly and has no
history. When a slate is shown, for each of its items ``a``:

* ``rating = M[u, a]``, and ``click = 1`` if ``rating >= click_from``;
* with ``repeats=False`` both are 0 for an item that the user was shown before;
* the user leaves (terminated) if a rule (:mod:`recjax.envs.sims.leaving`) says that an item of the slate puts the user
  off after the last ``window`` items shown before the slate; what the slate earned counts all the same;
* otherwise the session is cut (truncated) after ``max_steps`` slates.

Nothing else is random. The history holds all items that were shown, as CLICK or VIEW, and with ``ratings=True``
``Observation.context`` ends with their ratings, position by position and 0 where the history is padded. An empty slot
shows nothing.

This is the form of EasyRL4Rec's environments (Yu et al., SIGIR 2024: KuaiRec, Coat, and others) and of the study of
state encoders by Huang et al. (SIGIR 2022).
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import ArrayLike

from recjax.envs.base import Environment, Transition, register
from recjax.envs.events import append_events
from recjax.envs.sims.leaving import Leaving
from recjax.envs.sims.matrix_oracles import Plan, oracles
from recjax.response import CLICK, Response, Signal
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree, Spec

RATING = Signal("rating", "The user's entry of the matrix of rewards; 0 where nothing new was shown")


@struct.dataclass
class Params:
    """What all users share.

    Attributes:
      rewards: ``f32[U, N]``; of users who only click, 1 where they do.
      average: ``f32[N]`` mean of the rewards over kinds of users.
      leaving: the rule, or None where users stay until the session is cut.
      context: ``f32[U, C]`` what the platform knows of each kind of user, or None.
    """

    rewards: Array
    average: Array
    leaving: Leaving | None
    context: Array | None


@struct.dataclass
class User:
    """The state of one user.

    Attributes:
      user: ``i32[]`` row of the matrix.
      shown: ``i32[M]`` items shown in this session, the newest last, padded on the left.
      ratings: ``f32[M]`` what they earned.
      steps: ``i32[]`` slates seen in this session.
    """

    user: Array
    shown: Array
    ratings: Array
    steps: Array


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is fixed for all users; see :func:`matrix`."""

    click_from: float
    max_steps: int
    repeats: bool
    ratings: bool
    history_length: int
    memory: int


@register("matrix")
def matrix(
    rewards: ArrayLike,
    *,
    click_from: float,
    leaving: Leaving | None = None,
    repeats: bool = True,
    max_steps: int = 30,
    slate_size: int = 1,
    history_length: int | None = None,
    ratings: bool = True,
    items: Items | None = None,
    context: ArrayLike | None = None,
) -> Environment:
    """Users who answer with the entries of a matrix of rewards.

    To train on a predicted matrix and test on the true one, make two environments with the same ``leaving``.

    Args:
      rewards: ``f32[U, N]`` of kinds of users and items, finite.
      click_from: from which reward on an item is clicked; above 0 where repeats earn nothing.
      leaving: when users leave, of :func:`recjax.envs.too_close` or :func:`recjax.envs.too_often`; None: never.
      repeats: whether an item that was shown before earns anything again.
      max_steps: slates after which a session is cut.
      slate_size: slots of a slate, all of which are consumed.
      history_length: positions of a history; by default all that a session shows.
      ratings: whether users tell their rewards (a signal "rating", and the end of the context), or clicks alone.
      items: what a platform knows of the items; by default nothing.
      context: ``f32[U, C]`` what a platform knows of each kind of user, at the beginning of the context.

    Returns:
      The environment. ``oracles``: "myopic", "same_for_all" and "look_ahead".

    Raises:
      ValueError: an argument is out of range, or sizes disagree.

    >>> env = matrix(jnp.array([[1.0, 5.0, 3.0], [2.0, 4.0, 5.0]]), click_from=4.0)
    >>> _, user = env.reset(jax.random.key(0), env.params, None)
    >>> env.step(jax.random.key(1), user, jnp.array([1]), env.params, None).response["click"].tolist()
    [1.0]
    """
    table = _checked(rewards, leaving, items, context)
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; a session has at least 1 slate.")
    if not repeats and click_from <= 0:
        raise ValueError(
            f"click_from is {click_from}; with repeats=False it must be > 0, for repeats earn 0, no click."
        )
    length = max_steps * slate_size if history_length is None else history_length
    memory = max(length, leaving.window if leaving else 0, 0 if repeats else max_steps * slate_size)
    if not ratings:
        # Nobody is told more of a reward, so none is worth more.
        table, click_from = (table >= click_from).astype(np.float32), 1.0
    rules = Rules(click_from, max_steps, repeats, ratings, length, memory)
    num_items = table.shape[1]
    spec = Spec(
        num_items,
        slate_size,
        length,
        context_size=(0 if context is None else np.shape(context)[1]) + (length if ratings else 0),
        signals=(RATING, CLICK) if ratings else (CLICK,),
    )
    known = Items(popularity=jnp.zeros(num_items), is_new=jnp.zeros(num_items, bool)) if items is None else items
    params = Params(
        rewards=jnp.asarray(table),
        average=jnp.asarray(table.mean(axis=0, dtype=np.float64), jnp.float32),
        leaving=leaving,
        context=None if context is None else jnp.asarray(context, jnp.float32),
    )
    return Environment(
        spec,
        params,
        known,
        reset=partial(_reset, rules=rules),
        step=partial(_step, rules=rules),
        oracles=oracles(Plan(slate_size, max_steps, repeats)),
    )


def _checked(rewards: ArrayLike, leaving: Leaving | None, items: Items | None, context: ArrayLike | None) -> np.ndarray:
    """The rewards as ``f32[U, N]``."""
    table = np.asarray(rewards, np.float32)
    if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all():
        raise ValueError(f"rewards must be finite numbers [users, items]; got {table.dtype.name}{table.shape}.")
    users, num_items = table.shape
    for name, found in (
        ("leaving", num_items if leaving is None else leaving.num_items),
        ("items", num_items if items is None else items.num_items),
    ):
        if found != num_items:
            raise ValueError(f"{name} has {found} items and rewards has {num_items}; give both of the same catalogue.")
    if context is not None and (np.ndim(context) != 2 or np.shape(context)[0] != users):
        raise ValueError(f"context has shape {np.shape(context)}; it must be [{users}, C], as rewards.")
    return table


def _reset(key: Array, params: Params, world: PyTree, *, rules: Rules) -> tuple[Observation, User]:
    user = User(
        user=jax.random.randint(key, (), 0, params.rewards.shape[0]),
        shown=jnp.full(rules.memory, PAD_ID, jnp.int32),
        ratings=jnp.zeros(rules.memory),
        steps=jnp.zeros((), jnp.int32),
    )
    return _observe(user, params, rules), user


def _step(key: Array, state: User, slate: Array, params: Params, world: PyTree, *, rules: Rules) -> Transition:
    there = (slate >= 0) & (slate < params.rewards.shape[1])
    earns = there
    if not rules.repeats:
        earns &= ~jnp.any(slate[:, None] == state.shown[None], axis=-1)
    rating = jnp.where(earns, params.rewards[state.user, slate], 0.0)
    click = (earns & (rating >= rules.click_from)).astype(jnp.float32)
    response = Response(rating=rating if rules.ratings else None, click=click)

    put_off = jnp.zeros_like(there)
    if params.leaving is not None:
        put_off = there & params.leaving.puts_off(slate, state.shown[-params.leaving.window :])
    after = User(
        user=state.user,
        shown=append_events(state.shown, slate, there),
        ratings=append_events(state.ratings, rating, there),
        steps=state.steps + 1,
    )
    terminated = jnp.any(put_off)
    truncated = (after.steps >= rules.max_steps) & ~terminated
    info = {"put_off": jnp.mean(put_off)}
    return Transition(_observe(after, params, rules), after, response, terminated, truncated, info)


def _observe(user: User, params: Params, rules: Rules) -> Observation:
    history = user.shown[-rules.history_length :]
    ratings = user.ratings[-rules.history_length :]
    behaviour = jnp.where(ratings >= rules.click_from, int(Behaviour.CLICK), int(Behaviour.VIEW))
    known = [] if params.context is None else [params.context[user.user]]
    known += [ratings] if rules.ratings else []
    return Observation(
        history=history,
        behaviour=jnp.where(history == PAD_ID, PAD_ID, behaviour).astype(jnp.int32),
        context=jnp.concatenate(known) if known else None,
    )
