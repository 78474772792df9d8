"""Policies that see what is hidden from a platform: what could be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from recjax.agents.base import Action, Agent
from recjax.types import Array, Items, PyTree, Revealed, Spec


def oracle(choose: Callable[..., Array], setting: PyTree = None) -> Agent:
    """A policy of somebody who sees everything.

    It says what other policies could reach, or a lower bound of it, and learns nothing. Its ``log_prob`` is not
    told: that of an action is 0.

    Args:
      choose: ``(key, users, setting) -> slates i32[B, K]`` (vectors ``f32[B, A]``), where ``users`` are
        :class:`recjax.types.Revealed`, such as ``Environment.oracles[name].choose``.
      setting: what ``choose`` is given as its last argument; ``init(..., hparams=...)`` replaces it.
    """

    def init(key: Array, spec: Spec, items: Items, hparams: PyTree = None, params: PyTree = None) -> PyTree:
        del key, spec, items, params
        return jax.tree.map(jnp.asarray, setting if hparams is None else hparams)

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> Action:
        del explore
        users: Revealed = observation
        return Action(choose(key, users, state), jnp.zeros(users.observation.history.shape[0]))

    return Agent(init, act, hparams=setting, is_oracle=True)
