"""What follows from a step, told by what users answered at once: a surrogate index of rewards that come late."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from recjax.fit import descend
from recjax.losses import masked_mean
from recjax.types import Array, PyTree, Response, Spec


@struct.dataclass
class SurrogateState:
    """What :class:`Surrogates` carry from update to update.

    Attributes:
      params: variables of the index.
      opt_state: state of its optimiser.
    """

    params: PyTree
    opt_state: optax.OptState


class SurrogateIndex(nn.Module):
    """``e + f(e, y)``: what was expected, corrected by what was answered. The correction is zero at first.

    Attributes:
      hidden: width of the hidden layer of ``f``.
    """

    hidden: int = 32

    @nn.compact
    def __call__(self, expected: Array, answers: Array) -> Array:
        """What follows, ``f32[B]``.

        Args:
          expected: ``f32[B]`` of the slate that was shown.
          answers: ``f32[B, A]`` to it.
        """
        hidden = nn.tanh(nn.Dense(self.hidden)(jnp.concatenate([expected[:, None], answers], axis=-1)))
        return expected + nn.Dense(1, kernel_init=nn.initializers.zeros)(hidden)[:, 0]


@dataclasses.dataclass(frozen=True)
class Surrogates:
    """Answers that foretell what follows, and the index that learns what they foretell.

    That a user stays because an item pleased shows long after, and beside much chance: to learn it item by item takes
    millions of clicks. How much an item pleased shows at once. So the targets of temporal differences are regressed on
    the answers to a slate, over all items and users, and what an item is worth is learned from what that regression
    says of the answers to it.

    Where an item has its effect on what follows through these answers, the expectation stays the same, and most of the
    noise is gone. An effect that the answers do not show is not seen either.

    Attributes:
      signals: names in :class:`recjax.types.Response`, such as ``("satisfaction",)``; whether anything was clicked is
        read besides.
      hidden: width of the hidden layer of the index.
      learning_rate: of the index, by Adam.

    Raises:
      ValueError: there is no signal; a number is out of range.

    References:
      Athey, Chetty, Imbens, Kang, "The Surrogate Index: Combining Short-Term Proxies to Estimate Long-Term Treatment
      Effects More Rapidly and Precisely", NBER working paper 26463, 2019; Prentice, "Surrogate endpoints in clinical
      trials", Statistics in Medicine 8, 1989.
    """

    signals: tuple[str, ...]
    hidden: int = 32
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        if not self.signals or isinstance(self.signals, str):
            raise ValueError(f'signals is {self.signals!r}; name at least one of a response, as in ("satisfaction",).')
        if self.hidden < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"hidden is {self.hidden} and learning_rate {self.learning_rate}; they must be at least 1 and above 0."
            )

    def init(self, key: Array, spec: Spec) -> SurrogateState:
        """The index before the first update.

        Raises:
          ValueError: users do not answer with one of the signals.
        """
        known = [signal.name for signal in spec.signals]
        if unknown := [name for name in self.signals if name not in known]:
            raise ValueError(
                f"The surrogates name {', '.join(map(repr, unknown))}, but users answer with {', '.join(known)}."
            )
        params = self._index.init(key, jnp.zeros(1), jnp.zeros((1, len(self.signals) + 1)))
        return SurrogateState(params, self._optimizer.init(params))

    def learn(
        self, state: SurrogateState, expected: Array, response: Response, target: Array, is_learned: Array
    ) -> tuple[SurrogateState, Array, Array]:
        """Learns from targets, and says what answers foretold before.

        Args:
          state: of the index.
          expected: ``f32[B]`` what the shown slates were expected to be worth.
          response: to them.
          target: ``f32[B]`` what came of them.
          is_learned: ``bool[B]`` which to learn from.

        Returns:
          The next state, what follows by the index ``f32[B]``, and its loss, half the mean squared error.
        """
        answers = jnp.stack([jnp.sum(response[name], axis=-1) for name in ("click", *self.signals)], axis=-1)

        def loss_fn(params: PyTree) -> tuple[Array, Array]:
            foretold: Any = self._index.apply(params, expected, answers)
            return masked_mean(0.5 * (foretold - target) ** 2, is_learned), foretold

        done = descend(loss_fn, self._optimizer, state.params, state.opt_state)
        return SurrogateState(done.params, done.opt_state), done.aux, done.loss

    @property
    def _index(self) -> SurrogateIndex:
        return SurrogateIndex(self.hidden)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
