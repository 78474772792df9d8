"""RecSim's interest evolution against its definition in float64."""

from __future__ import annotations

import itertools
import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, loop
from recjax.envs.sims.documents import Documents, normal
from recjax.envs.sims.interest_evolution import Viewer
from recjax.types import PAD_ID, Revealed

FACTOR, USERS, CANDIDATES = 0.5, 4096, 5
MEANS = np.array([-3 + 3 * t / 13 for t in range(14)] + [3 * t / 5 for t in range(6)])
TOPIC = np.array([3, 19, 7, 3, 12])
QUALITY = np.array([-2.2, 3.1, -1.4, -2.3, -0.25])
INTERESTS = np.linspace(-0.9, 0.9, 20)
SLATE = [1, PAD_ID, 3]


def viewer(budget):
    documents = Documents(jnp.array(TOPIC, jnp.int32), jnp.float32(QUALITY))
    return Viewer(jnp.float32(INTERESTS), jnp.float32(budget), documents)


@pytest.fixture(scope="module", params=[False, True], ids=["corrected", "faithful"])
def faithful(request):
    return request.param


@pytest.fixture(scope="module")
def env(faithful):
    return envs.interest_evolution(
        num_candidates=CANDIDATES, budget=True, user_quality_factor=FACTOR, faithful=faithful
    )


@pytest.fixture(scope="module")
def answer(env):
    """Many answers of one user to the same slate."""
    keys = jax.random.split(jax.random.key(0), USERS)
    many = jax.jit(jax.vmap(env.step, in_axes=(0, None, None, None, None)))
    return lambda budget: many(keys, viewer(budget), jnp.array(SLATE), env.params, None)


def share_is(found, probability):
    """Within four standard errors."""
    assert abs(np.mean(found) - probability) <= 4 * np.sqrt(probability * (1 - probability) / len(found))


@pytest.mark.parametrize("budget", [100.0, 3.0, 0.4])
def test_a_step_by_hand(answer, faithful, budget):
    after = jax.tree.map(np.asarray, answer(budget))
    weights = np.array([INTERESTS[19] + 1, 0.0, INTERESTS[3] + 1])
    np.testing.assert_array_equal(after.response["quality"], np.broadcast_to(np.float32([3.1, 0, -2.3]), (USERS, 3)))
    assert not after.truncated.any()
    for slot, position in enumerate(SLATE):
        clicked = after.response["click"][:, slot] == 1
        share_is(clicked, weights[slot] / (weights.sum() + 2))
        if position == PAD_ID:
            continue
        topic, liking = TOPIC[position], INTERESTS[TOPIC[position]]
        watched = min(budget, 4.0)
        utility = QUALITY[position] + FACTOR * (liking + 1 if faithful else liking)
        left = budget - watched + 0.9 / 3.4 * watched * utility
        move = 0.3 * (1 - abs(liking)) * (1 - liking)
        assert set(after.response["click"][clicked].sum(axis=1)) == {1}
        np.testing.assert_allclose(after.response["watch_time"][clicked, slot], watched, rtol=1e-6)
        np.testing.assert_allclose(after.response["watch_time"][clicked].sum(axis=1), watched, rtol=1e-6)
        np.testing.assert_allclose(after.state.budget[clicked], left, rtol=1e-5)
        np.testing.assert_array_equal(after.terminated[clicked], left <= 0)
        change = after.state.interests[clicked] - INTERESTS
        np.testing.assert_allclose(np.delete(change, topic, axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(np.abs(change[:, topic]), move, rtol=1e-4)
        share_is(change[:, topic] > 0, (liking + 1) / 2)
    idle = after.response["click"].sum(axis=1) == 0
    np.testing.assert_allclose(after.state.budget[idle], budget - 0.5, atol=1e-6)
    np.testing.assert_allclose(after.state.interests[idle], np.broadcast_to(INTERESTS, (idle.sum(), 20)), rtol=1e-6)
    np.testing.assert_array_equal(after.terminated[idle], budget <= 0.5)


def test_documents_are_drawn_anew(answer):
    documents = jax.tree.map(np.asarray, answer(100.0).state.documents)
    assert documents.topic.shape == (USERS, CANDIDATES)
    count = np.bincount(documents.topic.ravel(), minlength=20)
    assert np.sum((count - count.mean()) ** 2 / count.mean()) < 45.3  # chi2 of 19 degrees of freedom, p = .0006
    noise = (documents.quality - MEANS[documents.topic]).ravel() / 0.1
    # Mean, spread and kurtosis of a normal variable, within four standard errors.
    for moment, value, error in ((1, 0, 1), (2, 1, np.sqrt(2)), (4, 3, np.sqrt(96))):
        assert abs(np.mean(noise**moment) - value) < 4 * error / np.sqrt(noise.size)
    # Topic and quality within it come from one number, and must not hang together.
    assert abs(np.corrcoef(noise, documents.topic.ravel())[0, 1]) < 4 / np.sqrt(noise.size)


def test_who_arrives(env):
    observation, user = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(
        jax.random.split(jax.random.key(1), 512), env.params, None
    )
    interests = np.asarray(user.interests)
    assert abs(interests.mean()) < 4 / np.sqrt(3 * interests.size)
    assert interests.min() < -0.99
    assert interests.max() > 0.99
    np.testing.assert_array_equal(user.budget, 200)
    np.testing.assert_array_equal(observation.context, np.column_stack([interests, np.ones(512)]))
    np.testing.assert_array_equal(observation.candidates.ids, user.documents.topic)
    assert observation.candidates.features is None
    assert (np.asarray(observation.history) == PAD_ID).all()


def test_the_budget_follows_from_what_is_observed():
    """From clicks, watch times and qualities of the log alone, so that a policy may know it."""
    env = envs.interest_evolution(budget=True)
    interaction = loop.Interaction(env, agents.random(), lambda response: response.signal("watch_time"))

    @jax.jit
    def run(key):
        keys = jax.random.split(key, 2)
        arrived = interaction.arrive(keys[0], env.params, None, 16)
        steps = jax.random.split(keys[1], 40), jax.random.split(keys[1], 40)
        visit = lambda carry, step, staying: (carry, (step, staying))  # noqa: E731
        state = agents.random().init(key, env.spec, env.items)
        return loop.follow(interaction, state, arrived, None, steps, visit, None, explore=True)[1]

    step, staying = jax.tree.map(np.asarray, run(jax.random.key(2)))
    spent = np.where(
        step.response["click"].any(axis=-1),
        np.sum(step.response["watch_time"] * (1 - 0.9 / 3.4 * step.response["quality"]), axis=-1),
        0.5,
    )
    left = 1 - np.cumsum(spent, axis=0) / 200
    np.testing.assert_allclose(step.next_observation.context[..., -1][staying], left[staying], atol=1e-5)
    assert np.ptp(left[-1]) > 0.1


def test_candidates_can_stay_the_same():
    env = envs.interest_evolution(num_candidates=4, resample=False, key=jax.random.key(5))
    reset = jax.jit(env.reset)
    observation, user = reset(jax.random.key(0), env.params, None)
    other, _ = reset(jax.random.key(1), env.params, None)
    after = jax.jit(env.step)(jax.random.key(2), user, jnp.array([0, 1, 2]), env.params, None)
    for seen in (other, after.observation):
        np.testing.assert_array_equal(seen.candidates.ids, observation.candidates.ids)
    np.testing.assert_array_equal(after.response["quality"], env.params.quality[:3])
    another = envs.interest_evolution(num_candidates=4, resample=False, key=jax.random.key(6))
    assert not np.array_equal(another.params.quality, env.params.quality)


@pytest.mark.parametrize("name", ["myopic", "look_ahead"])
def test_oracles_show_the_best_of_all_slates(env, faithful, name):
    price = 0.0 if name == "myopic" else 1.35
    users, slots = 8, 3
    observation, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(
        jax.random.split(jax.random.key(3), users), env.params, None
    )
    budget = np.linspace(1.0, 200.0, users)
    revealed = Revealed(observation, state.replace(budget=jnp.float32(budget)), env.params, None)
    choose = jax.jit(partial(env.oracles[name].choose, jax.random.key(0)))
    slates = np.asarray(choose(revealed, None if name == "myopic" else jnp.float32(price)))
    for row in range(users):
        topic = np.asarray(state.documents.topic[row])
        liking = np.asarray(state.interests[row], float)[topic]
        watched = min(budget[row], 4.0)
        value = watched - price * (watched - 0.9 / 3.4 * watched * (MEANS[topic] + FACTOR * (liking + faithful)))

        def worth(slate, liking=liking, value=value):
            weights = liking[slate] + 1
            return (weights @ value[slate] - 2 * price * 0.5) / (weights.sum() + 2)

        best = max(worth(list(slate)) for slate in itertools.combinations(range(CANDIDATES), slots))
        np.testing.assert_allclose(worth(slates[row]), best, rtol=1e-5, atol=1e-6)


def test_looking_ahead_pays():
    env = envs.interest_evolution()
    earned = {}
    for name, price in (("myopic", None), ("look_ahead", jnp.float32(1.35))):
        agent = agents.oracle(env.oracles[name].choose, price)
        run = loop.episode_runner(env, agent, users=128, steps=400, reward="watch_time")
        episodes = run(jax.random.key(4), agent.init(jax.random.key(5), env.spec, env.items))
        assert bool(episodes.ended.all())
        earned[name] = float(episodes.reward.mean())
    assert earned["look_ahead"] > 1.4 * earned["myopic"]


def test_another_choice_can_be_made():
    """A slot that is looked at is clicked, so it is the first that holds something."""
    env = envs.interest_evolution(
        num_candidates=CANDIDATES,
        choice=envs.proportional_cascade(attention=1.0, scaling=1e6, min_normalizer=-1.0),
    )
    after = jax.jit(env.step)(jax.random.key(1), viewer(9.0), jnp.array([PAD_ID, 4, 2]), env.params, None)
    np.testing.assert_array_equal(after.response["click"], [0, 1, 0])


def test_normal_numbers_are_those_of_the_inverse_distribution_function():
    uniform = np.float32((np.arange(20_000) + 0.5) / 20_000)
    expected = [statistics.NormalDist().inv_cdf(float(u)) for u in uniform]
    np.testing.assert_allclose(normal(jnp.array(uniform)), expected, atol=1e-4)
    ends = normal(jnp.array([0.0, 1.0 - 2.0**-24]))
    np.testing.assert_allclose(ends, [-5.2, 5.2], atol=0.05)
