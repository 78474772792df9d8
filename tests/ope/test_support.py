"""Diagnostics of weights: known tails, exact sizes, and logs that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recjax import ope

RNG = np.random.default_rng(0)
UNIFORM = np.tile([0.0, 2.0], 200)
"""Weights of a policy that always shows one of two items, of a log that shows both alike."""


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_pareto_k_is_that_of_the_distribution(k):
    """Of a whole generalised Pareto distribution every tail has the same k, as maximum likelihood finds too."""
    weight = stats.genpareto.rvs(k, size=60_000, random_state=1)
    found = ope.pareto_k(weight)
    tail = np.sort(weight)[-735:]
    fitted = stats.genpareto.fit(tail - np.sort(weight)[-736], floc=0)[0]
    assert found == pytest.approx(k, abs=0.15)
    assert found == pytest.approx(fitted, abs=0.03)


def test_pareto_k_does_not_change_with_the_unit():
    weight = RNG.pareto(2.0, 2000)
    assert ope.pareto_k(1e3 * weight) == pytest.approx(ope.pareto_k(weight), rel=1e-9)


FEW_VALUES = np.repeat(np.geomspace(1e-3, 30, 25), 40)


@pytest.mark.parametrize("weight", [np.ones(1000), UNIFORM, np.ones(1), np.arange(20.0), np.zeros(100), FEW_VALUES])
def test_weights_without_a_tail_have_no_k(weight):
    assert np.isnan(ope.pareto_k(weight))


def test_support_by_hand():
    found = ope.support([0.0, 1.0, 3.0, 0.0])
    assert (found.count, found.effective, found.largest_weight, found.overlap) == (4, 1.6, 3.0, 0.5)
    assert (found.mean_weight, found.mean_weight_error) == (1.0, pytest.approx(np.std([0, 1, 3, 0], ddof=1) / 2))


def test_overlap_is_what_two_policies_have_in_common():
    b, pi = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    action = np.repeat(np.arange(3), (b * 1000).astype(int))
    assert ope.support((pi / b)[action]).overlap == pytest.approx(np.minimum(b, pi).sum())


def test_a_log_with_support_is_accepted():
    found = ope.support(UNIFORM)
    assert found.problem is None
    assert found.check() is found
    assert found.effective == 200
    assert not found.is_heavy_tailed


REFUSED = {
    r"all weights are 0": np.zeros(50),
    r"0\.5 ± .*instead of 1: the log never shows 50% of what the policy would": UNIFORM / 2,
    r"mean of 2 ± .* propensities are not those": UNIFORM * 2,
    r"50 rows are worth 2\.\d of the policy's own; it takes 10": np.where(np.arange(50) < 2, 25.0, 1e-3),
    r"3 rows are worth 3\.0": np.ones(3),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_log_without_support_is_refused(reason):
    weight = REFUSED[reason]
    with pytest.raises(ope.NoSupportError, match=reason):
        ope.estimate(weight, weight)
    found = ope.estimate(weight, weight, refuse=False)
    assert found.value == pytest.approx(weight.mean(), rel=1e-6)
    assert found.support.problem


def test_a_policy_that_shows_what_was_never_logged_is_found_out():
    """Four items, of which the log never shows one that the policy shows a third of the time."""
    rng = np.random.default_rng(2)
    logging, policy = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.3, 0.2, 0.17, 0.33])
    action = rng.choice(4, 2000, p=logging)
    of = ope.feedback_of_actions(action, np.ones(2000), np.tile(logging, (2000, 1)), policy)
    with pytest.raises(ope.NoSupportError, match=r"never shows 3\d% of what the policy would"):
        ope.estimate(ope.ips(of), of.weight)


def test_a_heavy_tail_is_marked():
    weight = stats.pareto.rvs(1.0, size=20_000, random_state=3)
    assert ope.support(weight / weight.mean()).is_heavy_tailed


@pytest.mark.parametrize("weight", [[], [[1.0]], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        ope.support(weight)
