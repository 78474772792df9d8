"""Anchors of VirtualTaobao under CIRS's leaving rule.

The published random policy draws vectors from [0, 1]^27, which lie close to each other, so its users leave after two
turns. Vectors drawn from the whole box [-1, 1]^27 were measured in NumPy alone.
"""

from __future__ import annotations

from functools import lru_cache, partial

import jax
import numpy as np
from _anchors import Anchor

from recjax import agents, envs, loop
from recjax.loop import Episodes
from recjax.types import Array, PyTree, Revealed


def _uniform(key: Array, users: Revealed, low: PyTree) -> Array:
    return jax.random.uniform(key, (users.observation.history.shape[0], 27), minval=low)


@lru_cache(maxsize=1)
def _followed(low: float, episodes: int, seed: int) -> Episodes:
    env = envs.virtual_taobao(faithful=True)
    agent = agents.oracle(_uniform, low)
    run = loop.episode_runner(env, agent, users=episodes, steps=50, reward="clicks=1")
    return run(jax.random.key(seed), agent.init(jax.random.key(seed + 1), env.spec, env.items))


def _random(low: float, quantity: str, episodes: int, seed: int) -> np.ndarray:
    return np.asarray(getattr(_followed(low, episodes, seed), quantity), float)


CIRS = "CIRS, published log"
"""Its errors are not told: here that of 100 episodes, and that of rounding."""

NUMPY = "rule and networks in NumPy"

ANCHORS = tuple(
    Anchor("virtual_taobao", setting, quantity, value, error, source, partial(_random, low, read), episodes)
    for setting, low, quantity, read, value, error, source, episodes in (
        ("random in [0, 1]", 0.0, "return", "reward", 0.12, 0.034, CIRS, 32_768),
        ("random in [0, 1]", 0.0, "return", "reward", 0.1188, 0.0024, NUMPY, 32_768),
        ("random in [0, 1]", 0.0, "length", "length", 2.0, 0.03, CIRS, 32_768),
        ("random in [-1, 1]", -1.0, "return", "reward", 5.172, 0.033, NUMPY, 32_768),
        ("random in [-1, 1]", -1.0, "length", "length", 29.88, 0.12, NUMPY, 32_768),
    )
)
