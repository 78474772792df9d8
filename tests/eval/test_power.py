"""Power and interquartile means, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recjax.eval import detectable_difference, interquartile_interval, interquartile_mean, runs_needed


@pytest.mark.parametrize("count", [5, 10, 40])
@pytest.mark.parametrize(("level", "power"), [(0.95, 0.8), (0.9, 0.9)])
def test_power_is_that_of_the_noncentral_t(count, level, power):
    difference = detectable_difference(2.0, count, level=level, power=power)
    critical = stats.t.ppf((1 + level) / 2, count - 1)
    found = stats.nct.sf(critical, count - 1, difference * np.sqrt(count) / 2.0)
    assert found == pytest.approx(power, abs=0.03)


@pytest.mark.parametrize(("difference", "deviation"), [(1.0, 1.0), (0.3, 1.0), (5.0, 1.0), (0.05, 2.0)])
def test_runs_needed_is_the_smallest_number_that_suffices(difference, deviation):
    count = runs_needed(difference, deviation)
    assert detectable_difference(deviation, count) <= difference
    if 2 < count < 50:
        assert detectable_difference(deviation, count - 1) > difference


def test_what_no_number_of_runs_tells():
    assert runs_needed(0.0, 1.0) is None
    assert runs_needed(1e-6, 1.0) is None
    with pytest.raises(ValueError, match="count is 1 and power"):
        detectable_difference(1.0, 1)


@pytest.mark.parametrize("count", [4, 8, 100])
def test_interquartile_mean_is_the_trimmed_mean(count):
    values = np.random.default_rng(count).normal(size=count)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert interquartile_mean([*values, np.nan]) == pytest.approx(stats.trim_mean(values, 0.25))


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        interval = interquartile_interval(rng.normal(size=(3, 12)), resamples=200, seed=seed)
        inside += interval.low <= 0 <= interval.high
    assert 0.88 <= inside / 200 <= 0.99


def test_runs_are_drawn_within_tasks():
    """Tasks of quite different levels: a bootstrap over all runs alike would mix them."""
    values = np.array([[0.0] * 5, [100.0] * 5])
    interval = interquartile_interval(values)
    assert (interval.low, interval.high) == (interval.mean, interval.mean)
