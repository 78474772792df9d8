"""Matrix environments against sessions written down from the definition, and Coat's numbers where its files are."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data, envs
from recjax.types import PAD_ID, Behaviour, Revealed

USERS, ITEMS, STEPS = 5, 9, 11
RATINGS = np.random.default_rng(0).integers(1, 6, (USERS, ITEMS)).astype(np.float32)
CATEGORIES = (np.random.default_rng(1).random((ITEMS, 4)) < 0.4).astype(np.float32)
POINTS = np.random.default_rng(2).integers(0, 4, (2, ITEMS)).astype(np.float32)
FEATURES = np.random.default_rng(3).normal(size=(USERS, 2)).astype(np.float32)


def remembered(shown, window, faithful):
    """The last items of a session as a Python slice of the list, as it should be or as the original takes it."""
    now = len(shown)
    return shown[now - window : now] if faithful else shown[max(now - window, 0) :]


def too_close(window, faithful, item, shown):
    point = POINTS.astype(float)
    return any(np.linalg.norm(point[:, item] - point[:, x]) < 2.0 for x in remembered(shown, window, faithful))


def too_often(window, faithful, item, shown):
    counts = sum((CATEGORIES[x] for x in remembered(shown, window, faithful)), np.zeros(4))
    return any(counts[c] > 1 for c in np.flatnonzero(CATEGORIES[item]))


def session(user, slates, puts_off, *, repeats, max_steps):
    """Of each slate: ratings, clicks, whether the user left or was cut off, and all that was shown until then."""
    shown, earned, rows = [], [], []
    for number, slate in enumerate(slates):
        there = [0 <= item < ITEMS for item in slate]
        new = [repeats or item not in shown for item in slate]
        rating = [RATINGS[user, i] if t and n else 0.0 for i, t, n in zip(slate, there, new, strict=True)]
        left = any(t and puts_off(i, shown) for i, t in zip(slate, there, strict=True))
        shown = shown + [int(i) for i, t in zip(slate, there, strict=True) if t]
        earned = earned + [r for r, t in zip(rating, there, strict=True) if t]
        click = [r >= 4 for r in rating]
        rows.append((rating, click, left, number + 1 >= max_steps and not left, list(shown), list(earned)))
    return rows


def padded(values, length, pad):
    return [pad] * max(length - len(values), 0) + list(values)[max(len(values) - length, 0) :]


def played(env, slates):
    """The users, and every transition of sessions that are shown ``slates: [U, STEPS, K]``, leaving or not."""

    @jax.jit
    def run(key, slates):
        def of_one(key, slates):
            observation, user = env.reset(key, env.params, None)

            def step(user, slate):
                after = env.step(key, user, slate, env.params, None)
                return after.state, after

            return observation, user, jax.lax.scan(step, user, slates)[1]

        return jax.vmap(of_one)(jax.random.split(key, slates.shape[0]), slates)

    return run(jax.random.key(0), jnp.asarray(slates, jnp.int32))


RULES = {
    "nobody leaves": (None, lambda item, shown: False),
    "close": (envs.too_close(envs.distances(POINTS), threshold=2.0, window=5), partial(too_close, 5, False)),
    "close, faithful": (
        envs.too_close(envs.distances(POINTS), threshold=2.0, window=5, faithful=True),
        partial(too_close, 5, True),
    ),
    "often": (envs.too_often(CATEGORIES, threshold=1, window=4), partial(too_often, 4, False)),
    "often, faithful": (envs.too_often(CATEGORIES, threshold=1, window=4, faithful=True), partial(too_often, 4, True)),
}


@pytest.mark.parametrize(
    ("rule", "slots", "repeats", "ratings", "length"),
    [
        ("nobody leaves", 1, False, False, None),
        ("close", 1, True, True, None),
        ("close, faithful", 1, False, True, 4),
        ("often", 3, True, False, 2),
        ("often, faithful", 3, False, True, None),
    ],
)
def test_sessions_are_those_of_the_definition(rule, slots, repeats, ratings, length):
    leaving, puts_off = RULES[rule]
    env = envs.matrix(
        RATINGS,
        click_from=4,
        leaving=leaving,
        repeats=repeats,
        max_steps=STEPS - 2,
        slate_size=slots,
        history_length=length,
        ratings=ratings,
        context=FEATURES,
    )
    length = (STEPS - 2) * slots if length is None else length
    # Ids -1 and ITEMS are empty slots.
    slates = np.random.default_rng(4).integers(-1, ITEMS + 1, (24, STEPS, slots))
    arrived, users, found = jax.tree.map(np.asarray, played(env, slates))
    assert (arrived.history == PAD_ID).all()
    assert set(users.user) == set(range(USERS))
    left_at_all = 0
    for row, slate in enumerate(slates):
        rows = session(users.user[row], slate.tolist(), puts_off, repeats=repeats, max_steps=STEPS - 2)
        for step, (rating, click, left, cut, shown, earned) in enumerate(rows):
            at = jax.tree.map(lambda x, row=row, step=step: x[row, step], found)
            assert set(at.response) == ({"rating", "click"} if ratings else {"click"})
            np.testing.assert_array_equal(at.response["click"], click)
            if ratings:
                np.testing.assert_array_equal(at.response["rating"], rating)
            assert (at.terminated, at.truncated) == (left, cut)
            assert at.observation.history.tolist() == padded(shown, length, PAD_ID)
            behaviour = [int(Behaviour.CLICK if r >= 4 else Behaviour.VIEW) for r in earned]
            assert at.observation.behaviour.tolist() == padded(behaviour, length, PAD_ID)
            context = [*FEATURES[users.user[row]], *(padded(earned, length, 0.0) if ratings else [])]
            np.testing.assert_array_equal(at.observation.context, np.float32(context))
            left_at_all += left
    assert (left_at_all > 0) == (leaving is not None)


def test_original_forgets_before_its_window_is_full():
    """After n items, the window of 7 holds the last 0, 1, 2, 3, 3, 2, 1 of them, and 7 from then on."""
    rule = envs.too_close(1.0 - np.eye(10), threshold=0.5, window=7, faithful=True)
    for shown, held in zip(range(10), (0, 1, 2, 3, 3, 2, 1, 7, 7, 7), strict=True):
        previous = jnp.asarray(padded(range(shown), 7, PAD_ID))
        put_off = np.flatnonzero(rule.puts_off(jnp.arange(10), previous))
        assert put_off.tolist() == list(range(shown - held, shown))


def test_distance_of_the_threshold_keeps_and_one_category_too_many_drives_away():
    close = envs.too_close([[0.0, 6.0], [6.0, 0.0]], threshold=6.0, window=2)
    assert close.puts_off(jnp.array([0, 1]), jnp.array([PAD_ID, 0])).tolist() == [True, False]
    often = envs.too_often([[1, 0], [1, 1], [0, 1]], threshold=1, window=3)
    assert often.puts_off(jnp.arange(3), jnp.array([0, 2, 1])).tolist() == [True, True, True]
    assert often.puts_off(jnp.arange(3), jnp.array([PAD_ID, 0, 1])).tolist() == [True, True, False]


def test_users_who_are_trained_on_predictions_leave_as_the_true_ones_do():
    slates = np.random.default_rng(5).integers(0, ITEMS, (24, STEPS, 1))
    predicted = RATINGS - RATINGS.min() + 0.5
    true, trained = (
        played(envs.coat(RATINGS, mode="NX_0", rewards=rewards), slates)[2] for rewards in (None, predicted)
    )
    np.testing.assert_array_equal(true.terminated, trained.terminated)
    seen = true.response["rating"] > 0
    np.testing.assert_array_equal(trained.response["rating"], np.where(seen, true.response["rating"] - 0.5, 0.0))


def test_modes_of_coat():
    free, none, ten = (envs.coat(RATINGS, mode=mode) for mode in ("FreeB", "NX_0", "NX_10"))
    slates = np.zeros((2, 30, 1))
    steps = {name: played(env, slates)[2] for name, env in (("free", free), ("none", none), ("ten", ten))}
    first = np.asarray(steps["free"].response["rating"][:, :1])
    assert (np.asarray(steps["free"].response["rating"]) == first).all()
    for name in ("none", "ten"):
        assert (np.asarray(steps[name].response["rating"]) == np.where(np.arange(30)[None, :, None], 0, first)).all()
    for name, leaves in (("free", True), ("none", True), ("ten", False)):
        assert np.asarray(steps[name].terminated).tolist() == [[False] + [leaves] * 29] * 2
    assert np.asarray(steps["ten"].truncated).tolist() == [[step >= 9 for step in range(30)]] * 2


# Oracles.


def revealed(env, shown, user, step):
    observation, state = env.reset(jax.random.key(0), env.params, None)
    state = state.replace(
        user=jnp.int32(user), shown=jnp.asarray(padded(shown, len(state.shown), PAD_ID)), steps=jnp.int32(step)
    )
    return Revealed(*jax.tree.map(lambda x: x[None], (observation, state)), env.params, None)


def crowding(rule, worth):
    """What the others are worth that each item excludes: those near it, or those of its categories, each once."""
    if rule == "close":
        near = [[too_close(1, False, i, [j]) and i != j for j in range(ITEMS)] for i in range(ITEMS)]
    else:
        near = [[(CATEGORIES[i] * CATEGORIES[j]).sum() * (i != j) for j in range(ITEMS)] for i in range(ITEMS)]
    return np.array(near, float) @ worth


@pytest.mark.parametrize("rule", ["close", "often"])
@pytest.mark.parametrize("repeats", [True, False])
def test_oracles_choose_by_their_definition(rule, repeats):
    leaving, puts_off = RULES[rule]
    env = envs.matrix(RATINGS, click_from=4, leaving=leaving, repeats=repeats, max_steps=6, slate_size=2)
    chosen = {name: jax.jit(oracle.choose) for name, oracle in env.oracles.items()}
    for user, step, shown in [(0, 0, []), (1, 2, [3, 1]), (2, 3, [8, 2, 5]), (3, 4, [0, 4, 6, 7]), (4, 5, [1, 3, 5])]:
        users = revealed(env, shown, user, step)
        own, mean = RATINGS[user].astype(float), RATINGS.astype(float).mean(axis=0)
        worth = np.maximum(own - own.mean(), 0)
        priced = own - 3.0 * crowding(rule, worth / worth.sum())
        away = np.array([puts_off(item, shown) for item in range(ITEMS)])
        again = np.isin(np.arange(ITEMS), shown) & (not repeats)
        for name, price, scores, free in (
            ("myopic", None, own, False),
            ("same_for_all", None, mean, False),
            ("look_ahead", jnp.float32(3.0), priced, step == 5),
        ):
            # Repeats last, then what drives away, then by score; ties by id.
            order = np.lexsort((np.arange(ITEMS), -np.round(scores, 5), away & (not free), again))
            found = np.asarray(chosen[name](jax.random.key(0), users, price))[0]
            np.testing.assert_array_equal(found, order[:2], err_msg=f"{name}, {user}")


def test_look_ahead_earns_what_the_best_of_all_sessions_does():
    """Where it pays: the best item excludes two others that are nearly as good."""
    rewards, categories = np.array([[5.0, 4.5, 4.4, 1.0, 0.5]]), [[1, 1], [1, 0], [0, 1], [0, 0], [0, 0]]
    rule = envs.too_often(categories, threshold=0, window=1)
    env = envs.matrix(rewards, click_from=4, leaving=rule, repeats=False, max_steps=3)

    def total(sequence):
        shares = [np.dot(categories[a], categories[b]) > 0 for a, b in itertools.pairwise(sequence)]
        length = 1 + (shares.index(True) + 1 if any(shares) else 2)
        return rewards[0, list(sequence)[:length]].sum()

    best = max(total(sequence) for sequence in itertools.permutations(range(5), 3))
    oracle = env.oracles["look_ahead"]
    earned = [float(np.max(np.asarray(everyone(env, oracle.choose, price)["rating"]))) for price in oracle.settings]
    assert earned[0] < max(earned) == pytest.approx(best)


def everyone(env, choose, setting=None):
    """What every kind of user earns under an oracle, from arrival to leaving: sums of signals ``[U]``, and length."""
    count = env.params.rewards.shape[0]

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(0), count)
        observation, users = jax.vmap(env.reset, in_axes=(0, None, None))(keys, params, None)
        users = users.replace(user=jnp.arange(count))

        def step(carry, _):
            observation, users, staying = carry
            slate = choose(keys[0], Revealed(observation, users, params, None), setting)
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, users, slate, params, None)
            earned = {name: jnp.where(staying, jnp.sum(after.response[name], axis=-1), 0.0) for name in after.response}
            going = staying & ~after.terminated & ~after.truncated
            return (after.observation, after.state, going), (earned | {"length": staying})

        steps = jax.lax.scan(step, (observation, users, jnp.ones(count, bool)), None, length=30)[1]
        return {name: jnp.sum(values, axis=0) for name, values in steps.items()}

    return run(env.params)


# Coat's own numbers.


@pytest.fixture(scope="module")
def coat():
    def make(name, **options):
        try:
            return envs.environments.make(name, **options)
        except data.UnavailableError as error:
            pytest.skip(str(error).splitlines()[0])

    return make


def test_matrix_of_coat(coat):
    env = coat("coat", user_features=True)
    ratings = np.asarray(env.params.rewards)
    assert ratings.shape == (290, 300)
    assert set(np.unique(ratings)) == {1, 2, 3, 4, 5}
    assert 30 * ratings.max(axis=1).mean() == pytest.approx(100.655, abs=0.001)  # no policy earns more
    percentiles = np.percentile(np.asarray(env.params.leaving.distances), [0, 10, 25, 50, 75, 90, 100])
    known = [0, 7.48331477, 8.83176087, 10.67707825, 13.11487705, 16.1245155, 30.88689042]
    np.testing.assert_allclose(percentiles, known, rtol=1e-6)
    assert (env.spec.context_size, env.items.content.shape) == (14 + 30, (300, 33))


def test_what_coats_users_give_to_those_who_know_them(coat):
    """The best cycle of 8 far-apart coats for all earns 87.855, found with another program, and 93.583 that of each."""
    env = coat("coat")
    earned = {name: everyone(env, env.oracles[name].choose) for name in ("same_for_all", "myopic")}
    assert np.mean(earned["same_for_all"]["rating"]) == pytest.approx(87.8552, abs=1e-3)
    assert np.mean(earned["myopic"]["rating"]) == pytest.approx(93.5828, abs=1e-3)
    assert all((np.asarray(found["length"]) == 30).all() for found in earned.values())


def test_clicks_of_the_study_of_state_encoders(coat):
    env = coat("coat_clicks")
    clicks = {name: np.mean(everyone(env, env.oracles[name].choose)["click"]) for name in ("myopic", "same_for_all")}
    assert clicks == {"myopic": pytest.approx(4.231, abs=5e-4), "same_for_all": pytest.approx(3.414, abs=5e-4)}
    # A random list of 10 coats without repeats.
    assert np.mean(np.asarray(env.params.rewards)) * 10 == pytest.approx(0.453, abs=5e-4)


# Bad input.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: envs.matrix(RATINGS[0], click_from=4), r"rewards must be finite .* got float32\(9,\)"),
        (lambda: envs.matrix(RATINGS * np.inf, click_from=4), "rewards must be finite"),
        (lambda: envs.matrix(RATINGS, click_from=4, max_steps=0), "max_steps is 0"),
        (lambda: envs.matrix(RATINGS, click_from=0, repeats=False), "click_from is 0; with repeats=False"),
        (
            lambda: envs.matrix(RATINGS[:, :3], click_from=4, leaving=RULES["often"][0]),
            "leaving has 9 items and rewards",
        ),
        (lambda: envs.matrix(RATINGS, click_from=4, context=FEATURES[:2]), r"context has shape \(2, 2\)"),
        (lambda: envs.matrix(RATINGS, click_from=4, items=envs.synthetic(num_items=5).items), "items has 5 items"),
        (lambda: envs.too_close([[0.0, 1.0], [2.0, 0.0]], threshold=1, window=1), "must be a symmetric matrix"),
        (lambda: envs.too_close(np.zeros((2, 2)), threshold=0, window=1), "threshold is 0"),
        (lambda: envs.too_close(np.zeros((2, 2)), threshold=1, window=0), "window is 0"),
        (lambda: envs.too_often([[0.5]], threshold=1, window=1), "categories must be zeros and ones"),
        (lambda: envs.too_often([[1]], threshold=-1, window=1), "threshold is -1"),
        (lambda: envs.coat(RATINGS, mode="free"), "mode is 'free'; choose one of FreeB, NX_0, NX_10"),
        (lambda: envs.coat(RATINGS, user_features=True), "user_features=True shows those of Coat's own"),
        (lambda: envs.coat_clicks(data_dir="nowhere"), "lacks nowhere"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
