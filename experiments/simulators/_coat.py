"""Anchors of Coat: random policies under EasyRL4Rec's rule, and the bounds of the study of state encoders."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from _anchors import Anchor

from recjax import agents, envs, loop
from recjax.agents import Agent
from recjax.envs import Environment

EASY = "EasyRL4Rec's rule in NumPy"
EXACT = "exact, from the matrix"


def _episodes(env: Environment, agent: Agent, reward: str, quantity: str, episodes: int, seed: int) -> np.ndarray:
    run = loop.episode_runner(env, agent, users=episodes, steps=30, reward=reward)
    found = run(jax.random.key(seed), agent.init(jax.random.key(seed + 1), env.spec, env.items))
    return np.asarray(getattr(found, quantity), float)


def _random(mode: str, quantity: str, episodes: int, seed: int) -> np.ndarray:
    env = envs.coat(mode=mode, faithful=True)
    agent = agents.random(exclude_history=mode != "FreeB")
    return _episodes(env, agent, "rating=1", quantity, episodes, seed)


def _same_for_all(episodes: int, seed: int) -> np.ndarray:
    env = envs.coat()
    return _episodes(env, agents.oracle(env.oracles["same_for_all"].choose), "rating=1", "reward", episodes, seed)


def _clicks(policy: str, episodes: int, seed: int) -> np.ndarray:
    env = envs.coat_clicks()
    agent = agents.random() if policy == "random" else agents.oracle(env.oracles[policy].choose)
    return _episodes(env, agent, "click", "reward", episodes, seed)


def _bound(episodes: int, seed: int) -> np.ndarray:
    """30 times the best rating, of users as they arrive."""
    env = envs.coat()
    _, users = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(
        jax.random.split(jax.random.key(seed), episodes), env.params, None
    )
    return 30.0 * np.asarray(env.params.rewards).max(axis=1)[np.asarray(users.user)]


ANCHORS = (
    Anchor("coat", "FreeB, random", "return", 28.16, 0.28, EASY, partial(_random, "FreeB", "reward"), 32_768),
    Anchor("coat", "FreeB, random", "length", 12.6, 0.12, EASY, partial(_random, "FreeB", "length"), 32_768),
    Anchor("coat", "NX_0, random", "return", 31.1, 0.28, EASY, partial(_random, "NX_0", "reward"), 32_768),
    Anchor("coat", "one cycle for all", "return", 87.8552, 0.0, EXACT, _same_for_all, 32_768),
    Anchor("coat", "30 best ratings", "return", 100.655, 0.0, EXACT, _bound, 131_072),
    Anchor("coat_clicks", "random", "clicks", 0.453, 0.0, EXACT, partial(_clicks, "random"), 131_072),
    Anchor("coat_clicks", "fixed list", "clicks", 3.414, 0.0, EXACT, partial(_clicks, "same_for_all"), 32_768),
    Anchor("coat_clicks", "oracle", "clicks", 4.231, 0.0, EXACT, partial(_clicks, "myopic"), 32_768),
)
