"""The simulator that needs no data."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recjax.envs import synthetic
from recjax.types import PAD_ID


@pytest.fixture(scope="module")
def arrivals():
    env = synthetic(num_items=400, history_length=6)
    keys = jax.random.split(jax.random.key(0), 3000)
    return env, jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, None)


def test_factors_have_the_declared_spread(arrivals):
    env, (_, users) = arrivals
    factors = env.params.factors
    inner = np.asarray(users.vector @ factors.vectors.T)
    assert inner.std() == pytest.approx(0.7, rel=0.05)
    assert float(factors.bias.mean()) == pytest.approx(-0.2, abs=0.15)
    assert float(factors.bias.std()) == pytest.approx(0.8, rel=0.15)
    assert float(users.bias.std()) == pytest.approx(0.75, rel=0.05)
    np.testing.assert_allclose(np.linalg.norm(factors.topics, axis=1), 1.0, rtol=1e-5)


def test_users_are_fresh_and_histories_of_every_length(arrivals):
    _, (observation, users) = arrivals
    assert (users.user == PAD_ID).all()
    assert len(np.unique(users.vector, axis=0)) == len(users.vector)
    lengths = (np.asarray(observation.history) != PAD_ID).sum(1)
    assert np.bincount(lengths, minlength=7).min() > 3000 / 7 * 0.75
    present = np.asarray(observation.history) != PAD_ID
    assert (np.diff(present.astype(int), axis=1) >= 0).all(), "padding is on the left"


def test_histories_reflect_popularity_and_taste(arrivals):
    env, (observation, users) = arrivals
    history = np.asarray(observation.history)
    row, slot = np.nonzero(history != PAD_ID)
    items = history[row, slot]
    popularity = np.asarray(env.items.popularity)
    assert popularity[items].mean() > 2 * popularity.mean()
    vectors = np.asarray(env.params.factors.vectors)
    chosen = (np.asarray(users.vector)[row] * vectors[items]).sum(1).mean()
    assert chosen > 0.15, "users had a say in their histories"


def test_new_items_are_unknown_to_the_log(arrivals):
    env, (observation, _) = arrivals
    new = np.flatnonzero(env.items.is_new)
    assert len(new) == 40
    assert (np.asarray(env.items.popularity)[new] == 0).all()
    assert not np.isin(observation.history, new).any()


def test_popularity_is_zipf():
    env = synthetic(num_items=200, popularity_exponent=1.5, new_share=0.0)
    popularity = np.sort(np.asarray(env.items.popularity))[::-1]
    np.testing.assert_array_equal(popularity, np.ceil(200 / np.arange(1, 201, dtype=np.float32) ** np.float32(1.5)))
    level = synthetic(num_items=200, popularity_exponent=0.0, new_share=0.0)
    assert len(np.unique(level.items.popularity)) == 1


def test_genres_tell_something_of_the_factors(arrivals):
    env, _ = arrivals
    multi_hot = np.asarray(env.items.content)
    assert set(multi_hot.sum(1)) <= {1.0, 2.0}
    topics = np.asarray(env.params.factors.topics)
    shared = multi_hot @ multi_hot.T > 0
    np.fill_diagonal(shared, False)
    cosine = topics @ topics.T
    assert cosine[shared].mean() > 0.15 > cosine[~shared].mean()


def test_a_large_catalogue_is_shared_by_all_users():
    env = synthetic(num_items=100_000, history_length=4)
    _, states = jax.eval_shape(
        jax.vmap(env.reset, in_axes=(0, None, None)), jax.random.split(jax.random.key(0), 64), env.params, None
    )
    per_user = sum(np.prod(leaf.shape[1:], initial=1) for leaf in jax.tree.leaves(states))
    assert per_user < 100


@pytest.mark.parametrize(
    "bad", [{"factors": 0}, {"genres": 0}, {"popularity_exponent": -1.0}, {"new_share": 1.0}, {"num_items": 3}]
)
def test_bad_input(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        synthetic(**bad)
