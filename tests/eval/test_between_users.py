"""Metrics between users, against Python's sets."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import eval

N, PAD = 9, -1
LISTS = np.array([[0, 1, 2], [2, 1, 8], [3, 4, 5], [0, 2, 1], [8, 7, 6]])
ODD = np.array([[0, 0, PAD], [PAD, PAD, PAD], [N, 0, 4], [4, 4, 5], [N, N + 3, PAD]])
"""With repeats, padding, items that are not known, and two users without an item."""
CASES = pytest.mark.parametrize("lists", [LISTS, ODD, LISTS[:1], ODD[3:]], ids=["full", "odd", "one", "lonely"])


inter_user_diversity = jax.jit(eval.inter_user_diversity, static_argnums=1)
mean_jaccard = jax.jit(eval.mean_jaccard, static_argnums=1)


def sets(lists):
    return [{int(item) for item in row if 0 <= item < N} for row in lists]


def mean(values):
    values = list(values)
    return np.mean(values) if values else np.nan


@CASES
def test_inter_user_diversity_is_the_mean_over_pairs(lists):
    known = [row for row in sets(lists) if row]
    expected = mean(1 - len(a & b) / lists.shape[1] for a, b in itertools.combinations(known, 2))
    assert inter_user_diversity(lists, N) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_inter_user_diversity_extremes():
    assert inter_user_diversity(np.tile(np.arange(3), (5, 1)), N) == 0
    assert inter_user_diversity(np.array([[0, 1, 2], *[[PAD] * 3] * 3, [3, 4, 5]]), N) == 1


@CASES
def test_mean_jaccard_of_all_pairs(lists):
    known = [row for row in sets(lists) if row]
    expected = mean(len(a & b) / len(a | b) for a, b in itertools.combinations(known, 2))
    assert mean_jaccard(lists, N) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("lists", [LISTS, ODD], ids=["full", "odd"])
def test_mean_jaccard_of_given_pairs(lists):
    partner, known = np.array([3, 0, 3, 0, 4]), sets(lists)  # the last is their own partner, which is no pair
    pairs = [(known[a], known[b]) for a, b in enumerate(partner) if a != b and known[a] and known[b]]
    found = mean_jaccard(lists, N, partner=partner)
    assert found == pytest.approx(mean(len(a & b) / len(a | b) for a, b in pairs), abs=1e-6)


def test_bad_lists_are_named():
    with pytest.raises(ValueError, match=r"slates has shape \(3,\); it must be \[U, L\]"):
        eval.inter_user_diversity(jnp.arange(3), N)
    with pytest.raises(ValueError, match="num_items is 0"):
        eval.mean_jaccard(jnp.array(LISTS), 0)
    with pytest.raises(ValueError, match=r"partner has shape \(2,\); it must be \[5\]"):
        eval.mean_jaccard(jnp.array(LISTS), N, partner=jnp.arange(2))
    with pytest.raises(ValueError, match="lists must hold integer ids"):
        eval.mean_jaccard(jnp.zeros((2, 2)), N)
