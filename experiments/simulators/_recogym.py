"""RecoGym against its original: clicks, recommendations and views of users from arrival to leaving.

The original was run with 400 users on each of 12 catalogues of 100 products; errors are those over catalogues. Here as
many catalogues are drawn as make theirs the smaller part of the error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from _anchors import Anchor

from recjax import envs
from recjax.prng import inlined
from recjax.types import PAD_ID, Array, PyTree, Revealed

PRODUCTS = 100
USERS_A_CATALOGUE = 256
STEPS = 800
"""Of a user; one in ten thousand is not gone by then."""
NEVER_SHOWN = 0.01 / (0.25 + 0.01)
"""Share of users who leave in their first organic phase, and do not arrive in ours."""


def _environment(catalogue: int) -> envs.Environment:
    # A history that holds all views of the first organic phase.
    return envs.recogym(num_items=PRODUCTS, history_length=100, faithful=True, key=jax.random.key(catalogue))


@cache
def _run() -> Callable[[Array, PyTree, Array], Array]:
    """``(key, params, is_greedy) -> f32[USERS_A_CATALOGUE, 3]``: clicks, recommendations and views of users."""
    env = _environment(0)

    @jax.jit
    def run(key: Array, params: PyTree, is_greedy: Array) -> Array:
        def visit(carry: tuple[PyTree, Array, Array], key: Array) -> tuple[tuple[PyTree, Array, Array], None]:
            users, here, counts = carry
            act_key, step_key = jax.random.split(key)
            best = env.oracles["myopic"].choose(act_key, Revealed(*users, params, None), None)
            slates = jnp.where(is_greedy, best, jax.random.randint(act_key, best.shape, 0, PRODUCTS))
            keys = jax.random.split(step_key, USERS_A_CATALOGUE)
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, users[1], slates, params, None)
            new = jnp.stack([after.response["click"][:, 0], jnp.ones(len(slates)), after.info["views"]], axis=1)
            counts = counts + jnp.where(here[:, None], new, 0.0)
            return ((after.observation, after.state), here & ~after.terminated, counts), None

        arrive_key, stay_key, step_key = jax.random.split(inlined(key), 3)
        of_each = jax.random.split(arrive_key, USERS_A_CATALOGUE)
        users = jax.vmap(env.reset, in_axes=(0, None, None))(of_each, params, None)
        views = jnp.sum(users[0].history != PAD_ID, axis=1).astype(jnp.float32)
        counts = jnp.stack([jnp.zeros_like(views), jnp.zeros_like(views), views], axis=1)
        here = ~jax.random.bernoulli(stay_key, NEVER_SHOWN, views.shape)
        return jax.lax.scan(visit, (users, here, counts), jax.random.split(step_key, STEPS))[0][2]

    return run


@cache
def _counts(is_greedy: bool, users: int, seed: int) -> np.ndarray:
    """``f64[U, 3]`` over as many catalogues as it takes."""
    catalogues = -(-users // USERS_A_CATALOGUE)
    keys = jax.random.split(jax.random.key(seed), catalogues)
    found = [_run()(keys[c], _environment(c).params, jnp.asarray(is_greedy)) for c in range(catalogues)]
    return np.asarray(jnp.concatenate(found), float)


def _rate(is_greedy: bool, users: int, seed: int) -> np.ndarray:
    """Clicks per hundred recommendations: numbers of users whose mean is the ratio, and their spread its error."""
    clicks, shown, _ = _counts(is_greedy, users, seed).T
    ratio = clicks.sum() / shown.sum()
    return 100 * (ratio + (clicks - ratio * shown) / shown.mean())


def _column(column: int, is_greedy: bool, users: int, seed: int) -> np.ndarray:
    return _counts(is_greedy, users, seed)[:, column]


def _anchor(is_greedy: bool, quantity: str, known: tuple[float, float], measure: Callable[..., np.ndarray]) -> Anchor:
    setting = f"{PRODUCTS} products, {'most clicked product' if is_greedy else 'random products'}"
    source = "original code, 12 catalogues of 400 users"
    return Anchor("recogym", setting, quantity, *known, source, partial(measure, is_greedy), 40 * USERS_A_CATALOGUE)


ANCHORS: tuple[Anchor, ...] = (
    _anchor(False, "clicks in % of recommendations", (1.073, 0.015), _rate),
    _anchor(False, "recommendations of a user", (79.8, 1.0), partial(_column, 1)),
    _anchor(False, "views of a user", (22.2, 0.22), partial(_column, 2)),
    _anchor(True, "clicks in % of recommendations", (2.542, 0.036), _rate),
    _anchor(True, "clicks of a user", (1.966, 0.040), partial(_column, 0)),
    _anchor(True, "recommendations of a user", (77.3, 0.94), partial(_column, 1)),
)
# One catalogue differs from another by .05 in a hundred.
ANCHORS += (ANCHORS[0]._replace(value=1.02, error=0.05, source="original code, its catalogue of seed 42"),)
