"""SARDINE against its original: clicks of an episode under its random policy and its short-term oracle.

Catalogues of a thousand items are drawn anew every few episodes, since the one that comes with the original is one of
many: under the oracle, means of catalogues differ by less than two clicks. Ten items that are reranked make a greater
difference, so they are those of the original.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from _anchors import Anchor

from recjax import envs
from recjax.envs.sims.sardine import SETTINGS
from recjax.prng import inlined
from recjax.types import Array, PyTree, Revealed

EPISODES_A_CATALOGUE = 32

RERANKED = (
    {0: 0.28593, 1: 0.83432, 7: 0.47134},
    {4: 0.64096, 5: 0.55119, 9: 0.53420},
    {1: 0.66501, 5: 0.68277, 9: 0.30263},
    {3: 0.49334, 6: 0.56559, 8: 0.66085},
    {2: 0.29056, 9: 0.95686},
    {0: 0.12593, 8: 0.99204},
    {1: 0.66805, 3: 0.74412},
    {2: 0.77490, 3: 0.55867, 7: 0.29566},
    {5: 0.39698, 6: 0.91783},
    {2: 0.71642, 3: 0.19300, 9: 0.67044},
)
"""Topics of the ten items of the original."""


def _environment(name: str, catalogue: int) -> envs.Environment:
    reranked = np.array([[item.get(topic, 0.0) for topic in range(10)] for item in RERANKED])
    own = {"item_vectors": reranked} if name.startswith("SlateRerank") else {"key": jax.random.key(catalogue)}
    return envs.sardine(name, faithful=True, **own)


@cache
def _run(name: str) -> Callable[[Array, PyTree, bool], Array]:
    """``(key, params, is_greedy) -> clicks of episodes``; both policies are in one program."""
    env, setting = _environment(name, 0), SETTINGS[name]
    shape = EPISODES_A_CATALOGUE, setting.slate_size

    @jax.jit
    def run(key: Array, params: PyTree, is_greedy: Array) -> Array:
        def visit(users: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], Array]:
            act_key, step_key = jax.random.split(key)
            best = env.oracles["myopic"].choose(act_key, Revealed(*users, params, None), None)
            # As the random policy of the original, which may show an item twice.
            slates = jnp.where(is_greedy, best, jax.random.randint(act_key, shape, 0, setting.num_items))
            keys = jax.random.split(step_key, shape[0])
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, users[1], slates, params, None)
            return (after.observation, after.state), jnp.sum(after.response["click"], axis=1)

        arrive_key, step_key = jax.random.split(inlined(key))
        users = jax.vmap(env.reset, in_axes=(0, None, None))(jax.random.split(arrive_key, shape[0]), params, None)
        keys = jax.random.split(step_key, setting.episode_length)
        return jnp.sum(jax.lax.scan(visit, users, keys)[1], axis=0)

    return run


def _clicks(name: str, is_greedy: bool, episodes: int, seed: int) -> np.ndarray:
    catalogues = -(-episodes // EPISODES_A_CATALOGUE)
    keys = jax.random.split(jax.random.key(seed), catalogues)
    found = [_run(name)(keys[c], _environment(name, c).params, jnp.asarray(is_greedy)) for c in range(catalogues)]
    return np.asarray(jnp.concatenate(found), float)


def _anchors(name: str, measured: int, random: tuple[float, float], greedy: tuple[float, float]) -> list[Anchor]:
    quantity, source = "clicks of an episode", f"original code, {measured:,} episodes"
    episodes = max(2048, 2 * measured)
    return [
        Anchor("sardine", f"{name}, {policy}", quantity, *known, source, partial(_clicks, name, is_greedy), episodes)
        for policy, is_greedy, known in (("random slates", False, random), ("short-term oracle", True, greedy))
    ]


ANCHORS: tuple[Anchor, ...] = (
    # Not one of 300 episodes of the original missed a click, so the error of 100 is taken to be below that of one miss.
    *_anchors("SingleItem-Static-v0", 300, (9.07, 0.19), (100.0, 0.0033)),
    *_anchors("SlateTopK-Bored-v0", 300, (43.1, 0.44), (142.4, 2.1)),
    *_anchors("SlateTopK-BoredInf-v0", 300, (41.2, 0.49), (145.6, 2.1)),
    *_anchors("SlateTopK-Uncertain-v0", 600, (70.13, 0.33), (137.4, 1.0)),
    *_anchors("SlateRerank-Bored-v0", 4000, (12.729, 0.053), (13.975, 0.057)),
)
