"""The permutation test of two samples: right when they are alike, sharp when they are not."""

from __future__ import annotations

import numpy as np
import pytest

from recjax.envs import two_sample_test


def test_samples_of_one_distribution_have_p_values_without_preference():
    rng = np.random.default_rng(0)
    found = [
        two_sample_test(
            rng.exponential(size=(25, 3)), rng.exponential(size=(30, 3)), permutations=99, seed=seed
        ).p_value
        for seed in range(60)
    ]
    # Uniform on 0.01, 0.02 .. 1: mean 0.505, of 60 draws within 3 standard errors; 12 at most 0.2, give or take 9.
    assert abs(np.mean(found) - 0.505) < 3 * 0.289 / np.sqrt(60)
    assert abs(np.sum(np.array(found) <= 0.2) - 12) < 10


def test_a_shift_and_a_correlation_are_found():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 150, 2))
    assert two_sample_test(one, other + 0.5, permutations=199).p_value == 1 / 200
    alike = other @ np.linalg.cholesky(np.array([[1.0, 0.9], [0.9, 1.0]])).T
    assert two_sample_test(one, alike, permutations=199).p_value < 0.02


def test_discrepancy_is_the_one_by_hand():
    first, second = np.array([[0.0], [2.0]]), np.array([[1.0], [3.0], [3.0]])
    points = np.concatenate([first, second])[:, 0]
    scaled = points / points.std()
    squares = (scaled[:, None] - scaled[None]) ** 2
    kernel = np.exp(-squares / np.median(squares[squares > 0]))
    by_hand = kernel[:2, :2].mean() + kernel[2:, 2:].mean() - 2 * kernel[:2, 2:].mean()
    found = two_sample_test(first, second, permutations=999)
    assert found.discrepancy == pytest.approx(by_hand)
    assert found.sizes == (2, 3)
    # Of the ten ways to choose two of five points, those that are as far apart.
    ways = []
    for i in range(5):
        for j in range(i):
            signs = np.full(5, -1 / 3)
            signs[[i, j]] = 1 / 2
            ways.append(signs @ kernel @ signs)
    assert found.p_value == pytest.approx(np.mean(np.array(ways) >= by_hand - 1e-9), abs=0.05)


def test_the_same_points_cannot_be_told_apart():
    same = np.ones((3, 2))
    found = two_sample_test(same, same, permutations=9)
    assert (found.discrepancy, found.p_value) == (pytest.approx(0.0, abs=1e-12), 1.0)


@pytest.mark.parametrize(
    ("first", "second", "permutations", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), 9, r"shapes \(3, 2\) and \(3, 1\)"),
        (np.zeros((1, 2)), np.zeros((3, 2)), 9, "two rows or more"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), 9, "infinite or NaN"),
        (np.zeros((3, 1)), np.zeros((3, 1)), 0, "permutations is 0"),
    ],
)
def test_bad_samples_are_refused(first, second, permutations, message):
    with pytest.raises(ValueError, match=message):
        two_sample_test(first, second, permutations=permutations)
