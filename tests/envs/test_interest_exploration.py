"""RecSim's interest exploration against its definition in float64."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.sims.documents import Documents
from recjax.envs.sims.interest_exploration import Visitor
from recjax.types import PAD_ID, Revealed

USERS = 4096
TOPIC, QUALITY, AFFINITY = np.array([0, 1, 1, 0, 1]), np.array([2.2, 1.3, 1.1, 2.6, 1.4]), np.array([1.9, 1.2])
LOG_QUALITY, LOG_AFFINITY = np.array([0.8, 0.2]), np.array([[0.1, 0.7], [0.7, 0.1]])


@pytest.fixture(scope="module")
def env():
    return envs.interest_exploration(max_steps=3)


@pytest.fixture(scope="module")
def step(env):
    """Many answers of one user to the same slate."""
    keys = jax.random.split(jax.random.key(0), USERS)
    many = jax.jit(jax.vmap(env.step, in_axes=(0, None, None, None, None)))
    return lambda user, slate: jax.tree.map(np.asarray, many(keys, user, jnp.array(slate), env.params, None))


@pytest.fixture(scope="module")
def arrived(env):
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))
    return reset(jax.random.split(jax.random.key(1), USERS), env.params, None)


def visitor(steps=0):
    documents = Documents(jnp.array(TOPIC, jnp.int32), jnp.float32(QUALITY))
    return Visitor(jnp.float32(AFFINITY), jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0]), documents, jnp.int32(steps))


@pytest.mark.parametrize("slate", [[3, 4], [1, PAD_ID], [2, 1]])
def test_a_step_by_hand(step, slate):
    after = step(visitor(), slate)
    shown = np.array(slate) != PAD_ID
    weights = np.exp(AFFINITY[TOPIC[slate]] + QUALITY[slate]) * shown
    chances = weights / (weights.sum() + np.exp(5))
    error = np.sqrt(chances * (1 - chances) / USERS)
    assert (np.abs(after.response["click"].mean(axis=0) - chances) <= 4 * error).all()
    assert set(after.response["click"].sum(axis=1)) == {0, 1}
    np.testing.assert_array_equal(after.response["quality"], np.float32([QUALITY[slate] * shown] * USERS))
    impressions = np.array([2.0, 0.0]) + np.bincount(TOPIC[slate][shown], minlength=2)
    clicks = np.array([1.0, 0.0]) + after.response["click"] @ np.eye(2)[TOPIC[slate]]
    np.testing.assert_allclose(
        after.observation.context, np.log1p(np.column_stack([[impressions] * USERS, clicks])), rtol=1e-5
    )
    np.testing.assert_array_equal(after.state.affinity, np.float32([AFFINITY] * USERS))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_sessions_are_cut_and_nobody_leaves(step, steps):
    after = step(visitor(steps), [0, 1])
    assert (after.truncated == (steps == 2)).all()
    assert not after.terminated.any()


def same_distribution(found, mean, std):
    """Within four standard errors, of the mean and of the standard deviation of a normal variable."""
    error = std / np.sqrt(found.size)
    assert abs(found.mean() - mean) < 4 * error
    assert abs(found.std() - std) < 4 * error / np.sqrt(2)


def test_documents_are_drawn_anew(step):
    topic, quality = step(visitor(), [0, 1]).state.documents
    assert abs(topic.mean() - 0.8) < 4 * np.sqrt(0.16 / topic.size)
    for kind in (0, 1):
        same_distribution(np.log(quality[topic == kind]), LOG_QUALITY[kind], 0.1)


def test_who_arrives(arrived):
    observation, user = arrived
    affinity = np.log(np.asarray(user.affinity))
    # The types are six standard deviations apart.
    kind = (affinity[:, 0] > affinity[:, 1]).astype(int)
    assert abs(kind.mean() - 0.7) < 4 * np.sqrt(0.21 / USERS)
    for one, topic in itertools.product((0, 1), (0, 1)):
        same_distribution(affinity[kind == one, topic], LOG_AFFINITY[one, topic], 0.1)
    np.testing.assert_array_equal(observation.candidates.features[..., 0], user.documents.quality)
    assert not np.asarray(observation.context).any()


@pytest.mark.parametrize("name", ["myopic", "average"])
def test_oracles_show_the_best_of_all_slates(env, arrived, name):
    users = 16
    observation, state = jax.tree.map(lambda leaf: leaf[:users], arrived)
    slates = np.asarray(jax.jit(env.oracles[name].choose)(None, Revealed(observation, state, env.params, None), None))
    mean = np.array([0.3, 0.7]) @ np.exp(LOG_AFFINITY + 0.1**2 / 2)
    for row in range(users):
        topic, quality = (np.asarray(field[row]) for field in state.documents)
        scores = (np.asarray(state.affinity[row], float) if name == "myopic" else mean)[topic] + quality

        def worth(slate, scores=scores):
            return np.exp(scores[slate]).sum()

        best = max(worth(list(slate)) for slate in itertools.combinations(range(5), 2))
        np.testing.assert_allclose(worth(slates[row]), best, rtol=1e-5)


def test_candidates_can_stay_the_same():
    env = envs.interest_exploration(resample=False, key=jax.random.key(5))
    observation, user = jax.jit(env.reset)(jax.random.key(0), env.params, None)
    after = jax.jit(env.step)(jax.random.key(2), user, jnp.array([0, 1]), env.params, None)
    for seen in (observation, after.observation):
        np.testing.assert_array_equal(seen.candidates.features[:, 0], env.params.quality)


def test_an_empty_session_is_refused():
    with pytest.raises(ValueError, match="max_steps is 0"):
        envs.interest_exploration(max_steps=0)
