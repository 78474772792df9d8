"""Documents that exist for one step only, of kinds that stay: what RecSim's simulators have in common."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.response import Signal
from recjax.types import Array, Feature, Items

QUALITY = Signal("quality", "Quality of the document shown, clicked or not; 0 in empty slots")


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
    """Standard normal numbers of uniform ones in [0, 1), so that one call of the generator makes all of a step."""
    inside = jnp.clip(2.0 * uniform - 1.0, -1.0 + 2e-7, 1.0 - 2e-7)
    return jnp.sqrt(2.0) * jax.lax.erf_inv(inside)
