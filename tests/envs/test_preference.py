"""The fitted preference against the tastes that were planted in the log."""

from __future__ import annotations

import dataclasses

import chex
import jax
import numpy as np
import pytest
from scipy import special, stats

from recjax.data import Interactions
from recjax.envs import PreferenceConfig, fit_preference
from recjax.envs.evidence import Events, rated_and_liked
from recjax.envs.preference import _fit, _Size


def size(dataset) -> _Size:
    return _Size(dataset.num_users, dataset.num_items, factors=3, iterations=30)


@pytest.fixture(scope="module")
def fitted(dataset):
    return fit_preference(dataset, factors=3)


def test_recovers_what_was_planted(fitted, planted_logits):
    preference, _ = fitted
    users, items = np.indices(planted_logits.shape)
    logits = np.asarray(preference.logits(users, items))
    assert np.corrcoef(logits.ravel(), planted_logits.ravel())[0, 1] > 0.9
    unseen_error = np.abs(special.expit(logits) - special.expit(planted_logits)).mean()
    assert unseen_error < 0.12
    # The two kinds of users are told apart by the inner product alone.
    inner = np.asarray(preference.user_vectors @ preference.item_vectors.T)
    assert stats.spearmanr(inner[1::2].mean(0), planted_logits[1::2].mean(0)).statistic > 0.6
    assert inner[1::2, :20].mean() > 0.5 > -0.5 > inner[0::2, :20].mean()


def test_beats_the_bias_baseline_and_constant_on_held_out_interactions(fitted, dataset):
    _, report = fitted
    assert report.num_held_out == round(0.1 * len(dataset.interactions))
    assert report.num_interactions == len(dataset.interactions)
    entropy = -special.entr([report.like_rate, 1 - report.like_rate]).sum()
    assert report.log_likelihood > report.baseline_log_likelihood + 0.05
    assert report.baseline_log_likelihood > entropy - 0.03
    assert report.log_likelihood < 0


def test_report_adds_up_and_prints_itself(fitted):
    _, report = fitted
    assert sum(row.interactions for row in report.calibration) == report.num_held_out
    assert report.calibration_error < 0.15
    assert f"{report.log_likelihood:.4f}" in str(report)
    assert f"{report.baseline_log_likelihood:.4f}" in str(report)


def test_needless_factors_switch_off(dataset):
    """With biases alone in the log, empirical Bayes leaves nothing to the factors."""
    log = dataset.interactions
    rng = np.random.default_rng(2)
    logits = rng.normal(size=dataset.num_users)[log.user] + rng.normal(size=dataset.num_items)[log.item]
    liked = (rng.random(len(log)) < special.expit(logits)).astype(np.float32)
    fit = _fit(jax.random.key(0), Events(log.user, log.item, liked, np.ones_like(liked)), size(dataset))
    inner = np.asarray(fit.user_vectors @ fit.item_vectors.T)
    assert inner.std() < 0.25
    assert np.asarray(fit.item_bias).std() > 0.7


def naive_fit(log, liked, weight, user, item, width_of_item, rounds):
    """Coordinate ascent in float64, one row and one interaction at a time."""
    width = {"user": np.ones(user.shape[1] - 1), "item": width_of_item}
    free = {"user": [0, 1], "item": [0, 2]}  # (factor, bias, 1) and (factor, 1, bias)
    centre = {"user": np.zeros(2), "item": np.zeros(2)}
    mean = {"user": user.copy(), "item": item.copy()}
    spread = {side: np.zeros((len(mean[side]), 3, 3)) for side in mean}
    for _ in range(rounds):
        for side, other in (("user", "item"), ("item", "user")):
            updated = {}
            for row in range(len(mean[side])):
                precision, target = np.diag(1 / width[side]), centre[side] / width[side]
                for u, i, y, w in zip(log.user, log.item, liked, weight, strict=True):
                    own, theirs = (u, i) if side == "user" else (i, u)
                    if own != row:
                        continue
                    m, s = mean[other][theirs], spread[other][theirs]
                    moment = np.outer(m, m) + s
                    xi = np.sqrt(np.sum((np.outer(mean[side][row], mean[side][row]) + spread[side][row]) * moment))
                    curvature = w * np.tanh(xi / 2) / (2 * xi)
                    f, one = free[side], 3 - sum(free[side])
                    precision = precision + curvature * moment[np.ix_(f, f)]
                    target = target + w * (y - 0.5) * m[f] - curvature * moment[f, one]
                updated[row] = np.linalg.inv(precision), target
            for row, (covariance, target) in updated.items():
                mean[side][row, free[side]] = covariance @ target
                spread[side][row][np.ix_(free[side], free[side])] = covariance
        centre["item"] = np.array([0.0, mean["item"][:, 2].mean()])
        second = (mean["item"] ** 2 + np.diagonal(spread["item"], axis1=1, axis2=2)).mean(0)[[0, 2]]
        width["item"] = second - centre["item"] ** 2
        width["user"][1] = (mean["user"][:, 1] ** 2 + spread["user"][:, 1, 1]).mean()
    return mean


def test_updates_agree_with_a_naive_implementation():
    rng = np.random.default_rng(3)
    users, items, events = 5, 4, 14
    log = Interactions(rng.integers(0, users, events), rng.integers(0, items, events))
    liked, weight = rng.integers(0, 2, events), rng.integers(0, 3, events) * 0.7
    key = jax.random.key(5)
    events = Events(log.user, log.item, liked.astype(np.float32), weight.astype(np.float32))
    fit = _fit(key, events, _Size(num_users=users, num_items=items, factors=1, iterations=4))
    noise = [
        0.3 * np.asarray(jax.random.normal(k, (rows, 1)), np.float64)
        for k, rows in zip(jax.random.split(key), (users, items), strict=True)
    ]
    user = np.concatenate([noise[0], np.zeros((users, 1)), np.ones((users, 1))], axis=1)
    item = np.concatenate([noise[1], np.ones((items, 1)), np.zeros((items, 1))], axis=1)
    mean = naive_fit(log, liked, weight, user, item, np.array([0.25, 1.0]), rounds=4)
    np.testing.assert_allclose(fit.user_vectors, mean["user"][:, :1], atol=2e-4)
    np.testing.assert_allclose(fit.user_bias, mean["user"][:, 1], atol=2e-4)
    np.testing.assert_allclose(fit.item_vectors, mean["item"][:, :1], atol=2e-4)
    np.testing.assert_allclose(fit.item_bias, mean["item"][:, 2], atol=2e-4)


def test_interactions_of_weight_zero_are_unseen(dataset):
    log = dataset.interactions
    liked = (log.rating >= 4).astype(np.float32)
    weight = (np.arange(len(log)) % 3 > 0).astype(np.float32)
    flipped = np.where(weight > 0, liked, 1 - liked)
    masked, same = (
        _fit(jax.random.key(0), Events(log.user, log.item, labels, weight), size(dataset))
        for labels in (liked, flipped)
    )
    chex.assert_trees_all_equal(masked, same)


def test_same_key_same_fit(fitted, dataset):
    again, report = fit_preference(dataset, factors=3)
    chex.assert_trees_all_equal(again, fitted[0])
    assert report == fitted[1]
    _, other = fit_preference(dataset, factors=3, key=jax.random.key(9))
    assert other.log_likelihood != report.log_likelihood


def test_interactions_without_rating_are_left_out():
    rating = np.array([np.nan, 5.0, 2.0, np.nan, 4.0, 1.0], np.float32)
    rated, threshold, liked = rated_and_liked(rating, 4.0, known=np.arange(6) < 5)
    assert threshold == 4.0
    assert rated.tolist() == [1, 2, 4]
    assert liked.tolist() == [1.0, 0.0, 1.0]


def test_ratings_of_unknown_users_and_items_are_left_out_and_counted(fitted, dataset):
    """Ten ratings of 5 of the id that stands for unknown items, and two of a user beyond the last."""
    log, n = dataset.interactions, 12
    more = Interactions(
        np.append(log.user, [*range(10), *[dataset.num_users] * 2]),
        np.append(log.item, [dataset.num_items] * 10 + [0, 1]),
        time=np.append(log.time, np.arange(n)),
        rating=np.append(log.rating, [5.0] * n),
    )
    wider = dataclasses.replace(dataset)
    object.__setattr__(wider, "interactions", more)  # a data set checks its users when it is made
    preference, report = fit_preference(wider, factors=3)
    chex.assert_trees_all_equal(preference, fitted[0])
    assert report == dataclasses.replace(fitted[1], num_left_out=n)
    assert "12 of unknown users or items left out" in str(report)
    assert "left out" not in str(fitted[1])


def test_pairs_with_unknown_ids_have_no_logit(fitted):
    preference, _ = fitted
    num_users, num_items = len(preference.user_bias), len(preference.item_bias)
    users = np.array([0, -1, num_users, 0, 0, num_users - 1])
    items = np.array([0, 0, 0, -1, num_items, num_items - 1])
    logits = np.asarray(preference.logits(users, items))
    np.testing.assert_array_equal(np.isnan(logits), [False, True, True, True, True, False])
    vectors = preference.user_vectors[-1] @ preference.item_vectors[-1]
    assert logits[-1] == pytest.approx(float(vectors + preference.user_bias[-1] + preference.item_bias[-1]), rel=1e-5)


@pytest.mark.parametrize(
    ("rating", "arguments", "message"),
    [
        (None, {"feedback": "ratings"}, "no ratings"),
        ([np.nan, np.nan], {"feedback": "ratings"}, "no ratings"),
        ([3.0, 3.0], {"feedback": "ratings"}, r"All ratings are equal.*ratings lie in \[3, 3\]"),
        ([1.0, 2.0], {"threshold": 4.0}, r"threshold=4 leaves nothing liked: ratings lie in \[1, 2\]"),
        ([4.0, 5.0], {"threshold": 4.0}, "leaves nothing disliked"),
        ([1.0, 5.0], {"factors": -1}, "factors=-1"),
        ([1.0, 5.0], {"iterations": 0}, "iterations=0"),
        ([1.0, 5.0], {"held_out": 1.0}, "held_out=1.0"),
        ([1.0, 5.0], {"held_out": 0.9}, "held_out=0.9 holds out all 2 interactions"),
        ([1.0, np.inf], {"feedback": "ratings"}, "inf"),
        ([1.0, 5.0], {"feedback": "stars"}, "feedback is 'stars'; it must be one of auto, ratings"),
        ([1.0, 5.0], {"exposure": 1.5}, "exposure=1.5"),
        ([1.0, 5.0], {"negatives": 0}, "negatives=0"),
        ([1.0, 5.0], {"max_weight": 0.5}, "max_weight=0.5"),
    ],
)
def test_bad_input(dataset, rating, arguments, message):
    def fit():
        log = Interactions([0, 1], [0, 1], rating=rating)
        own = {name: arguments[name] for name in arguments.keys() & {"factors", "iterations", "held_out"}}
        config = PreferenceConfig(**{name: arguments[name] for name in arguments.keys() - own.keys()})
        fit_preference(dataclasses.replace(dataset, interactions=log), config, **own)

    with pytest.raises(ValueError, match=message):
        fit()
