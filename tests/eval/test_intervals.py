"""Intervals against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recjax.eval import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    t_quantile,
    unpaired_difference,
)

VALUES = np.random.default_rng(0).gamma(2.0, size=60)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("df", [*range(1, 12), 29, 30, 99, 100, 999, 1000, 1001, 50_000])
def test_t_quantile_agrees_with_scipy(df, level):
    assert t_quantile(df, level) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-7)


@pytest.mark.parametrize("count", [2, 5, 60])
def test_mean_interval_agrees_with_scipy(count):
    values = VALUES[:count]
    got = mean_interval(values, level=0.9)
    expected = stats.t.interval(0.9, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose((got.mean, got.low, got.high), (values.mean(), *expected), rtol=1e-9)
    assert got.half_width == pytest.approx((expected[1] - expected[0]) / 2)
    assert got.count == count


def test_seeds_without_a_value_are_left_out():
    assert mean_interval([1.0, np.nan, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])
    one = mean_interval([np.nan, 3.0])
    assert (one.mean, one.count) == (3.0, 1)
    assert np.isnan([one.low, one.high]).all()
    none = mean_interval([np.nan])
    assert np.isnan([none.mean, none.low, none.high]).all()
    assert none.count == 0


def test_equal_seeds_have_no_width():
    interval = mean_interval([0.5, 0.5, 0.5])
    assert interval.low == interval.high == 0.5


@pytest.mark.parametrize(("count", "others"), [(2, 2), (5, 3), (5, 40)])
def test_unpaired_difference_is_that_of_welch(count, others):
    a, b = VALUES[:count], 3 * VALUES[-others:] + 1
    got = unpaired_difference(a, b, level=0.9)
    test = stats.ttest_ind(a, b, equal_var=False)
    error = (got.mean - 0.0) / test.statistic
    half = stats.t.ppf(0.95, int(test.df)) * error
    np.testing.assert_allclose((got.mean, got.half_width), (a.mean() - b.mean(), half), rtol=1e-7)
    assert got.count == min(count, others)
    assert np.isnan(unpaired_difference(a, b[:1]).low)
    assert unpaired_difference([1.0, 1.0], [0.0, 0.0]).high == 1.0


def test_paired_difference_uses_the_pairs():
    other = VALUES + np.random.default_rng(1).normal(0.1, 0.01, 60)
    got = paired_difference(other, VALUES)
    low, high = stats.ttest_rel(other, VALUES).confidence_interval(0.95)
    np.testing.assert_allclose((got.low, got.high), (low, high), rtol=1e-7)
    assert got.low > 0
    with pytest.raises(ValueError, match="shapes"):
        paired_difference([1.0], [1.0, 2.0])


def test_bootstrap_agrees_with_scipy():
    got = bootstrap_interval(VALUES, resamples=4000)
    expected = stats.bootstrap((VALUES,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5))
    width = got.high - got.low
    np.testing.assert_allclose((got.low, got.high), expected.confidence_interval, atol=0.06 * width)
    assert got.mean == pytest.approx(VALUES.mean())


def test_bootstrap_is_seeded_and_leaves_nan_out():
    with_nan = np.append(VALUES, np.nan)
    assert bootstrap_interval(with_nan, resamples=50) == bootstrap_interval(VALUES, resamples=50)
    assert bootstrap_interval(VALUES, resamples=50, seed=1) != bootstrap_interval(VALUES, resamples=50)
    assert np.isnan(bootstrap_interval([1.0]).low)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        mean_interval(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="95"):
        mean_interval([1.0, 2.0], level=95)
    with pytest.raises(ValueError, match="df is 0"):
        t_quantile(0, 0.95)
    with pytest.raises(ValueError, match="level is 95"):
        t_quantile(3, 95)
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap_interval([1.0, 2.0], resamples=0)


def test_intervals_as_text():
    interval = Interval(mean=0.12345, low=0.1, high=0.15, level=0.95, count=4)
    assert str(interval) == f"{interval}" == "0.1235 [0.1, 0.15]"
    assert f"{interval:+.2f}" == "+0.12 [+0.10, +0.15]"
    assert interval.plus_minus() == "0.123±0.025"
    assert interval.plus_minus(1) == "0.1±0.0"
    big = Interval(mean=1200.0, low=952.0, high=1448.0, level=0.95, count=3)
    assert big.plus_minus() == "1200±248"
    equal = mean_interval([5.0, 5.0])
    assert equal.plus_minus() == "5.000±0.000"
    one = mean_interval([5.0])
    assert (one.plus_minus(), one.plus_minus(2), str(one)) == ("5.000", "5.00", "5 [nan, nan]")
