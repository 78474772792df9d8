"""Intervals of contributions, and what depends on what."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recjax import ope
from recjax.ope.intervals import BLOCKS

SKEWED = np.random.default_rng(0).exponential(size=(1, 300)).astype(np.float32)


def by_definition(row, level, resamples, rng):
    """Bootstrap-t as the book has it, in float64."""
    mean, error = row.mean(), row.std(ddof=1) / math.sqrt(len(row))
    drawn = row[rng.integers(len(row), size=(resamples, len(row)))]
    t = (drawn.mean(1) - mean) / (drawn.std(1, ddof=1) / math.sqrt(len(row)))
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    return mean - high * error, mean - low * error


def test_bootstrap_agrees_with_its_definition():
    (found,) = ope.bootstrap_intervals(SKEWED, level=0.9, resamples=6000)
    expected = by_definition(SKEWED[0].astype(float), 0.9, 6000, np.random.default_rng(1))
    width = expected[1] - expected[0]
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.03 * width)
    assert found.mean == pytest.approx(SKEWED.mean(dtype=float), rel=1e-6)
    assert found.high - found.mean > found.mean - found.low
    assert (found.level, found.count) == (0.9, 300)


def test_estimates_are_drawn_together_and_again_alike():
    both = ope.bootstrap_intervals(np.concatenate([SKEWED, -SKEWED]), resamples=200)
    assert both[1].low == pytest.approx(-both[0].high, rel=1e-5)
    assert both == ope.bootstrap_intervals(np.concatenate([SKEWED, -SKEWED]), resamples=200)
    assert both[0] != ope.bootstrap_intervals(SKEWED, resamples=200, seed=1)[0]


def test_blocks_keep_the_interval_of_many_rows():
    rng = np.random.default_rng(2)
    row = (rng.exponential(size=4 * BLOCKS + 5) * (rng.uniform(size=4 * BLOCKS + 5) < 0.1)).astype(np.float32)[None]
    (found,) = ope.bootstrap_intervals(row, resamples=400)
    half = 1.96 * row.std() / math.sqrt(row.size)
    assert found.mean == pytest.approx(row.mean(dtype=float), rel=1e-6)
    np.testing.assert_allclose([found.mean - found.low, found.high - found.mean], half, rtol=0.15)


@pytest.mark.parametrize("row", [[1.0], [2.0, 2.0, 2.0]])
def test_what_does_not_vary_has_no_width(row):
    (found,) = ope.bootstrap_intervals([row])
    assert found.mean == row[0]
    if len(row) > 1:
        assert (found.low, found.high) == (2.0, 2.0)
    else:
        assert np.isnan([found.low, found.high]).all()


def test_bernstein_agrees_with_its_definition_and_is_cautious():
    row = np.random.default_rng(3).uniform(size=200).astype(np.float32)
    found = ope.bernstein_interval(row, 1.0)
    log = math.log(2 / 0.025)
    half = math.sqrt(2 * np.var(row.astype(float), ddof=1) * log / 200) + 7 * log / (3 * 199)
    np.testing.assert_allclose([found.low, found.high], [row.mean() - half, row.mean() + half], rtol=1e-6)
    (boot,) = ope.bootstrap_intervals(row[None])
    assert found.low < boot.low < boot.high < found.high


def test_units_have_the_mean_of_rows_and_the_spread_of_a_ratio():
    rng = np.random.default_rng(4)
    unit = np.sort(np.concatenate([np.arange(200), rng.integers(0, 200, 2000)]))
    row = rng.normal(size=200)[unit] + 1.0
    found = ope.by_unit(row, unit)
    assert found.shape == (200,)
    assert found.mean() == pytest.approx(row.mean(), rel=1e-5)
    without = [row[unit != u].mean() for u in range(200)]
    assert found.std() / math.sqrt(200) == pytest.approx(np.std(without) * 199 / math.sqrt(200), rel=0.05)
    by_rows, by_units = (ope.estimate(row, np.ones(2200), interval="student", unit=of) for of in (None, unit))
    assert by_units.value == pytest.approx(by_rows.value, rel=1e-5)
    assert by_units.interval.half_width > 2 * by_rows.interval.half_width
    # Rows of one unit agree, so they tell less than as many rows of others would.
    assert found.std() / math.sqrt(200) > 2 * row.std() / math.sqrt(len(row))


def test_a_unit_a_row_changes_nothing():
    np.testing.assert_allclose(ope.by_unit(SKEWED, np.arange(300)), SKEWED, rtol=1e-5)


ROW = np.ones(30)
BAD = {
    r"level is 1\.0": lambda: ope.bootstrap_intervals(ROW[None], level=1.0),
    r"resamples is 0": lambda: ope.bootstrap_intervals(ROW[None], resamples=0),
    r"contributions have shape \(30,\)": lambda: ope.bootstrap_intervals(ROW),
    r"contributions have shape \(1, 0\)": lambda: ope.bernstein_interval([], 1.0),
    r"bound is 0\.5, and contributions are 1 apart": lambda: ope.bernstein_interval(np.arange(2.0), 0.5),
    r"interval is 'exact'; it must be one of bootstrap, student, bernstein": lambda: ope.estimate(
        ROW, ROW, interval="exact"
    ),
    r"needs bound": lambda: ope.estimate(ROW, ROW, interval="bernstein"),
    r"contributions have shape \(3,\) and weight \[30\]": lambda: ope.estimate(ROW[:3], ROW),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


@pytest.mark.parametrize("kind", ["bootstrap", "student", "bernstein"])
def test_estimates_hold_what_they_were_made_of(kind):
    found = ope.estimate(SKEWED[0], np.ones(300), interval=kind, bound=10.0, level=0.9)
    assert found.interval.low < found.value < found.interval.high
    assert found.interval.level == 0.9
    assert str(found).endswith("(effective sample 300 of 300)")


# Which estimator.


def test_slope_takes_the_narrowest_that_contradicts_no_wider_one():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(4, 2000))
    noise -= noise.mean(1, keepdims=True)
    spread, mean = np.array([[0.2], [8.0], [1.0], [3.0]]), np.array([[2.0], [1.0], [1.05], [1.1]])
    assert int(ope.slope(np.float32(mean + spread * noise))) == 2
    assert int(ope.slope(np.float32(1.0 + spread * noise))) == 0
    assert int(ope.slope(np.float32(mean + spread * noise)[:1])) == 0


def slope_by_definition(rows):
    half = [1.9623 * row.std(ddof=1) / math.sqrt(len(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -half[i])
    for i in range(1, len(order)):
        for j in range(i):
            a, b = order[i], order[j]
            if abs(rows[a].mean() - rows[b].mean()) > half[a] + (math.sqrt(6) - 1) * half[b]:
                return order[i - 1]
    return order[-1]


@pytest.mark.parametrize("seed", range(5))
def test_slope_agrees_with_its_definition(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(8, 1000)) * rng.uniform(0.1, 3, (8, 1)) + rng.normal(0, 0.15, (8, 1))
    assert int(ope.slope(rows.astype(np.float32))) == slope_by_definition(rows)


def test_tuned_shrinkage_leaves_a_right_model_alone_and_a_wrong_one_behind():
    rng = np.random.default_rng(6)
    weight = rng.pareto(1.5, 3000).astype(np.float32) + 0.01
    truth = rng.uniform(size=3000).astype(np.float32)
    reward = (rng.uniform(size=3000) < truth).astype(np.float32)
    shrunk = ope.tuned(ope.dr_shrinkage)
    right = ope.Feedback(reward, weight, predicted=truth, expected=truth)
    assert np.std(shrunk(right)) < 0.5 * np.std(ope.dr(right))
    wrong = right._replace(predicted=truth * 0 - 3, expected=truth * 0 - 3)
    assert abs(np.mean(shrunk(wrong)) - np.mean(ope.dr(wrong))) < 0.5 * abs(
        np.mean(ope.direct(wrong)) - np.mean(ope.dr(wrong))
    )
    with pytest.raises(ValueError, match="values is empty"):
        ope.tuned(ope.switch_dr, ())
