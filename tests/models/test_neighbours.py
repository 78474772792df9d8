"""Neighbours and popularity against scikit-learn, float64 NumPy and cases by hand."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from recjax.data import Interactions
from recjax.models import item_knn, popularity, user_knn
from recjax.models.collaborative import multi_hot, user_item_matrix
from recjax.types import PAD_ID, Behaviour

USERS, ITEMS = 30, 20
ONE_BLOCK = 2**25


def set_block_elements(monkeypatch, name, elements):
    # The packages export functions under the names of their modules.
    monkeypatch.setattr(importlib.import_module(f"recjax.models.collaborative.{name}"), "BLOCK_ELEMENTS", elements)


def random_log(seed=0):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((USERS, ITEMS)) < 0.3, rng.integers(1, 6, (USERS, ITEMS)), 0)
    dense[0, 0] = 3
    user, item = np.nonzero(dense)
    return Interactions(user, item, rating=dense[user, item]), dense.astype(np.float64)


def dense_of(weight, dense):
    return (dense > 0).astype(float) if weight == "binary" else dense


def padded(rows):
    length = max(1, *(len(row) for row in rows))
    return np.array([[PAD_ID] * (length - len(row)) + list(row) for row in rows])


HISTORIES = [[0, 3, 5], [1], [], [2, 4, 6, 8, 10], [19, 0, 19, ITEMS]]
BINARY = np.array([[float(item in history) for item in range(ITEMS)] for history in HISTORIES])


@pytest.mark.parametrize("weight", ["binary", "rating"])
@pytest.mark.parametrize("shrinkage", [0.0, 7.0])
@pytest.mark.parametrize(
    ("elements", "sparse"), [(ONE_BLOCK, False), (ITEMS * 6, False), (ITEMS * 6, True), (None, False)]
)
def test_item_knn_is_truncated_cosine(monkeypatch, weight, shrinkage, elements, sparse):
    cost = 0 if sparse else np.inf
    monkeypatch.setattr(importlib.import_module("recjax.models.collaborative.item_knn"), "SPARSE_COST", cost)
    if elements is None:  # The way of large catalogues, in blocks of 7 items.
        monkeypatch.setattr(importlib.import_module("recjax.models.collaborative.item_knn"), "DENSE_ITEMS", 7)
    else:
        set_block_elements(monkeypatch, "item_knn", elements)
    log, dense = random_log()
    x = dense_of(weight, dense)
    norms = np.linalg.norm(x, axis=0)
    similarity = cosine_similarity(x.T)
    np.fill_diagonal(similarity, 0)
    similarity *= np.outer(norms, norms) / (np.outer(norms, norms) + shrinkage)
    truncated = np.zeros_like(similarity)
    for item, row in enumerate(similarity):
        best = sorted(range(ITEMS), key=lambda other: (-np.float32(row[other]), other))[:4]
        truncated[item, best] = row[best]
    model = item_knn(log, ITEMS, neighbours=4, shrinkage=shrinkage, weight=weight)
    np.testing.assert_allclose(model.scores(padded(HISTORIES)), BINARY @ truncated, rtol=1e-5, atol=1e-6)
    assert (np.diff(model.weights, axis=1) <= 0).all()


def test_item_neighbours_are_those_of_scikit_learn():
    log, dense = random_log(1)
    distance, ids = NearestNeighbors(n_neighbors=6, metric="cosine").fit(dense.T).kneighbors(dense.T)
    model = item_knn(log, ITEMS, neighbours=5, shrinkage=0, weight="rating")
    np.testing.assert_allclose(model.weights, 1 - distance[:, 1:], atol=1e-6)
    np.testing.assert_array_equal(model.ids, ids[:, 1:])


@pytest.mark.parametrize("weight", ["binary", "rating"])
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
@pytest.mark.parametrize("elements", [ONE_BLOCK, ITEMS * 7])
def test_user_knn_is_a_sum_over_nearest_users(monkeypatch, weight, shrinkage, elements):
    set_block_elements(monkeypatch, "user_knn", elements)
    log, dense = random_log()
    x = dense_of(weight, dense)
    scale = np.outer(np.linalg.norm(BINARY, axis=1), np.linalg.norm(x, axis=1)) + shrinkage
    similarity = np.divide(BINARY @ x.T, scale, out=np.zeros_like(scale), where=scale > 0)
    expected = np.zeros((len(HISTORIES), ITEMS))
    for row, values in enumerate(similarity):
        nearest = sorted(range(USERS), key=lambda user: (-np.float32(values[user]), user))[:5]
        expected[row] = sum(values[user] * x[user] for user in nearest)
    model = user_knn(log, ITEMS, neighbours=5, shrinkage=shrinkage, weight=weight)
    np.testing.assert_allclose(model.scores(padded(HISTORIES)), expected, rtol=1e-5, atol=1e-5)


def test_a_case_by_hand():
    # Users 0 and 1 have {0, 1}, user 2 has {1, 2}.
    log = Interactions(user=[0, 0, 1, 1, 2, 2], item=[0, 1, 0, 1, 1, 2])
    items = item_knn(log, 3, neighbours=2, shrinkage=0)
    # cos(0,1) = 2/sqrt(2*3), cos(1,2) = 1/sqrt(3), cos(0,2) = 0.
    np.testing.assert_allclose(items.weights, [[2 / 6**0.5, 0], [2 / 6**0.5, 3**-0.5], [3**-0.5, 0]], rtol=1e-6)
    assert items.ids.tolist() == [[1, PAD_ID], [0, 2], [1, PAD_ID]]
    np.testing.assert_allclose(items.scores(jnp.array([[0, 2]])), [[0, 2 / 6**0.5 + 3**-0.5, 0]], rtol=1e-6)
    users = user_knn(log, 3, neighbours=1, shrinkage=0)
    # {2} is nearest to user 2, at 1/sqrt(2).
    np.testing.assert_allclose(users.scores(jnp.array([[2]])), [[0, 2**-0.5, 2**-0.5]], rtol=1e-6)
    assert popularity(log, 3).scores(jnp.array([[0], [PAD_ID]])).tolist() == [[2, 3, 1]] * 2


def test_weights_of_repeated_events():
    log = Interactions(
        user=[0, 0, 0, 5],
        item=[1, 1, 0, 1],
        rating=[2, 3, 0, 1],
        behaviour=[Behaviour.VIEW, Behaviour.PURCHASE, Behaviour.CART, Behaviour.VIEW],
    )
    counts = {name: popularity(log, 3, weight=name).count.tolist() for name in ("binary", "behaviour", "rating")}
    assert counts == {"binary": [1, 2, 0], "behaviour": [3, 7, 0], "rating": [0, 6, 0]}


def test_matrix_and_its_transpose_are_the_dense_matrix():
    log, dense = random_log(2)
    matrix = user_item_matrix(log, ITEMS, "rating")
    for sparse, expected in ((matrix, dense), (matrix.transpose(), dense.T)):
        rebuilt = np.zeros(expected.shape)
        rebuilt[sparse.user, sparse.item] = sparse.weight
        np.testing.assert_array_equal(rebuilt, expected)
        np.testing.assert_array_equal(np.diff(sparse.starts), (expected > 0).sum(axis=1))


def test_multi_hot_of_odd_histories():
    np.testing.assert_array_equal(multi_hot(jnp.asarray(padded(HISTORIES)), ITEMS), BINARY)


@pytest.mark.parametrize("fit", [item_knn, user_knn])
@pytest.mark.parametrize(
    "options", [{"neighbours": 0}, {"shrinkage": -1.0}, {"shrinkage": float("nan")}, {"shrinkage": np.inf}]
)
def test_bad_options(fit, options):
    with pytest.raises(ValueError, match="neighbours must be at least 1 and shrinkage at least 0; got"):
        fit(random_log()[0], ITEMS, **options)
