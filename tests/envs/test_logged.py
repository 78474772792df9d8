"""The simulator of a log's users."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.envs import Preference, ResponseModel, fit_preference, logged
from recjax.envs.choice import dynamics
from recjax.types import PAD_ID, Behaviour


@pytest.fixture(scope="module")
def preference(dataset) -> Preference:
    return fit_preference(dataset, factors=3)[0]


@pytest.fixture(scope="module")
def arrivals(dataset, preference):
    env = logged(dataset, preference=preference, slate_size=3, history_length=4)
    keys = jax.random.split(jax.random.key(0), 4000)
    return env, jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, None)


def test_users_are_drawn_uniformly(dataset, arrivals):
    _, (_, users) = arrivals
    counts = np.bincount(users.user, minlength=dataset.num_users)
    expected = len(users.user) / dataset.num_users
    assert counts.min() > 0
    assert ((counts - expected) ** 2 / expected).sum() < 180  # chi-squared, 119 degrees: p < 3e-4


def test_histories_are_the_last_events_of_the_log(dataset, arrivals):
    _, (observation, users) = arrivals
    log = dataset.interactions
    for row in range(5):
        user = int(users.user[row])
        own = np.flatnonzero(log.user == user)
        last = own[np.argsort(log.time[own], kind="stable")][-4:]
        np.testing.assert_array_equal(observation.history[row], log.item[last])
        np.testing.assert_array_equal(observation.behaviour[row], int(Behaviour.RATING))
        assert float(observation.context[row, 0]) == user % 2


def test_policies_know_only_the_training_part(dataset, preference):
    log = dataset.interactions
    train = log.take((log.user == 0) & (log.item < 20))
    env = logged(dataset, preference=preference, train=train, slate_size=3, history_length=40)
    assert float(env.items.popularity.sum()) == len(train)
    history = np.asarray(env.params.population.observations.history)
    assert set(history[0].tolist()) - {PAD_ID} == set(train.item.tolist())
    assert (history[1:] == PAD_ID).all()


def test_preference_logits_are_the_fitted_ones(dataset, preference, arrivals):
    env, (_, users) = arrivals
    one = jax.tree.map(lambda leaf: leaf[0], users)
    slate = jnp.array([5, 0, 39])
    np.testing.assert_allclose(
        dynamics.preference_logits(one, slate, env.params.factors),
        preference.logits(jnp.full(3, one.user), slate),
        rtol=1e-5,
        atol=1e-6,
    )


def test_liked_items_are_clicked_more(arrivals):
    env, (_, users) = arrivals
    factors = env.params.factors
    scores = users.vector @ factors.vectors.T + factors.bias[None]
    best, worst = jnp.argsort(-scores, axis=1)[:, :3], jnp.argsort(scores, axis=1)[:, :3]
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None, None)))
    keys = jax.random.split(jax.random.key(1), len(best))
    clicks = [step(keys, users, slate, env.params, None).response["click"].sum(-1).mean() for slate in (best, worst)]
    assert clicks[0] > 2 * clicks[1]


def test_the_hidden_state_is_not_observed(arrivals):
    """Observations are a function of the log row alone: two users with one row look the same."""
    _, (observation, users) = arrivals
    same = np.flatnonzero(users.user == users.user[0])
    for leaf in jax.tree.leaves(observation):
        assert (np.asarray(leaf)[same] == np.asarray(leaf)[same[0]]).all()
    hidden = {"vector", "bias", "memory", "satisfaction", "steps"}
    assert not hidden & set(vars(observation))


def test_declared_values_reach_the_params(dataset, preference):
    env = logged(dataset, preference=preference, response_model=ResponseModel(boredom_weight=1.5))
    assert float(env.params.response_model.boredom_weight) == 1.5
    with pytest.raises(ValueError, match="conversion_rate is 2"):
        logged(dataset, preference=preference, response_model=ResponseModel(conversion_rate=2.0))


def test_a_preference_of_other_items_is_refused(dataset, preference):
    other = preference.replace(item_bias=jnp.zeros(7))
    with pytest.raises(ValueError, match="120 users and 7 items, but planted has 120 users and 40 items"):
        logged(dataset, preference=other)
