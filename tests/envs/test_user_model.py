"""Users fitted to a log: what a log tells, what is learned from it, and how a fitted user answers."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.data import Dataset, IdMap, Interactions
from recjax.envs import FactorNetwork, UserModel, UserModelConfig, UserNetwork, fit_user_model, read_exposures
from recjax.envs.sims.fitted import reset
from recjax.envs.users import joint
from recjax.envs.users.answering import Params, Rules, User, respond
from recjax.envs.users.exposures import combination, combinations, history_codes
from recjax.envs.users.learning import examples_of
from recjax.envs.users.realism import Sessions, compare_sessions, real_sessions, statistics
from recjax.envs.users.session_ends import fit_session_ends, leave_probability, moments
from recjax.envs.users.user_model import hold_out
from recjax.nn import ItemTower, UserTower
from recjax.types import PAD_ID, Behaviour, Items, Observation

CLICK, CART, PURCHASE, LIKE, IMPRESSION = (
    Behaviour.CLICK,
    Behaviour.CART,
    Behaviour.PURCHASE,
    Behaviour.LIKE,
    Behaviour.IMPRESSION,
)


def log_of(rows: list[tuple], *, users: int = 3, items: int = 6, **more) -> Dataset:
    """Rows of user, item, time, behaviour and rating."""
    user, item, time, behaviour, rating = zip(*rows, strict=True)
    rated = np.array(rating, np.float32)
    return Dataset(
        "rows",
        Interactions(
            np.array(user),
            np.array(item),
            np.array(time),
            None if np.isnan(rated).all() else rated,
            np.array(behaviour),
        ),
        IdMap(tuple(map(str, range(users)))),
        IdMap(tuple(map(str, range(items)))),
        **more,
    )


NONE = float("nan")


def told(exposures: envs.Exposures) -> list[tuple]:
    done = [tuple(map(int, row)) for row in exposures.answers]
    return list(zip(exposures.users.tolist(), exposures.items.tolist(), done, exposures.sessions.tolist(), strict=True))


# What a log tells.


def test_impressions_and_what_followed_in_the_same_session_are_one_exposure():
    dataset = log_of(
        [
            (1, 2, 0, IMPRESSION, NONE),
            (1, 3, 1, IMPRESSION, NONE),
            (1, 2, 5, CLICK, NONE),
            (1, 2, 9, PURCHASE, NONE),
            (1, 2, 9000, IMPRESSION, NONE),
            (0, 4, 7, IMPRESSION, NONE),
            (0, 4, 8, CART, NONE),
        ]
    )
    exposures = read_exposures(dataset)
    assert exposures.behaviours == (CLICK, CART, PURCHASE)
    assert told(exposures) == [(0, 4, (0, 1, 0), 0), (1, 2, (1, 0, 1), 1), (1, 3, (0, 0, 0), 1), (1, 2, (0, 0, 0), 2)]
    assert exposures.has_impressions
    assert exposures.starts.tolist() == [0, 1, 4, 4]
    sequences = exposures.sequences
    assert sequences.items.tolist() == [4, 2, 3, 2]
    assert sequences.behaviours.tolist() == [CART, PURCHASE, IMPRESSION, IMPRESSION]
    assert len(set(read_exposures(dataset, session_gap=1e6).sessions)) == 2


def test_ratings_are_likes_and_columns_are_further_behaviours():
    rows = [(0, 1, 0, LIKE, 1.0), (0, 2, 1, LIKE, 0.0), (1, 2, 2, LIKE, 1.0)]
    dataset = log_of(rows, extras={"is_click": np.array([1, 0, 1]), "seconds": np.array([3, 4, 5])})
    exposures = read_exposures(dataset, columns={"is_click": CLICK})
    assert (exposures.feedback, exposures.behaviours) == ("ratings", (CLICK, LIKE))
    assert told(exposures) == [(0, 1, (1, 1), 0), (0, 2, (0, 0), 0), (1, 2, (1, 1), 1)]
    with pytest.raises(ValueError, match="'seconds' has 3 in row 0"):
        read_exposures(dataset, columns={"seconds": CLICK})
    with pytest.raises(ValueError, match="columns names 'clicks'; rows has is_click, seconds"):
        read_exposures(dataset, columns={"clicks": CLICK})
    with pytest.raises(ValueError, match="session_gap is 0"):
        read_exposures(dataset, session_gap=0)


def test_what_was_passed_over_is_drawn_where_the_log_holds_no_more_than_what_was_taken():
    dataset = log_of([(0, 1, 0, CLICK, NONE), (0, 1, 1, CART, NONE), (0, 2, 2, CLICK, NONE), (1, 1, 3, CLICK, NONE)])
    exposures = read_exposures(dataset)
    assert (exposures.feedback, exposures.has_impressions) == ("implicit", False)
    assert told(exposures) == [(0, 1, (1, 1), 0), (0, 2, (1, 0), 0), (1, 1, (1, 0), 1)]
    drawn = exposures.passed_over(np.array([2]), np.random.default_rng(0))
    assert drawn.shape == (1, exposures.negatives)
    assert set(drawn.ravel()) <= {2, -1}  # user 1 took item 1, and nobody is shown what nobody took


def test_histories_tell_the_strongest_behaviour():
    assert combination(np.array([[False, True], [True, True]])).tolist() == [2, 3]
    assert history_codes((CLICK, PURCHASE)).tolist() == [IMPRESSION, CLICK, PURCHASE, PURCHASE]


# What is held out.


def test_what_is_held_out_follows_a_moment_that_knows_nothing_of_the_end():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 60, 2000)
    users = np.repeat(np.arange(2000), counts)
    nothing = np.zeros(len(users), np.int32)
    exposures = envs.Exposures(users, nothing, nothing[:, None] > 0, nothing, (CLICK,), 2000, 1, "ratings", "")
    parts = hold_out(exposures, 0.2, 0.1, rng)
    assert sorted(np.concatenate(parts)) == list(range(len(users)))
    assert len(parts.test) / len(users) == pytest.approx(0.2, abs=0.02)
    kept = np.bincount(users[np.concatenate([parts.train, parts.validation])], minlength=2000)
    # The moment is as probable at each exposure, of long logs as of short ones.
    hazards = [
        np.mean(kept[counts > place + more][kept[counts > place + more] >= place] == place)
        for place, more in ((0, 0), (0, 30), (20, 0), (20, 20))
    ]
    assert np.ptp(hazards) < 0.02
    for part in (parts.train, parts.validation):
        newest = np.full(2000, -1)
        newest[users[part]] = part
        oldest_test = np.full(2000, len(users))
        np.minimum.at(oldest_test, users[parts.test], parts.test)
        assert (newest < oldest_test).all()


# How behaviours hang together.


def test_combinations_have_the_probabilities_of_the_chain():
    rng = np.random.default_rng(0)
    logits, strengths = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    found = np.asarray(joint.chances(jnp.asarray(logits, jnp.float32), jnp.asarray(strengths, jnp.float32)))
    for row in range(2):
        for number, answers in enumerate(combinations(3).astype(float)):
            chance = 1.0
            for s in range(3):
                given = 1 / (1 + np.exp(-logits[row, s] - sum(strengths[s, r] * answers[r] for r in range(s))))
                chance *= given if answers[s] else 1 - given
            assert found[row, number] == pytest.approx(chance, rel=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(joint.each(jnp.asarray(found)), found @ combinations(3), rtol=1e-5)


# When users leave.


def test_the_hazard_of_leaving_is_found_again():
    planted = np.array([-3.0, 0.4, -2.0])
    rng = np.random.default_rng(2)
    users, answers, sessions = [], [], []
    for user in range(800):
        positive = 0
        for count in range(1, 200):
            answer = rng.random() < 0.1 + 0.8 * (user % 2)
            positive += answer
            users.append(user)
            answers.append([answer])
            sessions.append(user)
            given = planted @ [1, np.log(count), (positive + 1) / (count + 2) - 0.5]
            if rng.random() < 1 / (1 + np.exp(-given)):
                break
    rows = np.arange(len(users))
    exposures = envs.Exposures(
        np.array(users), rows, np.array(answers), np.array(sessions), (CLICK,), 800, len(rows), "ratings", ""
    )
    ends = np.asarray(fit_session_ends(exposures, rows))
    np.testing.assert_allclose(ends, planted, atol=0.25)
    found = leave_probability(jnp.asarray(planted, jnp.float32), jnp.array(3.0), jnp.array(2.0))
    assert float(found) == pytest.approx(1 / (1 + np.exp(3.0 - 0.4 * np.log(3) + 2.0 * (3 / 5 - 0.5))), rel=1e-5)


def test_moments_of_sessions():
    dataset = log_of([(0, 1, 0, LIKE, 1), (0, 2, 1, LIKE, 0), (0, 3, 2, LIKE, 1), (0, 4, 9999, LIKE, 1)])
    count, positive, is_last = moments(read_exposures(dataset))
    assert (count.tolist(), positive.tolist()) == ([1, 2, 3, 1], [1, 1, 2, 1])
    assert is_last.tolist() == [False, False, True, True]
    dataset = log_of([(0, 1, 0, CLICK, NONE), (0, 2, 1, CLICK, NONE), (1, 2, 1, CLICK, NONE)])
    assert moments(read_exposures(dataset))[0].tolist() == [2, 4, 2]


# A step, by hand.


class Table(UserNetwork):
    """Logits of items that are parameters."""

    num_items: int = 0

    def setup(self):
        self.table = self.param("table", lambda key: jnp.zeros((self.num_items, self.behaviours)))

    def __call__(self, user, observation, shown, items):
        return self.table[shown], jnp.full((self.behaviours, self.behaviours), 0.5)


MEMBERS = np.random.default_rng(5).normal(size=(2, 6, 2))
ENDS = np.array([-1.0, 0.3, -0.7])


def user_of(member: int = 1) -> User:
    history = jnp.array([PAD_ID, 3, 0], jnp.int32)
    behaviour = jnp.array([PAD_ID, CLICK, IMPRESSION], jnp.int32)
    numbers = (jnp.asarray(x, jnp.int32) for x in (4, 2, 7))
    return User(jnp.int32(0), jnp.int32(member), Observation(history, behaviour), *numbers)


def by_hand(uniform: np.ndarray, slate: list[int], chances: np.ndarray, has_impressions: bool):
    """Answers, history, behaviours and the probability of staying, in float64."""
    names, table = [IMPRESSION, CLICK, PURCHASE, PURCHASE], combinations(2)
    history, behaviour, answers, stays, shown, positive = [3, 0], [CLICK, IMPRESSION], [], 1.0, 4, 2
    for slot, item in enumerate(slate):
        if not 0 <= item < 6:
            answers.append([0, 0])
            continue
        done = int(np.sum(np.cumsum(chances[item]) <= uniform[slot]))
        answers.append(table[done].astype(int).tolist())
        shown, positive = shown + 1, positive + (done > 0)
        stays *= 1 - 1 / (1 + np.exp(-(ENDS @ [1, np.log(shown), (positive + 1) / (shown + 2) - 0.5])))
        if has_impressions or done:
            history.append(item)
            behaviour.append(names[done])
    return np.array(answers), history[-3:], behaviour[-3:], stays


def chances_by_hand(logits: np.ndarray) -> np.ndarray:
    """``f64[N, 4]`` with a strength of 0.5 of the first behaviour upon the second."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    first, second, after = sigmoid(logits[:, 0]), sigmoid(logits[:, 1]), sigmoid(logits[:, 1] + 0.5)
    return np.stack([(1 - first) * (1 - second), first * (1 - after), (1 - first) * second, first * after], axis=1)


@pytest.mark.parametrize("has_impressions", [True, False])
@pytest.mark.parametrize("pessimism", [None, 0.5])
def test_a_step_by_hand(has_impressions, pessimism):
    items = Items(popularity=jnp.zeros(6), is_new=jnp.zeros(6, bool))
    networks = {"params": {"table": jnp.asarray(MEMBERS, jnp.float32)}}
    params = Params(networks, jnp.asarray(ENDS, jnp.float32), items, user_of().observation)
    rules = Rules(Table(2, num_items=6), (CLICK, PURCHASE), has_impressions, 8, pessimism)
    step = jax.jit(lambda key, slate: respond(key, user_of(), slate, params, rules))
    of_members = np.stack([chances_by_hand(member) for member in MEMBERS])
    chances = of_members[1]
    if pessimism is not None:
        wary = np.maximum(of_members.mean(0) - pessimism * of_members.std(0), 0)[:, 1:]
        chances = np.concatenate([1 - wary.sum(1, keepdims=True), wary], axis=1)
    met = set()
    for seed, slate in enumerate([[5, 1, 2], [4, PAD_ID, 3], [0, 5, 4], [1, 2, 3], [3, 0, 6]] * 3):
        key = jax.random.key(seed)
        uniform = np.asarray(jax.random.uniform(key, (4,)), np.float64)
        answers, history, behaviour, stays = by_hand(uniform, slate, chances, has_impressions)
        found = step(key, jnp.array(slate))
        np.testing.assert_array_equal(found.response["click"], answers[:, 0])
        np.testing.assert_array_equal(found.response["purchase"], answers[:, 1])
        assert found.observation.history.tolist() == history
        assert found.observation.behaviour.tolist() == behaviour
        assert float(found.info["leave_probability"]) == pytest.approx(1 - stays, abs=1e-5)
        assert bool(found.terminated) == (uniform[3] >= stays)
        assert bool(found.truncated) != bool(found.terminated)  # the eighth slate is the last
        assert int(found.state.shown) == 4 + sum(0 <= item < 6 for item in slate)
        assert int(found.state.positive) == 2 + int(answers.any(axis=1).sum())
        met |= set(combination(answers > 0).tolist())
    assert met == {0, 1, 2, 3}


# Sessions.


def test_real_sessions_end_where_the_log_says():
    dataset = log_of(
        [(0, 1, 0, LIKE, 1), (0, 2, 1, LIKE, 0), (0, 3, 2, LIKE, 1), (0, 4, 9999, LIKE, 1), (1, 5, 0, LIKE, 0)]
    )
    exposures = read_exposures(dataset)
    found = real_sessions(exposures, np.array([1, 4]))
    assert found.there.sum(axis=1).tolist() == [2, 1]
    assert found.items[0, :2].tolist() == [2, 3]
    assert found.answers[0, :3, 0].tolist() == [False, True, False]
    summed = statistics(found, exposures, np.log1p(np.arange(6.0)))
    np.testing.assert_allclose(summed["log length"], [np.log(2), 0])
    np.testing.assert_allclose(summed["like rate"], [0.5, 0])
    beyond = summed["log popularity of what was taken, beyond that of all"]
    np.testing.assert_allclose(beyond, [np.log(4) - (np.log(3) + np.log(4)) / 2, 0])
    np.testing.assert_allclose(summed["share of answers like the one before"], [0, 0])
    taken = dataclasses.replace(exposures, presumed=np.ones(6))
    there = np.array([[True, False, True]])
    summed = statistics(Sessions(np.array([[1, 2, 4]]), there[..., None], there), taken, np.log1p(np.arange(6.0)))
    np.testing.assert_allclose(summed["log popularity"], [(np.log(2) + np.log(5)) / 2])


# A fit.

USERS, ITEMS, LENGTH = 300, 24, 24


@pytest.fixture(scope="module")
def moody() -> Dataset:
    """A shop whose users like one half of the items or the other, click accordingly, and purchase only after clicks."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        likes = rng.permutation(ITEMS)[: ITEMS // 2] if user % 3 == 0 else np.arange(ITEMS // 2) + 12 * (user % 2)
        for step in range(int(rng.integers(LENGTH // 2, 2 * LENGTH))):
            item = int(rng.integers(ITEMS))
            time = 10 * step + (5000 if step >= LENGTH else 0)
            rows.append((user, item, time, IMPRESSION, NONE))
            if rng.random() < (0.8 if item in likes else 0.1):
                rows.append((user, item, time + 1, CLICK, NONE))
                if rng.random() < 0.5:
                    rows.append((user, item, time + 2, PURCHASE, NONE))
    return log_of(rows, users=USERS, items=ITEMS)


SMALL = UserModelConfig(members=2, width=16, history_length=12, epochs=25, batch_size=128, learning_rate=5e-3)


@pytest.fixture(scope="module")
def found(moody) -> tuple[UserModel, envs.UserModelReport]:
    return fit_user_model(moody, SMALL)


def test_histories_tell_more_than_biases(found):
    model, report = found
    assert report.gain.low > 0.1
    assert report.warning is None
    click, purchase = report.behaviours
    assert (click.name, purchase.name) == ("click", "purchase")
    assert click.gain.low > 0.1
    assert report.log_likelihood > report.member_log_likelihood
    assert click.calibration_error < 0.08
    assert sum(one.interactions for one in click.calibration) == report.num_held_out
    assert 0 < click.disagreement < 0.2
    strengths = model.networks["params"]["strengths"]
    assert bool(jnp.all(strengths[:, 1, 0] > 1.5))  # who purchases has clicked
    assert "beyond item + user bias" in str(report)


def test_sessions_of_users_who_answer_otherwise_are_told_apart(found, moody):
    model, report = found
    assert [one.name for one in report.sessions.statistics[:3]] == ["log length", "click rate", "purchase rate"]
    assert report.sessions.test.p_value > 0.01
    exposures, rng = read_exposures(moody), np.random.default_rng(0)
    test = hold_out(exposures, 0.2, 0.1, rng).test
    item_bias = model.networks["params"]["item_bias"]
    eager = jax.tree.map(lambda x: x + 1.5 if x is item_bias else x, model.networks)
    items = Items(popularity=jnp.zeros(ITEMS), is_new=jnp.zeros(ITEMS, bool))
    other = compare_sessions(model.replace(networks=eager), exposures, test, items, None, jax.random.key(0), rng)
    assert other.test.p_value < 0.01
    assert other.statistics[1].difference > 0.5


def test_a_fitted_environment_answers_as_the_model_says(found, moody):
    env = envs.fitted(moody, user_model=found[0], config=SMALL, slate_size=2)
    assert [signal.name for signal in env.spec.signals] == ["click", "purchase"]
    assert env.spec.has_impressions
    observation, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(
        jax.random.split(jax.random.key(0), 512), env.params, None
    )
    np.testing.assert_array_equal(observation.history, env.params.arrivals.history[state.user])
    assert set(np.unique(state.member)) == {0, 1}
    assert len(np.unique(state.user)) > 200
    # Those who like one half click on it, whom the model knows by their histories alone.
    own = 12 * (state.user % 2)
    slate = jnp.stack([own, 12 - own], axis=1)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None, None)))
    after = step(jax.random.split(jax.random.key(1), 512), state, slate, env.params, None)
    rates = np.asarray(after.response["click"])[np.asarray(state.user) % 3 != 0].mean(axis=0)
    assert rates[0] > 0.6
    assert rates[1] < 0.3
    click, purchase = (np.asarray(after.response[name]) for name in ("click", "purchase"))
    independent = np.mean(purchase) * np.mean(1 - click)
    assert np.mean(purchase > click) < 0.5 * independent


def test_a_log_without_impressions_has_users_too():
    rng = np.random.default_rng(0)
    rows = [(user, int(rng.integers(12)), 10 * step, CLICK, NONE) for user in range(40) for step in range(12)]
    exposures = read_exposures(log_of(rows, users=40, items=12))
    examples = examples_of(exposures, np.arange(10, 30), rng)
    taken = examples.answers[:, 0] > 0
    assert taken.sum() == 20
    assert examples.weight[~taken].sum() == pytest.approx(20, abs=1)
    pairs = set(zip(exposures.users.tolist(), exposures.items.tolist(), strict=True))
    shown = zip(examples.user.tolist(), examples.item.tolist(), strict=True)
    assert all((pair in pairs) == done for pair, done in zip(shown, taken, strict=True))
    # Simulated users leave a log of what they took; those who took nothing leave none.
    model = untrained(Table(1, num_items=12), (CLICK,), has_impressions=False)
    test = hold_out(exposures, 0.5, 0.3, rng).test
    items = Items(popularity=jnp.zeros(12), is_new=jnp.zeros(12, bool))
    found = compare_sessions(model, exposures, test, items, None, jax.random.key(0), rng)
    assert [one.name for one in found.statistics] == ["log length", "click rate", "log popularity"]
    assert found.statistics[1].real == found.statistics[1].simulated == 1.0


def untrained(network: UserNetwork, behaviours: tuple[Behaviour, ...], has_impressions: bool) -> UserModel:
    members = jax.vmap(lambda key: network.init(key, None, None, jnp.zeros((1, 1), jnp.int32), None))(
        jax.random.split(jax.random.key(0))
    )
    return UserModel(members, jnp.array([-1.0, 0.0, 0.0]), network, behaviours, has_impressions, 4)


@pytest.mark.parametrize("balanced", [False, True])
def test_balance_makes_what_was_not_done_weigh_as_much(balanced):
    rows = [(0, item, item, LIKE, float(item == 2)) for item in range(6)]
    rng = np.random.default_rng(0)
    examples = examples_of(read_exposures(log_of(rows)), np.arange(6), rng, balanced=balanced)
    weights = [examples.weight[examples.answers == value].sum() for value in (0, 1)]
    assert weights == pytest.approx([1, 1] if balanced else [5, 1])


@pytest.mark.parametrize("encoder", ["mean", "gru", "attention"])
def test_arrivals_and_steps_gather_rows_of_items_and_users(encoder):
    users, items = 100_003, 100_019
    network = envs.HistoryNetwork(1, item=ItemTower(items, 4), user=UserTower(4, encoder))
    known = Items(popularity=jnp.zeros(items), is_new=jnp.zeros(items, bool))
    blank = Observation(jnp.zeros((1, 6), jnp.int32), jnp.zeros((1, 6), jnp.int32))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), None, blank, jnp.zeros((1, 1), jnp.int32), known))
    history = jax.ShapeDtypeStruct((users, 6), jnp.int32)
    members = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), shapes)
    params = Params(members, jax.ShapeDtypeStruct((3,), jnp.float32), known, Observation(history, history))
    rules = Rules(network, (CLICK,), True, 8, None)

    def visit(params, key, slate):
        _, state = reset(key, params, None)
        return respond(key, state, slate, params, rules)

    each = jax.vmap(visit, in_axes=(None, 0, 0))
    program = str(jax.make_jaxpr(each)(params, jax.random.split(jax.random.key(0), 7), jnp.zeros((7, 3), int)))
    found = {tuple(map(int, shape.split(","))) for shape in re.findall(r"\[([\d,]+)\]", program)}
    whole = {shape for shape in found if {users, items, items + 2} & set(shape)}
    # Tables as they are given, of all members and of one that vmap sees; nothing of each of the seven users.
    assert not [shape for shape in whole if 7 in shape]
    assert whole


def test_bad_arguments_are_named(moody, found, dataset):
    with pytest.raises(ValueError, match=r"network is 'lstm'; choose one of factors, mean, gru"):
        UserModelConfig(network="lstm")
    with pytest.raises(ValueError, match="members is 0"):
        UserModelConfig(members=0)
    with pytest.raises(ValueError, match=r"held_out is 1\.0"):
        UserModelConfig(held_out=1.0)
    with pytest.raises(ValueError, match="max_steps=0"):
        envs.fitted(moody, user_model=found[0], max_steps=0)
    with pytest.raises(ValueError, match=r"pessimism=-1"):
        envs.fitted(moody, user_model=found[0], pessimism=-1.0)
    with pytest.raises(ValueError, match="The model is of CLICK, PURCHASE, but this config reads LIKE in planted"):
        envs.fitted(dataset, user_model=found[0])


def test_factors_are_products_and_biases():
    network = FactorNetwork(2, num_users=3, num_items=4, factors=2)
    rng = np.random.default_rng(0)
    shapes = {"bias": (2,), "user_bias": (3, 2), "item_bias": (4, 2), "users": (3, 2), "items": (4, 2, 2)}
    one = {name: rng.normal(size=shape) for name, shape in shapes.items()} | {"strengths": np.zeros((2, 2))}
    params = {"params": jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), one)}
    logits, _ = network.apply(params, jnp.array([2]), None, jnp.array([[1, 3]]), None)
    for place, item in enumerate((1, 3)):
        own = one["bias"] + one["user_bias"][2] + one["item_bias"][item] + one["items"][item] @ one["users"][2]
        np.testing.assert_allclose(logits[0, place], own, rtol=1e-5)
