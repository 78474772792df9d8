"""What an agent is: three pure functions over a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from recjax.registry import Registry
from recjax.types import PyTree


class Agent(NamedTuple):
    """A policy and how it learns.

    Attributes:
      init: ``(key, spec, items, hparams=None, params=None) -> state``. ``hparams``
        replaces the defaults below; ``params`` warm-starts the network. Everything that
        seeds have in common (counters, ``items``) is a field of the state declared with
        :func:`recjax.types.shared`.
      act: ``(key, state, observation, *, explore) -> (slate, extras)`` for a batch of
        users: ``slate: i32[B, K]`` without repeats, ``extras["propensity"]: f32[B, K]``.
        ``explore`` is a Python bool.
      learn: ``(key, state, sample) -> (state, metrics)``: one batched update from a
        :class:`~recjax.types.Sample`; ``metrics`` is a dictionary of scalars. None for
        agents that do not learn.
      scores: ``(state, observation) -> (queries, items)``: how the policy rates every item,
        as the operations of :mod:`recjax.catalogue` take it. None for policies that do not
        rate items.
      hparams: default hyper-parameters, a pytree of scalars that may be vmapped.
      window: how many consecutive steps a sample must hold (the ``n`` of n-step returns).
    """

    init: Callable
    act: Callable
    learn: Callable | None = None
    scores: Callable | None = None
    hparams: PyTree = None
    window: int = 1


agents: Registry = Registry("agent")
register = agents.register
