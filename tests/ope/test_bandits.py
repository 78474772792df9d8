"""Estimators of one round: against their definitions in float64, and exactly without bias where theory says so."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import ope

CONTEXTS, ACTIONS = 3, 4
ALL = {
    "ips": ope.ips,
    "snips": ope.snips,
    "direct": ope.direct,
    "dr": ope.dr,
    "sndr": ope.sndr,
    "switch_dr": partial(ope.switch_dr, threshold=1.5),
    "dr_shrinkage": partial(ope.dr_shrinkage, shrinkage=4.0),
    "mips": ope.mips,
}


def drawn(seed, count):
    """Rounds of a small bandit, everything in float64."""
    rng = np.random.default_rng(seed)
    logging, policy = (0.5 * rng.dirichlet(np.ones(ACTIONS), count) + 0.5 / ACTIONS for _ in range(2))
    action = np.array([rng.choice(ACTIONS, p=row) for row in logging])
    reward, model = rng.normal(1.0, 1.0, count), rng.normal(1.0, 0.5, (count, ACTIONS))
    return action, reward, logging, policy, model, np.array([0, 0, 1, 1])


def by_definition(name, action, reward, logging, policy, model, groups):
    """The estimate, round by round as the papers write it."""
    rows = range(len(action))
    w = np.array([policy[i, action[i]] / logging[i, action[i]] for i in rows])
    q = np.array([model[i, action[i]] for i in rows])
    v = np.array([sum(policy[i, a] * model[i, a] for a in range(ACTIONS)) for i in rows])
    switch = np.where(w <= 1.5, w, 0.0)
    share = [[sum(of[i, a] for a in range(ACTIONS) if groups[a] == groups[action[i]]) for of in (policy, logging)]
             for i in rows]  # fmt: skip
    return {
        "ips": np.mean(w * reward),
        "snips": np.sum(w * reward) / np.sum(w),
        "direct": np.mean(v),
        "dr": np.mean(v + w * (reward - q)),
        "sndr": np.mean(v) + np.sum(w * (reward - q)) / np.sum(w),
        "switch_dr": np.mean(v + switch * (reward - q)),
        "dr_shrinkage": np.mean(v + 4 * w / (w**2 + 4) * (reward - q)),
        "mips": np.mean([pi / b * r for (pi, b), r in zip(share, reward, strict=True)]),
    }[name]


@pytest.fixture(scope="module")
def rounds():
    return drawn(0, 500)


@pytest.mark.parametrize("name", ALL)
def test_estimates_agree_with_their_definitions(rounds, name):
    action, reward, logging, policy, model, groups = rounds
    of = ope.feedback_of_actions(action, reward, logging, policy, predicted=model, groups=groups)
    contributions = ALL[name](of)
    assert contributions.shape == (500,)
    assert np.asarray(contributions, np.float64).mean() == pytest.approx(by_definition(name, *rounds), rel=1e-6)


def test_contributions_of_ratios_have_the_spread_of_the_jackknife(rounds):
    action, reward, logging, policy, model, _ = rounds
    of = ope.feedback_of_actions(action, reward, logging, policy, predicted=model)
    r, w, q, v = (np.asarray(part, np.float64) for part in of[:4])

    def without(values):
        return (values.sum() - values) / (len(values) - 1)

    for estimator, each in {
        ope.snips: without(w * r) / without(w),
        ope.sndr: without(v) + without(w * (r - q)) / without(w),
    }.items():
        assert np.std(estimator(of)) == pytest.approx(499 * np.std(each), rel=0.02)


@pytest.fixture(scope="module")
def known():
    """Every round that can happen, how often it does, and what the policy earns."""
    rng = np.random.default_rng(1)
    contexts = rng.dirichlet(np.ones(CONTEXTS))
    logging, policy = (rng.dirichlet(np.ones(ACTIONS), CONTEXTS) for _ in range(2))
    click = rng.uniform(size=(CONTEXTS, 2))[:, [0, 0, 1, 1]]  # depends on the group alone
    x, a, r = (part.ravel() for part in np.indices((CONTEXTS, ACTIONS, 2)))
    chance = contexts[x] * logging[x, a] * np.where(r, click[x, a], 1 - click[x, a])
    of = partial(ope.feedback_of_actions, a, r, logging[x], groups=[0, 0, 1, 1])
    return of, policy[x], click[x], chance, float(contexts @ (policy * click).sum(1))


@pytest.mark.parametrize(
    ("name", "right"), [("ips", False), ("mips", False), ("dr", False), ("direct", True), ("dr", True)]
)
def test_expected_contributions_are_the_value_of_the_policy(known, name, right):
    """DR with a wrong model as with the right one; the direct method only with the right one."""
    of, policy, click, chance, value = known
    wrong = np.full_like(click, 0.3)
    expectation = float(chance @ np.asarray(ALL[name](of(policy, predicted=click if right else wrong))))
    assert expectation == pytest.approx(value, abs=1e-6)
    assert float(chance @ np.asarray(ope.direct(of(policy, predicted=wrong)))) != pytest.approx(value, abs=0.01)


def test_a_right_model_leaves_no_bias_to_cut_weights(known):
    of, policy, click, chance, value = known
    for name in ("switch_dr", "dr_shrinkage"):
        assert float(chance @ np.asarray(ALL[name](of(policy, predicted=click)))) == pytest.approx(value, abs=1e-6)


def test_limits_of_settings(rounds):
    action, reward, logging, policy, model, _ = rounds
    of = ope.feedback_of_actions(action, reward, logging, policy, predicted=model)
    for setting in (ope.switch_dr, ope.dr_shrinkage):
        np.testing.assert_allclose(setting(of, jnp.inf), ope.dr(of), rtol=1e-6)
        np.testing.assert_allclose(setting(of, 0.0), ope.direct(of), rtol=1e-6, atol=1e-6)


def test_delta_is_the_difference_of_two_policies(known):
    of, policy, _, chance, value = known
    other = np.full_like(policy, 1 / ACTIONS)
    d = np.asarray(of(policy).weight - of(other).weight, np.float64)
    r = np.asarray(of(policy).reward)
    beta = np.mean(d**2 * r) / np.mean(d**2)
    np.testing.assert_allclose(ope.delta(of(policy), of(other)), d * (r - beta), rtol=1e-4, atol=1e-5)
    truth = value - float(np.sum(chance * (np.asarray(of(other).weight) * r)))
    assert float(chance @ np.asarray(ope.delta(of(policy), of(other)))) == pytest.approx(truth, abs=1e-5)
    assert not ope.delta(of(policy), of(policy)).any()


def test_delta_varies_less_than_two_estimates(rounds):
    action, reward, logging, policy, _, _ = rounds
    near = 0.9 * policy + 0.1 / ACTIONS
    a, b = (ope.feedback_of_actions(action, reward, logging, pi) for pi in (policy, near))
    assert ope.delta(a, b).std() < (ope.ips(a) - ope.ips(b)).std() < 0.2 * ope.ips(a).std()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(ALL)))
def test_policy_that_was_logged_earns_the_mean_reward(seed, name):
    action, reward, logging, _, model, groups = drawn(seed, 20)
    of = ope.feedback_of_actions(action, reward, logging, logging, predicted=model, groups=groups)
    if name in ("ips", "snips", "mips"):
        np.testing.assert_allclose(ALL[name](of), reward, rtol=1e-5, atol=1e-6)
    moved = ALL[name](of._replace(reward=of.reward + 1, predicted=of.predicted + 1, expected=of.expected + 1))
    assert np.mean(moved) == pytest.approx(float(np.mean(ALL[name](of))) + 1, abs=1e-5)


def test_policies_are_mapped_and_compiled(rounds):
    action, reward, logging, policy, model, _ = rounds
    each = [ope.feedback_of_actions(action, reward, logging, pi, predicted=model) for pi in (policy, logging)]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    found = jax.jit(jax.vmap(ope.sndr))(both)
    np.testing.assert_allclose(found, jnp.stack([ope.sndr(of) for of in each]), rtol=1e-5, atol=1e-6)


def test_weights_of_zero_leave_no_ratio():
    of = ope.feedback([1.0, 1.0], propensity=[0.5, 0.5], probability=[0.0, 0.0])
    assert np.isnan(ope.snips(of)).all()
    assert not ope.ips(of).any()


@pytest.mark.parametrize("name", ["direct", "dr", "sndr", "switch_dr", "dr_shrinkage", "mips"])
def test_what_is_missing_is_named(name):
    of = ope.feedback([1.0], propensity=[0.5], probability=[0.5])
    with pytest.raises(ValueError, match=r"Feedback\.(expected|predicted|marginal), which is None"):
        ALL[name](of)


BAD = {
    r"propensity is 0\.0 at \[1\]": {"propensity": [0.5, 0.0]},
    r"propensity is 1\.5 at \[0\]": {"propensity": [1.5, 0.5]},
    r"probability is -0\.1 at \[1\]": {"probability": [0.5, -0.1]},
    r"reward is nan at \[1\]": {"reward": [1.0, np.nan]},
    r"predicted has shape \(3,\) and reward \(2,\)": {"predicted": [1.0, 2.0, 3.0]},
    r"reward has shape \(0,\)": {"reward": []},
    r"reward has shape \(\)": {"reward": 1.0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_feedback_is_named(message):
    good = {"reward": [1.0, 0.0], "propensity": [0.5, 0.5], "probability": [0.5, 0.5]}
    with pytest.raises(ValueError, match=message):
        ope.feedback(**good | BAD[message])


BAD_ACTIONS = {
    r"whole numbers from 0 to 1": {"action": [0, 2]},
    r"policy must hold distributions.*sum to 0\.9": {"policy": [0.5, 0.4]},
    r"policy has shape \(3, 2\)": {"policy": np.full((3, 2), 0.5)},
    r"groups need the logging policy's probabilities": {"groups": [0, 1], "logging": [0.5, 0.5]},
}


@pytest.mark.parametrize("message", BAD_ACTIONS)
def test_bad_actions_are_named(message):
    good = {"action": [0, 1], "reward": [1.0, 0.0], "logging": np.full((2, 2), 0.5), "policy": [0.5, 0.5]}
    ope.feedback_of_actions(**good)
    with pytest.raises(ValueError, match=message):
        ope.feedback_of_actions(**good | BAD_ACTIONS[message])
