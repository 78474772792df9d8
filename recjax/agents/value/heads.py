"""What is learned of the value of an item: its expectation, or a distribution where the network knows one."""

from __future__ import annotations

import dataclasses
from typing import Any

from recjax.losses import TD_LOSSES, td_error
from recjax.nn import DistributionalNetwork, ScoringNetwork, ValueHead
from recjax.types import Array, Items, Observation, PyTree


@dataclasses.dataclass(frozen=True)
class Expected:
    """Values themselves: a :class:`recjax.nn.ValueHead` that says one number of an item.

    Attributes:
      loss: of the TD error, a name in :data:`recjax.losses.TD_LOSSES`.
    """

    loss: str

    def mean(self, outputs: Array) -> Array:
        """See :class:`recjax.nn.ValueHead`."""
        return outputs

    def td_loss(self, outputs_tm1: Array, r_t: Array, discount_t: Array, outputs_t: Array) -> Array:
        """See :class:`recjax.nn.ValueHead`."""
        return TD_LOSSES[self.loss](td_error(outputs_tm1, r_t, discount_t, outputs_t))


def head_of(network: ScoringNetwork, loss: str) -> ValueHead:
    """What a network says of the value of an item, with the loss of TD errors where that is a number."""
    return network.head if isinstance(network, DistributionalNetwork) else Expected(loss)


def outputs_at(
    network: ScoringNetwork,
    params: PyTree,
    observation: Observation,
    actions: Array,
    items: Items,
    rngs: dict[str, Array] | None = None,
) -> Array:
    """What a network says of the items ``actions: i32[B, M]``, ``f32[B, M]``; ``f32[B, M, size]`` of distributions."""
    method = "distributions" if isinstance(network, DistributionalNetwork) else "at"
    outputs: Any = network.apply(params, observation, actions, items, method=method, rngs=rngs)
    return outputs
