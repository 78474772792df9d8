"""RecSim's long-term satisfaction against its definition in float64, and its optimum against all sequences."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, loop
from recjax.envs.sims.long_term_satisfaction import Member
from recjax.types import PAD_ID, Revealed

USERS, SENSITIVITY, EXPOSURE = 4096, 0.4, -0.8
CLICKBAIT = np.array([0.05, 0.9, 0.35, 0.62])


def member(left=7):
    consumed, clickbait = jnp.float32(0.3), jnp.float32(CLICKBAIT)
    return Member(jnp.float32(EXPOSURE), consumed, jnp.int32(left), clickbait)


def make(**options):
    return envs.long_term_satisfaction(sensitivity=SENSITIVITY, num_candidates=4, slate_size=2, steps=10, **options)


@pytest.fixture(scope="module", params=[False, True], ids=["corrected", "faithful"])
def faithful(request):
    return request.param


@pytest.fixture(scope="module")
def env(faithful):
    return make(exposure=True, faithful=faithful)


@pytest.fixture(scope="module")
def step(env):
    """Many answers of one user to the same slate."""
    keys = jax.random.split(jax.random.key(0), USERS)
    many = jax.jit(jax.vmap(env.step, in_axes=(0, None, None, None, None)))
    return lambda user, slate: jax.tree.map(np.asarray, many(keys, user, jnp.array(slate), env.params, None))


def same_distribution(found, mean, std):
    """Within four standard errors, of the mean and of the standard deviation of a normal variable."""
    error = std / np.sqrt(found.size)
    assert abs(found.mean() - mean) < 4 * error
    assert abs(found.std() - std) < 4 * error / np.sqrt(2)


@pytest.mark.parametrize("slate", [[1, 0], [PAD_ID, 2]])
def test_a_step_by_hand(step, faithful, slate):
    after = step(member(), slate)
    slot = 0 if slate[0] != PAD_ID else 1
    bait = CLICKBAIT[slate[slot]]
    np.testing.assert_array_equal(after.response["click"], [np.arange(2) == slot] * USERS)
    assert not after.response["engagement"][:, 1 - slot].any()
    engagement = after.response["engagement"][:, slot]
    satisfaction = 1 / (1 + np.exp(-SENSITIVITY * EXPOSURE))
    same_distribution(np.log(engagement), satisfaction * (5 * bait + 4 * (1 - bait)), 1.0)
    same_distribution(after.state.exposure, 0.7 * EXPOSURE - 2 * (bait - 0.5), 0.05)
    known = 0.7 * 0.3 - 2 * (bait - 0.5)
    assert engagement.max() > 100
    seen = np.minimum(engagement, 100) if faithful else np.log(1 + engagement)
    np.testing.assert_allclose(after.observation.context[:, 0], seen, rtol=1e-5)
    np.testing.assert_allclose(after.observation.context[:, 1:], [[known, 0.6]] * USERS, rtol=1e-5)
    np.testing.assert_allclose(after.info["satisfaction"], 1 / (1 + np.exp(-0.4 * after.state.exposure)), rtol=1e-5)


def test_an_empty_slate_passes_time(step):
    after = step(member(), [PAD_ID, 9])
    assert not after.response["click"].any()
    assert not after.response["engagement"].any()
    assert (after.state.left == 6).all()
    same_distribution(after.state.exposure, 0.7 * EXPOSURE, 0.05)


@pytest.mark.parametrize("left", [1, 2])
def test_users_leave_when_their_slates_are_used_up(step, left):
    after = step(member(left), [0, 1])
    assert (after.terminated == (left == 1)).all()
    assert not after.truncated.any()


def test_documents_are_drawn_anew_and_known_by_grade(step):
    after = step(member(), [0, 1])
    drawn = after.state.clickbait
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * drawn.size)
    assert abs((drawn**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / drawn.size)
    np.testing.assert_array_equal(after.observation.candidates.features[..., 0], drawn)
    np.testing.assert_array_equal(after.observation.candidates.ids, np.floor(drawn * 10))


def test_who_arrives(env):
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))
    observation, user = reset(jax.random.split(jax.random.key(1), USERS), env.params, None)
    share = np.asarray(user.exposure) * 0.3 + 0.5
    assert -1e-6 <= share.min() < 0.01
    assert 0.99 < share.max() <= 1
    assert abs(share.mean() - 0.5) < 4 / np.sqrt(12 * USERS)
    np.testing.assert_array_equal(observation.context, [[0.0, 0.0, 1.0]] * USERS)


def test_clickbait_pleases_where_the_documentation_is_taken_at_its_word():
    env = make(clickbait_pleases=True, noise=0.0)
    after = jax.jit(env.step)(jax.random.key(0), member(), jnp.array([1, 0]), env.params, None)
    np.testing.assert_allclose(after.state.exposure, 0.7 * EXPOSURE + 2 * (0.9 - 0.5), rtol=1e-5)


def expected_engagement(exposure, choices, sensitivity):
    """Of a sequence of clickbait scores, without noise in exposure."""
    total = 0.0
    for bait in choices:
        total += np.exp((4 + bait) / (1 + np.exp(-sensitivity * exposure)) + 0.5)
        exposure = 0.7 * exposure - 2 * (bait - 0.5)
    return total


def chooser(env, name):
    """``(exposures [U], slates left, clickbait [U, M]) -> what the oracle shows first, [U]``."""

    @jax.jit
    def choose(exposure, left, clickbait):
        users = Member(exposure, exposure, jnp.broadcast_to(left, exposure.shape), clickbait)
        slate = env.oracles[name].choose(None, Revealed(None, users, env.params, None), None)
        return jnp.take_along_axis(clickbait, slate, axis=1)[:, 0]

    return lambda exposure, left, clickbait: np.asarray(
        choose(jnp.float32(exposure), jnp.int32(left), jnp.float32(clickbait)), float
    )


@pytest.mark.parametrize("sensitivity", [0.01, 0.1, 0.2])
def test_the_plan_is_the_best_of_all_sequences(sensitivity):
    """Of all 2**8 sequences of two documents, one of them clickbait."""
    steps, exposure, both = 8, np.linspace(-1.6, 1.6, 9), (0.0, 1.0)
    env = envs.long_term_satisfaction(sensitivity=sensitivity, num_candidates=2, steps=steps, noise=0.0, clickbait=both)
    worth = np.array(
        [
            [expected_engagement(x, found, sensitivity) for found in itertools.product(both, repeat=steps)]
            for x in exposure
        ]
    )
    best = {"look_ahead": worth.max(axis=1), "myopic": worth[:, -1], "kale": worth[:, 0]}
    for name in env.oracles:
        choose, here, found = chooser(env, name), exposure, np.zeros(9)
        for left in range(steps, 0, -1):
            shown = choose(here, left, np.broadcast_to(both, (9, 2)))
            found += [expected_engagement(x, [bait], sensitivity) for x, bait in zip(here, shown, strict=True)]
            here = 0.7 * here - 2 * (shown - 0.5)
        np.testing.assert_allclose(found, best[name], rtol=1e-4)
    assert np.allclose(best["look_ahead"], best["myopic"]) == (sensitivity == 0.01)


def test_the_plan_knows_that_candidates_will_be_drawn_anew():
    """With two slates left the last one shows the most clickbait of four, whose density is ``4 c^3``."""
    env, rng = make(noise=0.0), np.random.default_rng(0)
    exposure, clickbait = rng.uniform(-3, 3, 200), rng.uniform(size=(200, 4))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    later = (nodes + 1) / 2

    def worth(x, bait):
        after = 0.7 * x - 2 * (bait - 0.5)
        last = np.exp((4 + later) / (1 + np.exp(-SENSITIVITY * after)) + 0.5)
        return expected_engagement(x, [bait], SENSITIVITY) + weights / 2 @ (4 * later**3 * last)

    shown = chooser(env, "look_ahead")(exposure, 2, clickbait)
    found = np.array([worth(x, bait) for x, bait in zip(exposure, shown, strict=True)])
    best = np.array([max(worth(x, bait) for bait in row) for x, row in zip(exposure, clickbait, strict=True)])
    np.testing.assert_allclose(found, best, rtol=1e-3)
    assert 0 < np.mean(shown < clickbait.max(axis=1) - 1e-6) < 1


def test_looking_ahead_pays_where_users_are_sensitive():
    env = envs.environments.make("long_term_satisfaction_hard")
    earned = {}
    for name in ("myopic", "look_ahead"):
        agent = agents.oracle(env.oracles[name].choose)
        run = loop.episode_runner(env, agent, users=256, steps=60, reward="engagement=1")
        episodes = run(jax.random.key(4), agent.init(jax.random.key(5), env.spec, env.items))
        assert bool(episodes.ended.all())
        earned[name] = float(episodes.reward.mean())
    assert earned["look_ahead"] > 1.6 * earned["myopic"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clickbait": (0.1, 0.2)}, r"clickbait is \(0\.1, 0\.2\); it must be 4 numbers"),
        ({"clickbait": (0.1, 0.2, 0.3, 1.5)}, "it must be 4 numbers in"),
        ({"noise": -1.0}, r"noise -1\.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
