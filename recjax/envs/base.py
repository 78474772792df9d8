"""What an environment is: pure functions of one user, over a catalogue that all users share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from recjax.registry import Registry
from recjax.types import Items, PyTree, Spec


class Environment(NamedTuple):
    """A population of users as a pair of pure functions.

    The functions serve one user; the loop maps them over users and seeds. ``params``
    holds what all users share (item tables, declared parameters) and is never batched.

    Attributes:
      spec: static shape of the problem.
      params: pytree of everything that the dynamics read.
      items: what a platform knows of the items. Policies get these, and never ``params``.
      reset: ``(key, params) -> (observation, state)``: a user arrives.
      step: ``(key, state, slate, params) -> (observation, state, response, terminated,
        truncated, info)`` with ``slate: i32[K]`` and boolean scalars. ``terminated``
        means that the user left, ``truncated`` that the episode was cut off. The
        observation is the one that follows ``slate``; environments do not reset
        themselves. ``info`` is a dictionary of scalars for diagnosis, never for policies.
      tick: ``(key, params, responses) -> params`` or None: what changes for all users
        once all have responded (stock, clock).
    """

    spec: Spec
    params: PyTree
    items: Items
    reset: Callable
    step: Callable
    tick: Callable | None = None


environments: Registry = Registry("environment")
register = environments.register
