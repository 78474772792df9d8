"""Alternating least squares against the same written out in float64 NumPy."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import top_k
from recjax.data import Interactions
from recjax.models import als
from recjax.types import PAD_ID

USERS, ITEMS, FACTORS, REGULARIZATION, ALPHA = 25, 15, 4, 0.5, 3.0
OPTIONS = {"factors": FACTORS, "regularization": REGULARIZATION, "alpha": ALPHA}


def random_log():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((USERS, ITEMS)) < 0.3, rng.integers(1, 4, (USERS, ITEMS)), 0)
    dense[:, 0] = 1  # an item that everyone has
    dense[:, 5] = 0  # an item that nobody has
    dense[3] = 1  # a user who has everything, which refills item 5 by one event
    user, item = np.nonzero(dense)
    return Interactions(user, item, rating=dense[user, item]), dense.astype(np.float64)


def numpy_half_sweep(r, y, regularization=REGULARIZATION, alpha=ALPHA):
    """Solves for every row of ``r`` with the loops of the definition."""
    x = np.zeros((len(r), y.shape[1]))
    for u in range(len(r)):
        a = regularization * np.eye(y.shape[1])
        b = np.zeros(y.shape[1])
        for i in range(len(y)):
            confidence = 1 + alpha * r[u, i]
            a += confidence * np.outer(y[i], y[i])
            b += confidence * (r[u, i] > 0) * y[i]
        x[u] = np.linalg.solve(a, b)
    return x


def objective(r, x, y):
    error = (r > 0) - x @ y.T
    return ((1 + ALPHA * r) * error**2).sum() + REGULARIZATION * ((x**2).sum() + (y**2).sum())


@pytest.mark.parametrize("weight", ["binary", "rating"])
@pytest.mark.parametrize("block", [1, 1024])
def test_equals_numpy_from_the_same_start_and_descends(monkeypatch, weight, block):
    module = importlib.import_module("recjax.models.collaborative.als")
    monkeypatch.setattr(module, "BLOCK_CHUNKS", block)
    monkeypatch.setattr(module, "CHUNK", 4)
    log, dense = random_log()
    r = (dense > 0).astype(float) if weight == "binary" else dense
    key = jax.random.key(3)
    y = np.asarray(als(log, ITEMS, sweeps=0, key=key, weight=weight, **OPTIONS).items, np.float64)
    values = [np.inf]
    for sweeps in range(1, 4):
        x = numpy_half_sweep(r, y)
        y = numpy_half_sweep(r.T, x)
        fitted = als(log, ITEMS, sweeps=sweeps, key=key, weight=weight, **OPTIONS)
        np.testing.assert_allclose(fitted.items, y, rtol=1e-3, atol=1e-5)
        values.append(objective(r, numpy_half_sweep(r, np.asarray(fitted.items, np.float64)), fitted.items))
        assert values[-1] < values[-2]


def test_fold_in_is_the_minimiser():
    log, _ = random_log()
    model = als(log, ITEMS, sweeps=2, **OPTIONS)
    history = np.array([[PAD_ID, 1, 2], [4, 4, ITEMS], [PAD_ID] * 3])
    r = np.zeros((3, ITEMS))
    r[0, [1, 2]] = r[1, 4] = 1
    y = np.asarray(model.items, np.float64)
    x = numpy_half_sweep(r, y)
    np.testing.assert_allclose(model.fold_in(history), x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.scores(jnp.asarray(history)), x @ y.T, rtol=1e-4, atol=1e-6)
    assert not np.asarray(model.fold_in(history)[2]).any()


def test_item_index_ranks_as_scores_do():
    log, _ = random_log()
    model = als(log, ITEMS, sweeps=2, **OPTIONS)
    history = jnp.array([[1, 2]])
    _, ids = top_k(model.fold_in(history), model.item_index(), 3)
    np.testing.assert_array_equal(ids[0], np.argsort(-np.asarray(model.scores(history)[0]))[:3])


def test_the_key_decides_the_start():
    log, _ = random_log()
    one, same, other = (als(log, ITEMS, sweeps=1, key=jax.random.key(seed), **OPTIONS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.items, same.items)
    assert not np.allclose(one.items, other.items)


@pytest.mark.parametrize("top", [2, 4, 6])
def test_raw_counts_equal_numpy(top):
    """Counts up to a million with alpha 40 make equations that float32 does not solve."""
    rng = np.random.default_rng(top)
    users, items, factors = 60, 40, 16
    r = np.where(rng.random((users, items)) < 0.2, np.floor(10 ** rng.uniform(0, top, (users, items))), 0)
    r[0, 0] = 10**top
    user, item = np.nonzero(r)
    log = Interactions(user, item, rating=r[user, item])
    options = {"factors": factors, "alpha": 40.0, "regularization": 5.0, "weight": "rating"}
    y = np.asarray(als(log, items, sweeps=0, **options).items, np.float64)
    for _ in range(2):
        y = numpy_half_sweep(r.T, numpy_half_sweep(r, y, 5.0, 40.0), 5.0, 40.0)
    model = als(log, items, sweeps=2, **options)
    assert model.items.dtype == model.gram.dtype == jnp.float32
    np.testing.assert_allclose(model.items, y, atol=2e-3 * np.abs(y).max())
    np.testing.assert_allclose(model.gram, y.T @ y + 5 * np.eye(factors), rtol=1e-2, atol=1e-2)
    x = numpy_half_sweep((np.arange(items) < 3)[None].astype(float), np.asarray(model.items, np.float64), 5.0, 40.0)
    np.testing.assert_allclose(model.scores(jnp.array([[0, 1, 2]])), x @ np.asarray(model.items).T, atol=1e-5)
    assert jnp.zeros(1).dtype == jnp.float32, "double precision is on outside of the fit"


def test_entries_that_float64_does_not_solve_either():
    log = Interactions([0, 0, 1], [0, 1, 1], rating=[1, 9e11, 3])
    with pytest.raises(ValueError, match=r"entries run up to 9e\+11 with alpha=4000.* Use smaller entries"):
        als(log, 2, factors=2, alpha=4000.0, weight="rating")


@pytest.mark.parametrize(
    "options",
    [
        {"factors": 0},
        {"sweeps": -1},
        {"regularization": 0.0},
        {"regularization": float("inf")},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"alpha": 1e6},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match="als needs factors >= 1"):
        als(random_log()[0], ITEMS, **options)
