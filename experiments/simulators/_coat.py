"""Anchors of Coat: random policies under EasyRL4Rec's rule, and the bounds of the study of state encoders.

Errors of 0 are those of numbers that follow from a matrix without chance; ours still depend on who arrives.
"""

from __future__ import annotations

from functools import lru_cache, partial

import jax
import numpy as np
from _anchors import Anchor

from recjax import agents, envs, loop
from recjax.loop import Episodes

EASY = "EasyRL4Rec's rule in NumPy"
EXACT = "exact, from the matrix"


@lru_cache(maxsize=1)
def _followed(simulator: str, mode: str, policy: str, episodes: int, seed: int) -> Episodes:
    options = {"mode": mode, "faithful": policy == "random"} if simulator == "coat" else {}
    env = envs.environments.make(simulator, **options)
    agent = agents.oracle(env.oracles[policy].choose) if policy != "random" else None
    agent = agent or agents.random(exclude_history=mode != "FreeB")
    reward = "rating=1" if simulator == "coat" else "click"
    run = loop.episode_runner(env, agent, users=episodes, steps=30, reward=reward)
    return run(jax.random.key(seed), agent.init(jax.random.key(seed + 1), env.spec, env.items))


def _measured(simulator: str, mode: str, policy: str, quantity: str, episodes: int, seed: int) -> np.ndarray:
    return np.asarray(getattr(_followed(simulator, mode, policy, episodes, seed), quantity), float)


def _bound(episodes: int, seed: int) -> np.ndarray:
    """30 times the best rating, of users as they arrive."""
    env = envs.coat()
    _, users = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(
        jax.random.split(jax.random.key(seed), episodes), env.params, None
    )
    return 30.0 * np.asarray(env.params.rewards).max(axis=1)[np.asarray(users.user)]


ANCHORS = (
    *(
        Anchor(
            simulator,
            f"{mode}, {policy}".removeprefix(", "),
            quantity,
            value,
            error,
            EXACT if error == 0 else EASY,
            partial(_measured, simulator, mode, policy, "length" if quantity == "length" else "reward"),
            episodes,
        )
        for simulator, mode, policy, quantity, value, error, episodes in (
            ("coat", "FreeB", "random", "return", 28.16, 0.28, 32_768),
            ("coat", "FreeB", "random", "length", 12.6, 0.12, 32_768),
            ("coat", "NX_0", "random", "return", 31.1, 0.28, 32_768),
            ("coat", "FreeB", "same_for_all", "return", 87.8552, 0.0, 32_768),
            ("coat_clicks", "", "random", "clicks", 0.453, 0.0, 131_072),
            ("coat_clicks", "", "same_for_all", "clicks", 3.414, 0.0, 32_768),
            ("coat_clicks", "", "myopic", "clicks", 4.231, 0.0, 32_768),
        )
    ),
    Anchor("coat", "30 best ratings", "return", 100.655, 0.0, EXACT, _bound, 131_072),
)
