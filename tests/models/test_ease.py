"""EASE against its formula in float64 NumPy, least squares with each item left out, and a case by hand."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import Interactions
from recjax.models.collaborative import ease
from recjax.types import PAD_ID

USERS, ITEMS = 40, 18


def random_log(seed=0):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((USERS, ITEMS)) < 0.3, rng.integers(1, 6, (USERS, ITEMS)), 0)
    dense[:, 4] = 1  # an item that everyone has
    dense[:, 7] = 0  # an item that nobody has
    user, item = np.nonzero(dense)
    return Interactions(user, item, rating=dense[user, item]), dense.astype(np.float64)


def dense_of(weight, dense):
    return (dense > 0).astype(float) if weight == "binary" else dense


@pytest.mark.parametrize("weight", ["binary", "rating"])
@pytest.mark.parametrize("regularization", [0.5, 200.0])
@pytest.mark.parametrize("block", [5, 2048])
def test_is_the_closed_form_and_the_constrained_least_squares(monkeypatch, weight, regularization, block):
    monkeypatch.setattr(importlib.import_module("recjax.models.collaborative.ease"), "BLOCK_ITEMS", block)
    log, dense = random_log()
    x = dense_of(weight, dense)
    weights = np.asarray(ease(log, ITEMS, regularization=regularization, weight=weight).weights)

    p = np.linalg.inv(x.T @ x + regularization * np.eye(ITEMS))
    formula = np.eye(ITEMS) - p / np.diag(p)
    np.testing.assert_allclose(weights, formula, rtol=1e-5, atol=1e-7)
    assert not np.diag(weights).any()

    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        rows = np.concatenate([x[:, others], np.sqrt(regularization) * np.eye(ITEMS - 1)])
        solved = np.linalg.lstsq(rows, np.append(x[:, item], np.zeros(ITEMS - 1)), rcond=None)[0]
        np.testing.assert_allclose(weights[others, item], solved, rtol=1e-5, atol=1e-7)


def test_the_gradient_vanishes_off_the_diagonal():
    log, dense = random_log(1)
    x = dense_of("binary", dense)
    weights = np.asarray(ease(log, ITEMS, regularization=3.0).weights, np.float64)
    gradient = x.T @ (x @ weights - x) + 3.0 * weights
    np.testing.assert_allclose(gradient[~np.eye(ITEMS, dtype=bool)], 0.0, atol=1e-5)


def test_a_case_by_hand():
    # Both items have two users and share one: X'X + I = [[3, 1], [1, 3]], whose inverse is [[3, -1], [-1, 3]] / 8.
    log = Interactions(user=[0, 0, 1, 2], item=[0, 1, 0, 1])
    model = ease(log, 2, regularization=1.0)
    np.testing.assert_allclose(model.weights, [[0, 1 / 3], [1 / 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(model.scores(jnp.array([[0], [1], [PAD_ID]])), [[0, 1 / 3], [1 / 3, 0], [0, 0]])


def test_scores_sum_the_rows_of_distinct_known_items():
    log, _ = random_log()
    model = ease(log, ITEMS, regularization=1.0)
    histories = jnp.array([[0, 3, 5, 3], [PAD_ID, 1, 1, ITEMS], [PAD_ID] * 4, [7, 17, 4, PAD_ID]])
    weights = np.asarray(model.weights, np.float64)
    expected = [weights[items].sum(0) for items in ([0, 3, 5], [1], [], [4, 7, 17])]
    np.testing.assert_allclose(model.scores(histories), expected, rtol=1e-5, atol=1e-7)
    assert model.scores(histories[:0]).shape == (0, ITEMS)
    assert not model.scores(histories[:, :0]).any()


def test_nothing_speaks_for_an_item_that_nobody_has():
    model = ease(random_log()[0], ITEMS, regularization=1.0)
    assert not model.weights[7].any()
    assert not model.weights[:, 7].any()


@pytest.mark.parametrize("regularization", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_regularization(regularization):
    with pytest.raises(ValueError, match=r"regularization is .* needs a finite number above 0"):
        ease(random_log()[0], ITEMS, regularization=regularization)


def test_regularization_that_rounding_swallows():
    # Ten items that always come together make a matrix of rank one.
    log = Interactions(np.repeat(np.arange(1000), 10), np.tile(np.arange(10), 1000))
    with pytest.raises(ValueError, match="not positive definite in float64; regularization must be larger"):
        ease(log, 10, regularization=1e-30)


def test_a_catalogue_that_is_too_big():
    with pytest.raises(ValueError, match="num_items is 50000, so ease would need 19 GiB"):
        ease(Interactions([0], [0]), 50_000)
