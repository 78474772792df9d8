"""What several domains are made of."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.types import Array, Feature


def standardised(values: Array) -> Feature:
    """A number of each item ``f32[N]`` as a "numeric" feature of mean 0 and deviation 1 (0 where all agree)."""
    deviation = jnp.std(values)
    centred = values - jnp.mean(values)
    return Feature((centred / jnp.where(deviation > 0, deviation, 1.0))[:, None], "numeric")
