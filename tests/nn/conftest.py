"""A small catalogue and a few users with every kind of history."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.types import PAD_ID, Behaviour, Feature, Items, Observation

NUM_ITEMS, DIM, VOCABULARY = 11, 8, 5


@pytest.fixture(scope="session")
def items() -> Items:
    rng = np.random.default_rng(0)
    return Items(
        popularity=jnp.ones(NUM_ITEMS),
        is_new=jnp.zeros(NUM_ITEMS, bool),
        features={
            "genres": Feature(jnp.asarray(rng.integers(0, 2, (NUM_ITEMS, 3)).astype(np.float32)), "multi_hot"),
            "numbers": Feature(jnp.asarray(rng.normal(size=(NUM_ITEMS, 2)).astype(np.float32)), "numeric"),
            "title": Feature(
                jnp.asarray(rng.integers(PAD_ID, VOCABULARY, (NUM_ITEMS, 4)).astype(np.int32)).at[0].set(PAD_ID),
                "words",
                VOCABULARY,
            ),
        },
    )


@pytest.fixture(scope="session")
def observation() -> Observation:
    """Users with no history, one item, an item outside the vocabulary, a full history."""
    pad = PAD_ID
    return Observation(
        history=jnp.array([[pad] * 4, [pad, pad, pad, 3], [pad, 2, NUM_ITEMS, 5], [0, 1, 10, 1]], jnp.int32),
        behaviour=jnp.array(
            [[pad] * 4, [pad, pad, pad, Behaviour.VIEW], [pad, 1, Behaviour.PLAY, 4], [1, 1, 0, 3]], jnp.int32
        ),
        context=jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)),
    )
