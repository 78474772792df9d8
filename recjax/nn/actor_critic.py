"""What actor-critic agents need beside a network that scores items: values of states, and policies of vectors."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.towers import Towers
from recjax.types import Array, Items, Observation


class StateValue(Towers):
    """The value of a state, ``V(s) = MLP(u(s))``: a critic with towers of its own.

    Attributes:
      hidden: widths of the hidden layers.
    """

    hidden: tuple[int, ...] = (64,)

    def setup(self) -> None:
        """Declares the parameters."""
        super().setup()
        self.layers = [nn.Dense(width) for width in self.hidden]
        self.value = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B]``; 0 before anything is learned."""
        state = self.represent(observation, items).astype(jnp.float32)
        for layer in self.layers:
            state = nn.relu(layer(state))
        return self.value(state)[:, 0]


class ContextValue(nn.Module):
    """The value of a state of which ``Observation.context`` tells all, ``V(s) = MLP(context)``.

    Attributes:
      hidden: widths of the hidden layers.
    """

    hidden: tuple[int, ...] = (64, 64)

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B]``; 0 before anything is learned."""
        state = context_layers(observation, self.hidden)
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name="value")(state)[:, 0]


class ContextVector(nn.Module):
    """A vector for each user, ``MLP(context)``: what :class:`GaussianPolicy` draws around.

    Attributes:
      size: numbers of a vector, ``Spec.action_size``.
      hidden: widths of the hidden layers.
    """

    size: int
    hidden: tuple[int, ...] = (64, 64)

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Array:
        """``f32[B, size]``; near 0 before anything is learned."""
        state = context_layers(observation, self.hidden)
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        return nn.Dense(self.size, kernel_init=small, name="vector")(state)


class GaussianPolicy(nn.Module):
    """A policy of vectors, normal around what a network says, with a standard deviation for each number.

    Attributes:
      module: a Flax module ``(observation, items) -> f32[B, size]``, such as :class:`ContextVector`; its parameters
        stand below ``module``.
      size: numbers of a vector, ``Spec.action_size``.
      initial_std: what the standard deviations begin with; they are trained.
    """

    module: nn.Module
    size: int
    initial_std: float = 0.5

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> tuple[Array, Array]:
        """Means ``f32[B, size]`` and logarithms of standard deviations, ``f32[size]``."""
        start = nn.initializers.constant(math.log(self.initial_std))
        return self.module(observation, items), self.param("log_std", start, (self.size,))


def context_layers(observation: Observation, hidden: tuple[int, ...]) -> Array:
    """ReLU layers over the context, ``f32[B, hidden[-1]]``, in the module that is being called.

    Raises:
      ValueError: the observation has no context.
    """
    if observation.context is None:
        raise ValueError(
            "This network reads Observation.context, which is None; use one of histories, such as nn.StateValue."
        )
    state = observation.context
    for number, width in enumerate(hidden):
        state = nn.relu(nn.Dense(width, name=f"layer_{number}")(state))
    return state
