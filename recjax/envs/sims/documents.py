"""Documents that exist for one step only, of kinds that stay: what RecSim's simulators have in common."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp

from recjax.response import Signal
from recjax.types import Array, Feature, Items

QUALITY = Signal("quality", "Quality of the document shown, clicked or not; 0 in empty slots")


CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip
"""Coefficients of the inverse error function, highest powers first."""


class Documents(NamedTuple):
    """Candidates of one step.

    Attributes:
      topic: ``i32[M]``, the item of the catalogue that each is.
      quality: ``f32[M]``.
    """

    topic: Array
    quality: Array


def in_slots(documents: Documents, slate: Array) -> tuple[Array, Array, Array]:
    """What the slots of a slate of positions hold: ``bool[K]`` whether anything, its topic and quality, 0 in others."""
    shown = (slate >= 0) & (slate < documents.topic.shape[0])
    return shown, jnp.where(shown, documents.topic[slate], 0), jnp.where(shown, documents.quality[slate], 0.0)


def topics(count: int) -> Items:
    """A catalogue of topics, of which no more is known than which they are."""
    return Items(
        popularity=jnp.ones(count),
        is_new=jnp.zeros(count, bool),
        features={"topic": Feature(jnp.eye(count), "multi_hot")},
    )


def normal(uniform: Array) -> Array:
    """Standard normal numbers of uniform ones in [0, 1), so that one call of the generator makes all of a step.

    To 5e-5 within four standard deviations. Written out, because XLA's own ``erf_inv`` takes three times as long on a
    CPU, and most of a step.

    References:
      Giles, "Approximating the erfinv function", GPU Computing Gems, Jade edition, 2011.
    """
    x = jnp.clip(2.0 * uniform - 1.0, -1.0 + 2e-7, 1.0 - 2e-7)
    w = -jnp.log((1.0 - x) * (1.0 + x))
    return math.sqrt(2.0) * x * jnp.where(w < 5.0, _polynomial(CENTRE, w - 2.5), _polynomial(TAIL, jnp.sqrt(w) - 3.0))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    return functools.reduce(lambda sum, coefficient: sum * x + coefficient, coefficients, jnp.zeros_like(x))
