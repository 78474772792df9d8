"""Policies that answer an observation with a vector."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Action, Agent
from recjax.agents.state import owned, started
from recjax.types import Array, Items, Observation, PyTree, Spec, shared


@struct.dataclass
class VectorPolicyState:
    """What a policy of vectors needs.

    Attributes:
      params: variables of the network.
      items: features of the catalogue.
    """

    params: PyTree
    items: Items = shared()


def vector_policy(network: nn.Module) -> Agent:
    """A policy that shows what a network says, for environments whose actions are vectors.

    It does not explore and does not learn by itself; :func:`evolution_strategy` searches its parameters. Its
    ``log_prob`` is not told: that of an action is 0.

    Args:
      network: a Flax module ``(observation, items) -> f32[B, A]``.

    Returns:
      The agent. ``init`` raises ValueError where actions are slates, or the network's vectors have another width.
    """

    def init(key: Array, spec: Spec, items: Items, hparams: PyTree = None, params: PyTree = None) -> VectorPolicyState:
        del hparams
        if not spec.action_size:
            raise ValueError("This agent shows vectors, but Spec.action_size is 0: actions are slates.")
        observation = spec.empty_observation((1,))
        own = started(jax.jit(network.init)(key, observation, items), params)
        width = jax.eval_shape(network.apply, own, observation, items).shape
        if width != (1, spec.action_size):
            raise ValueError(
                f"The network gives {width} for one user; Spec.action_size asks for {(1, spec.action_size)}."
            )
        return VectorPolicyState(own, owned(items))

    def act(key: Array, state: VectorPolicyState, observation: Observation, *, explore: bool = True) -> Action:
        del key, explore
        shown: Any = network.apply(state.params, observation, state.items)
        return Action(shown, jnp.zeros(shown.shape[0]))

    return Agent(init, act)
