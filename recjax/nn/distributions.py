"""How the distribution of a return is described, and how such a description learns: atoms (C51), quantiles (QR-DQN)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax.losses import categorical_td, quantile_td
from recjax.types import Array


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Probabilities of atoms at fixed places, of which a network gives the logits: C51.

    Attributes:
      low: place of the first atom. What is earned below it counts as this much.
      high: place of the last atom.
      size: number of atoms, evenly spaced.

    Raises:
      ValueError: fewer than two atoms, or ``high`` is not above ``low``.

    References:
      Bellemare, Dabney, Munos, "A Distributional Perspective on Reinforcement Learning", ICML 2017.
    """

    low: float = -10.0
    high: float = 10.0
    size: int = 51

    def __post_init__(self) -> None:
        if self.size < 2 or not self.high > self.low:
            raise ValueError(
                f"Categorical has {self.size} atoms from {self.low} to {self.high}; it needs at least 2, and high"
                " above low."
            )

    @property
    def atoms(self) -> Array:
        """Places of the atoms, ``f32[size]``."""
        return jnp.linspace(self.low, self.high, self.size)

    def mean(self, outputs: Array) -> Array:
        """Expected values ``f32[...]`` of logits ``f32[..., size]``."""
        return jax.nn.softmax(outputs, axis=-1) @ self.atoms

    def td_loss(self, outputs_tm1: Array, r_t: Array, discount_t: Array, outputs_t: Array) -> Array:
        """:func:`recjax.losses.categorical_td`, ``f32[...]``."""
        return categorical_td(outputs_tm1, r_t, discount_t, jax.nn.softmax(outputs_t, axis=-1), self.atoms)


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Quantiles of ``(i + 1/2) / size``, which a network gives: QR-DQN.

    Attributes:
      size: how many.
      huber: error up to which the loss is quadratic; 0 for the quantile regression without (QR-DQN-0).

    Raises:
      ValueError: fewer than one, or ``huber`` is below 0.

    References:
      Dabney et al., "Distributional Reinforcement Learning with Quantile Regression", AAAI 2018, which has 200.
    """

    size: int = 32
    huber: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1 or not self.huber >= 0:
            raise ValueError(
                f"Quantiles.size is {self.size} and huber is {self.huber}; they must be at least 1 and at least 0."
            )

    def mean(self, outputs: Array) -> Array:
        """Expected values ``f32[...]`` of quantiles ``f32[..., size]``."""
        return jnp.mean(outputs, axis=-1)

    def td_loss(self, outputs_tm1: Array, r_t: Array, discount_t: Array, outputs_t: Array) -> Array:
        """:func:`recjax.losses.quantile_td`, ``f32[...]``."""
        return quantile_td(outputs_tm1, r_t, discount_t, outputs_t, self.huber)
