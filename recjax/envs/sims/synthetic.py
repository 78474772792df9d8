"""A simulator that needs no data: random factors, skewed popularity, users without end."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.envs.base import Environment, register
from recjax.envs.choice import dynamics
from recjax.envs.choice.response_model import ResponseModel
from recjax.envs.sims.population import Params, environment
from recjax.types import PAD_ID, Array, Behaviour, Feature, Items, Observation, Spec

LIKE_LOGIT_MEAN, ITEM_BIAS_SCALE, USER_BIAS_SCALE, TASTE_SCALE = -0.2, 0.8, 0.75, 0.7
"""Logits. What :func:`recjax.envs.fit_preference` finds in MovieLens-100K: mean item, spread of items and
users, and the spread over items and users of ``<p_u, q_i>``."""

CANDIDATES = 4
"""Popular items that a user chose among for each entry of the history they arrive with."""


@struct.dataclass
class Population:
    """``f32[N]`` cumulative popularity, up to 1: where arriving users' histories come from."""

    cumulative_popularity: Array


@register("synthetic")
def synthetic(
    *,
    num_items: int = 1000,
    slate_size: int = 5,
    history_length: int = 20,
    factors: int = 8,
    genres: int = 16,
    popularity_exponent: float = 1.0,
    new_share: float = 0.1,
    response_model: ResponseModel | None = None,
    key: Array | None = None,
) -> Environment:
    """Users with random tastes over a random catalogue of genres.

    Each genre has a random direction; an item belongs to one or two genres and its factors are
    their mean plus noise of the same size, so genres tell a policy something but not all. An
    arriving user has factors drawn afresh from a standard normal, and a history of up to
    ``history_length`` clicks, each the user's own choice among a few items drawn by popularity.
    Better-liked items are more popular, with Zipf-distributed counts; new items have popularity 0
    and appear in no history.

    Args:
      num_items: items in the catalogue.
      slate_size: slots of a slate.
      history_length: positions of a history.
      factors: width of tastes.
      genres: columns of the feature "genres".
      popularity_exponent: exponent of Zipf's law; 0 is uniform.
      new_share: share of items that are new, in [0, 1).
      response_model: declared parameters of the response; the defaults of ``ResponseModel`` if None.
      key: PRNG key of the catalogue; ``jax.random.key(0)`` by default.

    Returns:
      The environment.

    Raises:
      ValueError: an argument is out of range.

    >>> env = synthetic(num_items=100, slate_size=3)
    >>> observation, state = jax.jit(env.reset)(jax.random.key(1), env.params, None)
    >>> after = jax.jit(env.step)(jax.random.key(2), state, jnp.array([4, 8, 15]), env.params, None)
    >>> after.response["click"].shape
    (3,)
    """
    spec = Spec(num_items, slate_size, history_length, signals=dynamics.SIGNALS)
    for name, value, fine in (
        ("factors", factors, factors >= 1),
        ("genres", genres, genres >= 1),
        ("popularity_exponent", popularity_exponent, popularity_exponent >= 0),
        ("new_share", new_share, 0 <= new_share < 1),
    ):
        if not fine:
            raise ValueError(
                f"synthetic got {name}={value}; it needs factors >= 1, genres >= 1, popularity_exponent >= 0"
                " and new_share in [0, 1)."
            )
    items, vectors, bias = _catalogue(
        jax.random.key(0) if key is None else key,
        num_items=num_items,
        factors=factors,
        genres=genres,
        num_new=round(new_share * num_items),
        popularity_exponent=popularity_exponent,
    )
    cumulative = np.cumsum(np.asarray(items.popularity, np.float64))
    return environment(
        spec,
        items,
        ResponseModel() if response_model is None else response_model,
        vectors,
        bias,
        Population(jnp.asarray(cumulative / cumulative[-1], jnp.float32)),
        partial(_draw, history_length=history_length),
    )


def _catalogue(
    key: Array, *, num_items: int, factors: int, genres: int, num_new: int, popularity_exponent: float
) -> tuple[Items, Array, Array]:
    """What the platform knows of random items, their factors ``f32[N, T]`` and their biases ``f32[N]``."""
    # Built once, so on the host: there is no program to compile for each size of catalogue.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = np.arange(num_items)
    multi_hot = np.zeros((num_items, genres))
    multi_hot[rows, rng.integers(genres, size=num_items)] = 1.0
    multi_hot[rows, rng.integers(genres, size=num_items)] = 1.0
    mean = multi_hot @ rng.normal(size=(genres, factors)) / multi_hot.sum(axis=1, keepdims=True)
    vectors = mean + mean.std() * rng.normal(size=mean.shape)
    vectors *= TASTE_SCALE / np.sqrt(np.mean(np.sum(vectors**2, axis=1)))
    bias = ITEM_BIAS_SCALE * rng.normal(size=num_items)

    is_new = rng.permutation(num_items) < num_new
    appeal = np.where(is_new, -np.inf, bias + ITEM_BIAS_SCALE * rng.normal(size=num_items))
    rank = np.empty(num_items)
    rank[np.argsort(-appeal, kind="stable")] = rows + 1
    popularity = np.where(is_new, 0.0, np.ceil(num_items / rank**popularity_exponent))
    items = Items(
        popularity=jnp.asarray(popularity, jnp.float32),
        is_new=jnp.asarray(is_new),
        features={"genres": Feature(jnp.asarray(multi_hot, jnp.float32), "multi_hot")},
    )
    return items, jnp.asarray(vectors, jnp.float32), jnp.asarray(LIKE_LOGIT_MEAN + bias, jnp.float32)


def _draw(key: Array, params: Params, *, history_length: int) -> tuple[Array, Array, Array, Observation]:
    taste_key, history_key, length_key = jax.random.split(key, 3)
    factors = params.factors
    taste = jax.random.normal(taste_key, (factors.vectors.shape[1] + 1,))
    vector, bias = taste[:-1], USER_BIAS_SCALE * taste[-1]

    uniform = jax.random.uniform(history_key, (history_length, CANDIDATES + 1))
    candidates = jnp.searchsorted(params.population.cumulative_popularity, uniform[:, :-1], side="right")
    logits = factors.vectors[candidates] @ vector + factors.bias[candidates]
    choice = dynamics.pick(logits, uniform[:, -1])
    items = jnp.take_along_axis(candidates, choice[:, None], axis=1)[:, 0].astype(jnp.int32)
    length = jnp.floor((history_length + 1) * jax.random.uniform(length_key))
    present = jnp.arange(history_length) >= history_length - length
    observation = Observation(
        history=jnp.where(present, items, PAD_ID),
        behaviour=jnp.where(present, int(Behaviour.CLICK), PAD_ID).astype(jnp.int32),
    )
    return jnp.asarray(PAD_ID, jnp.int32), vector, bias, observation
