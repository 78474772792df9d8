"""What a log tells of liking: ratings, what was taken, what was shown; with planted tastes, known propensities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from recjax.data import Behaviour, Dataset, IdMap, Interactions, strongest
from recjax.envs import PreferenceConfig, fit_preference, preference, read_evidence
from recjax.envs.evidence import draw_others, inverse_propensities, strongest_pairs
from recjax.envs.preference_report import measure


def a_dataset(log: Interactions, num_users: int, num_items: int, **more) -> Dataset:
    users, items = (IdMap(tuple(map(str, range(n)))) for n in (num_users, num_items))
    return Dataset("generated", log, users, items, **more)


def clicks(appeal: np.ndarray, exposure: np.ndarray, each: int, seed: int = 0) -> Interactions:
    """``each`` clicks of every user: users see items in proportion to ``exposure`` and take them as they appeal."""
    rng = np.random.default_rng(seed)
    chance = exposure * appeal
    cumulative = np.cumsum(chance / chance.sum(1, keepdims=True), axis=1)
    item = (rng.random((len(appeal), each, 1)) > cumulative[:, None]).sum(-1)
    return Interactions(np.repeat(np.arange(len(appeal)), each), item.ravel())


@pytest.fixture(scope="module")
def appealing() -> Dataset:
    """Many users with few clicks; items are shown in proportion to their appeal, which is the same to everybody."""
    appeal = np.exp(np.linspace(-1, 1, 100))
    return a_dataset(clicks(np.tile(appeal, (4000, 1)), appeal, each=4), 4000, 100)


@pytest.mark.parametrize(("exposure", "slope"), [(0.0, 2.0), (0.5, 1.0), (1.0, 0.0)])
def test_presumed_exposure_is_taken_out_of_popularity(appealing, exposure, slope):
    """Clicks are in proportion to appeal squared; presuming the exposure that there was leaves the appeal."""
    fitted, report = fit_preference(appealing, PreferenceConfig(exposure=exposure), factors=0)
    found = np.polyfit(np.linspace(-1, 1, 100), np.asarray(fitted.item_bias), 1)[0]
    assert found == pytest.approx(slope, abs=0.12)
    assert report.feedback == "implicit"


def test_recovers_tastes_from_clicks():
    kind = np.where(np.arange(400) % 2, 1.0, -1.0)[:, None]
    half = np.where(np.arange(60) < 30, 1.0, -1.0)
    logits = 1.2 * kind * half
    fitted, report = fit_preference(a_dataset(clicks(np.exp(logits), np.ones(60), each=12), 400, 60), factors=3)
    inner = np.asarray(fitted.user_vectors @ fitted.item_vectors.T)
    assert np.corrcoef(inner.ravel(), logits.ravel())[0, 1] > 0.9
    assert report.gain[1] > 0.05
    assert report.warning is None
    assert report.like_rate == 1.0


def test_a_log_without_tastes_is_said_to_be_one():
    uniform = np.ones((300, 50))
    _, report = fit_preference(a_dataset(clicks(uniform, np.ones(50), each=6), 300, 50), factors=3)
    assert report.gain[1] <= 0
    assert "no better than item + user bias" in report.warning
    assert report.warning in str(report)


def test_too_few_of_one_outcome_tell_no_gain(dataset):
    log = dataset.interactions
    rating = np.full(len(log), 5.0, np.float32)
    rating[:40] = 1.0
    _, report = fit_preference(
        a_dataset(Interactions(log.user, log.item, rating=rating), dataset.num_users, dataset.num_items), factors=0
    )
    assert report.rarer < 20
    assert "cannot be told" in report.warning


def test_items_passed_over_are_drawn_by_exposure_and_were_not_taken():
    exposure = np.array([1.0, 2.0, 3.0, 4.0, 0.0])
    pairs = np.array([0 * 5 + 1, 1 * 5 + 0, 2 * 5 + 0, 2 * 5 + 1, 2 * 5 + 2, 2 * 5 + 3, 2 * 5 + 4])
    users = np.repeat([0, 1, 2], 20_000)
    items = draw_others(np.random.default_rng(0), users, pairs, exposure)
    for user, expected in ((0, [1, 0, 3, 4]), (1, [0, 2, 3, 4])):
        counts = np.bincount(items[users == user], minlength=5)
        expected = np.array([*expected, 0]) * 20_000 / sum(expected)
        shown = expected > 0
        assert stats.chisquare(counts[shown], expected[shown]).pvalue > 0.001
        assert counts[~shown].sum() == 0
    assert (items[users == 2] == -1).all()


def test_what_is_held_out_is_not_known_to_the_fit(appealing):
    evidence = read_evidence(appealing)
    rng = np.random.default_rng(1)
    rows = len(evidence.observed.users)
    held_out = rng.random(rows) < 0.3
    pairs = evidence.observed.users.astype(np.int64) * 100 + evidence.observed.items
    train, test = evidence.to_learn_from(rng, held_out), evidence.to_test_on(rng, held_out)
    others = train.users[rows:].astype(np.int64) * 100 + train.items[rows:]
    assert not np.isin(others, pairs[~held_out]).any()
    assert np.isin(others, pairs[held_out]).any()
    assert (train.weight[:rows][held_out] == 0).all()
    passed = test.liked == 0
    assert not np.isin(test.users[passed].astype(np.int64) * 100 + test.items[passed], pairs).any()
    for events in (train, test):
        taken, passed = (np.bincount(events.users, events.weight * of, minlength=4000) for of in (
            events.liked, 1 - events.liked)
        )  # fmt: skip
        np.testing.assert_allclose(taken, passed, rtol=1e-4)


def test_pairs_are_those_of_the_strongest_behaviour():
    rng = np.random.default_rng(2)
    log = Interactions(rng.integers(0, 20, 500), rng.integers(0, 9, 500), behaviour=rng.integers(0, 4, 500))
    user, item, weight = strongest_pairs(log, np.arange(500), 9)
    kept = strongest(log)
    order = np.lexsort((kept.item, kept.user))
    worth = np.array([1, 1, 3, 5])[kept.behaviour[order]]
    np.testing.assert_array_equal(np.stack([user, item]), np.stack([kept.user, kept.item])[:, order])
    np.testing.assert_allclose(weight, worth / worth.mean(), rtol=1e-6)


def shown_and_taken(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Impressions of two items by a policy that shows each kind of users mostly what they like.

    Returns users, items, whether taken, propensities, and the true chances ``[user, item]``.
    """
    rng = np.random.default_rng(seed)
    chance = np.where((np.arange(300) % 2)[:, None] == np.arange(2), 0.8, 0.3)
    user = rng.integers(0, 300, 4000)
    of_liked = rng.random(4000) < 0.9
    item = np.where(of_liked, user % 2, 1 - user % 2)
    return user, item, rng.random(4000) < chance[user, item], np.where(of_liked, 0.9, 0.1), chance


def test_inverse_propensities_estimate_without_bias_what_a_uniform_policy_would_earn():
    weighted, plain = [], []
    for seed in range(60):
        _, _, taken, propensity, _ = shown_and_taken(seed)
        weight = inverse_propensities(propensity, max_weight=np.inf)
        assert weight.sum() == pytest.approx((1 / propensity).sum() ** 2 / (1 / propensity**2).sum(), rel=1e-4)
        weighted.append(np.average(taken, weights=weight))
        plain.append(taken.mean())
    error = np.std(weighted) / np.sqrt(len(weighted))
    assert abs(np.mean(weighted) - 0.55) < 3 * error < 0.01
    assert np.mean(plain) > 0.7
    assert inverse_propensities(np.array([0.5, 0.5, 0.001]), max_weight=2).max() < 3


def test_propensities_correct_the_bias_of_items():
    """Item 0 is taken by its kind with .8, by others with .3, but shown to its kind only: the mean is .55."""
    user, item, taken, propensity, _ = shown_and_taken(0)
    behaviour = np.where(taken, Behaviour.CLICK, Behaviour.IMPRESSION)
    log = Interactions(user, item, behaviour=behaviour)
    weighted, report = fit_preference(a_dataset(log, 300, 2, extras={"propensity": propensity}), factors=0)
    plain, _ = fit_preference(a_dataset(log, 300, 2), factors=0)
    assert report.feedback == "impressions"
    assert "weighed by inverse propensities" in report.text
    mean = [special.expit(np.asarray(fit.item_bias)).mean() for fit in (weighted, plain)]
    assert mean[0] == pytest.approx(0.55, abs=0.05)
    assert mean[1] > 0.68


@pytest.mark.parametrize("propensity", [0.0, 1.5, np.nan, -0.1])
def test_propensities_are_probabilities(propensity):
    with pytest.raises(ValueError, match=r"propensity in row 1 is .*\(0, 1\]"):
        inverse_propensities(np.array([0.5, propensity]), 20.0)


VIEW, CLICK, CART, SHOWN = Behaviour.VIEW, Behaviour.CLICK, Behaviour.CART, Behaviour.IMPRESSION


@pytest.mark.parametrize(
    ("rating", "behaviour", "propensity", "feedback", "threshold"),
    [
        ([1, 3, 4, 5], None, False, "ratings", 4.0),
        ([3.5, 4, 4.5, 5], None, False, "ratings", 4.0),
        ([0, 1, 1, 1], None, False, "ratings", 1.0),
        ([1, 7, 8, 10], None, False, "ratings", 8.0),
        ([1, 2, 3, 3], None, False, "ratings", 3.0),
        ([1, 1, 1, 1], None, False, "implicit", None),
        ([np.nan, np.nan, 5, 1], [CLICK] * 4, False, "ratings", 4.0),
        ([np.nan, np.nan, np.nan, 5], [CLICK] * 4, False, "implicit", None),
        (None, [VIEW, VIEW, CART, CLICK], False, "implicit", None),
        (None, [VIEW, VIEW, VIEW, CLICK], True, "impressions", None),
        (None, [SHOWN, SHOWN, VIEW, CLICK], False, "impressions", None),
    ],
)
def test_how_a_log_is_read(rating, behaviour, propensity, feedback, threshold):
    log = Interactions([0, 0, 1, 1], [0, 1, 0, 2], rating=rating, behaviour=behaviour)
    extras = {"propensity": np.full(4, 0.5)} if propensity else {}
    evidence = read_evidence(a_dataset(log, 2, 3, extras=extras))
    assert (evidence.feedback, evidence.threshold) == (feedback, threshold)
    if behaviour and SHOWN in behaviour:
        assert evidence.observed.liked.tolist() == [0, 0, 1, 1]


def test_nothing_passed_over_is_no_evidence():
    with pytest.raises(ValueError, match="every user took every one of the 2 items"):
        read_evidence(a_dataset(Interactions([0, 0, 2, 2], [0, 1, 1, 0]), 3, 2))
    with pytest.raises(ValueError, match="nothing was shown and not taken"):
        read_evidence(a_dataset(Interactions([0], [0]), 1, 2), PreferenceConfig(feedback="impressions"))


def test_a_big_log_is_fitted_to_some_users_and_then_to_all(monkeypatch, dataset, planted_logits):
    whole, _ = fit_preference(dataset, factors=3)
    monkeypatch.setattr(preference, "MAX_EVENTS", 2000)
    some, report = fit_preference(dataset, factors=3)
    assert report.num_users_fitted == 80
    assert "item factors fitted to 80 users" in str(report)
    assert report.num_interactions == len(dataset.interactions)
    grid = np.indices(planted_logits.shape)
    found, expected = (np.asarray(fit.logits(*grid)).ravel() for fit in (some, whole))
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert np.corrcoef(found, planted_logits.ravel())[0, 1] > 0.88


def test_measures_by_hand():
    logits, baseline = np.array([0.0, np.log(3.0), -np.log(3.0)]), np.zeros(3)
    liked, weight = np.array([1, 1, 0], np.float32), np.array([2.0, 1.0, 1.0], np.float32)
    found = measure(logits, baseline, liked, weight)
    each = np.log([0.5, 0.75, 0.75])
    assert found.log_likelihood == pytest.approx((2 * each[0] + each[1] + each[2]) / 4, rel=1e-6)
    assert found.baseline_log_likelihood == pytest.approx(np.log(0.5), rel=1e-6)
    gain = each - np.log(0.5)
    off = gain - (gain[1] + gain[2]) / 4
    assert found.gain_error == pytest.approx(np.sqrt(4 * off[0] ** 2 + off[1] ** 2 + off[2] ** 2) / 4, rel=1e-6)
    assert found.rarer == 1
    assert [(row.interactions, row.weight) for row in found.calibration] == [(1, 1.0), (1, 2.0), (1, 1.0)]
