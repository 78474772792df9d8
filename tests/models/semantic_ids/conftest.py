from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models.semantic_ids import residual_kmeans, with_extra_level

RING = 24


@pytest.fixture(scope="session")
def circle():
    """Vectors of a ring of items."""
    angle = 2 * np.pi * np.arange(RING) / RING
    return jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=-1), jnp.float32)


@pytest.fixture(scope="session")
def ring_ids(circle):
    """Ids of two levels and the one that tells apart."""
    return with_extra_level(residual_kmeans(circle, levels=2, codebook_size=6, key=jax.random.key(0)), size=4)
