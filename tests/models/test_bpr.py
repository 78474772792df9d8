"""BPR against its formula by hand, plain NumPy descent on a planted log, and SciPy for folding in."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from recjax.catalogue import top_k
from recjax.data import Interactions
from recjax.models.collaborative import BPR, bpr, popularity
from recjax.types import PAD_ID

USERS, ITEMS, RANK = 150, 80, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def planted_log():
    """Training log and held-out pairs of users whose taste has rank 4, and of items of unlike popularity."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(USERS, RANK)) @ rng.normal(size=(RANK, ITEMS)) + 0.7 * rng.normal(size=ITEMS)
    noisy = taste + 0.5 * rng.gumbel(size=taste.shape)
    had = np.argsort(-noisy, axis=1)[:, :20]
    shuffled = rng.permuted(had, axis=1)
    train, held = shuffled[:, :15], shuffled[:, 15:]
    return Interactions(np.repeat(np.arange(USERS), 15), train.ravel()), train, held


def auc(scores, train, held):
    """The mean over users of how often a held-out item beats one that the user never had."""
    scores, values = np.asarray(scores, np.float64), []
    for user, row in enumerate(scores):
        never = np.setdiff1d(np.arange(ITEMS), np.concatenate([train[user], held[user]]))
        values.append((row[held[user]][:, None] > row[never][None, :]).mean())
    return np.mean(values)


def numpy_bpr(train, factors, learning_rate, regularization, epochs):
    """LearnBPR of the paper: plain steps, one triple at a time."""
    rng = np.random.default_rng(5)
    p, q = (0.1 * rng.normal(size=(rows, factors)) for rows in (USERS, ITEMS))
    b = np.zeros(ITEMS)
    pairs = [(user, item) for user in range(USERS) for item in train[user]]
    had = [set(row) for row in train]
    for _ in range(epochs):
        for index in rng.permutation(len(pairs)):
            u, i = pairs[index]
            j = rng.integers(ITEMS)
            while j in had[u]:
                j = rng.integers(ITEMS)
            slope = sigmoid(-(p[u] @ (q[i] - q[j]) + b[i] - b[j]))
            user = p[u].copy()
            p[u] += learning_rate * (slope * (q[i] - q[j]) - regularization * p[u])
            q[i] += learning_rate * (slope * user - regularization * q[i])
            q[j] += learning_rate * (-slope * user - regularization * q[j])
            b[i] += learning_rate * (slope - regularization * b[i])
            b[j] += learning_rate * (-slope - regularization * b[j])
    return p @ q.T + b


@pytest.fixture(scope="module")
def fitted():
    log, train, held = planted_log()
    return bpr(log, ITEMS, factors=8, epochs=40, batch_size=256), log, train, held


def test_one_step_on_one_triple():
    log = Interactions(user=[4], item=[1])
    options = {"factors": 3, "regularization": 0.5, "learning_rate": 0.2}
    stepped = 0
    for seed in range(6):
        key = jax.random.key(seed)
        start = bpr(log, 2, epochs=0, key=key, **options)
        after = bpr(log, 2, epochs=1, key=key, **options)
        p, q = np.asarray(start.users[0], np.float64), np.asarray(start.items, np.float64)
        slope = sigmoid(-(p @ (q[1] - q[0])))  # biases start at 0
        gradients = {
            "user": -slope * (q[1] - q[0]) + 0.5 * p,
            1: np.append(-slope * p + 0.5 * q[1], -slope),
            0: np.append(slope * p + 0.5 * q[0], slope),
        }
        # The first step of row-wise Adagrad.
        step = {name: -0.2 * g / np.sqrt(np.mean(g**2)) for name, g in gradients.items()}
        moved = np.column_stack([after.items - start.items, after.bias - start.bias])
        if not moved.any():  # The negative that was drawn is the positive.
            np.testing.assert_array_equal(after.users, start.users)
            continue
        stepped += 1
        np.testing.assert_allclose(after.users[0] - start.users[0], step["user"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moved, [step[0], step[1]], rtol=1e-4, atol=1e-6)
    assert 0 < stepped < 6


@pytest.mark.parametrize("negatives", [1, 3])
def test_loss_and_gradient_of_a_batch(negatives):
    module = importlib.import_module("recjax.models.collaborative.bpr")
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(4, 3)), rng.normal(size=(6, 4))
    user, positive = np.array([0, 3, 3]), np.array([1, 5, 0])
    drawn, hits = rng.integers(0, 6, (3, negatives)), np.zeros((3, negatives), bool)
    hits[0, 0] = hits[2] = True
    loss, d_p, d_q = np.zeros(3), np.zeros_like(p), np.zeros_like(q)
    for row, (u, i) in enumerate(zip(user, positive, strict=True)):
        kept = drawn[row][~hits[row]]
        for j in kept:
            x = np.append(p[u], 1)
            margin = x @ (q[i] - q[j])
            loss[row] += (np.log1p(np.exp(-margin)) + 0.05 * (p[u] @ p[u] + q[i] @ q[i] + q[j] @ q[j])) / len(kept)
            slope = sigmoid(-margin)
            d_p[u] += (-slope * (q[i] - q[j])[:3] + 0.1 * p[u]) / len(kept)
            d_q[i] += (-slope * x + 0.1 * q[i]) / len(kept)
            d_q[j] += (slope * x + 0.1 * q[j]) / len(kept)
    params = {"user": jnp.asarray(p, jnp.float32), "item": jnp.asarray(q, jnp.float32)}
    losses = lambda params: module._losses(params, user, positive, drawn, jnp.asarray(hits), 0.1)  # noqa: E731
    np.testing.assert_allclose(losses(params), loss, rtol=1e-5)
    gradient = jax.grad(lambda params: losses(params).sum())(params)
    np.testing.assert_allclose(gradient["user"], d_p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient["item"], d_q, rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=5).filter(any))
def test_negatives_that_a_user_had_are_found(rows):
    module = importlib.import_module("recjax.models.collaborative.bpr")
    starts = np.cumsum([0] + [len(row) for row in rows])
    columns = jnp.array([item for row in rows for item in sorted(row)])
    drawn = np.tile(np.arange(12), (len(rows), 1))
    found = module._is_entry(
        jnp.asarray(starts), columns, jnp.arange(len(rows)), jnp.asarray(drawn), max(map(len, rows))
    )
    np.testing.assert_array_equal(found, [[item in row for item in range(12)] for row in rows])


def test_planted_taste_is_found_as_plain_descent_finds_it(fitted):
    model, log, train, held = fitted
    popular = auc(popularity(log, ITEMS).scores(train), train, held)
    oracle = auc(numpy_bpr(train, 8, 0.05, 0.03, 40), train, held)
    of_users = auc(model.scores_of(jnp.arange(USERS)), train, held)
    of_histories = auc(model.scores(jnp.asarray(train)), train, held)
    assert of_users > popular + 0.1
    assert abs(of_users - oracle) < 0.02
    assert abs(of_histories - of_users) < 0.02


def test_fold_in_is_the_minimiser(fitted):
    model, *_ = fitted
    histories = [[3], [0, 9, 41, 78], [*range(60)]]
    padded = jnp.array([row + [PAD_ID, ITEMS] + row[:1] + [PAD_ID] * (60 - len(row)) for row in histories])
    q, b = np.asarray(model.items, np.float64), np.asarray(model.bias, np.float64)
    regularization = float(model.regularization)
    for row, solved in zip(histories, np.asarray(model.fold_in(padded), np.float64), strict=True):
        others = np.setdiff1d(np.arange(ITEMS), row)
        d = (q[row][:, None] - q[others][None, :]).reshape(-1, q.shape[1])
        d_bias = (b[row][:, None] - b[others][None, :]).ravel()

        def objective(x, d=d, d_bias=d_bias):
            margin = d @ x + d_bias
            gradient = -(sigmoid(-margin) @ d) / len(d) + regularization * x
            return np.logaddexp(0, -margin).mean() + regularization / 2 * x @ x, gradient

        best = minimize(
            objective, np.zeros(q.shape[1]), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15}
        )
        np.testing.assert_allclose(solved, best.x, atol=1e-4)
        assert objective(solved)[0] - best.fun < 1e-8


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_fold_in_never_ends_above_its_start(scale):
    # Items far apart and biases against the history are where whole Newton steps go astray.
    keys = jax.random.split(jax.random.key(2))
    items, bias = scale * jax.random.normal(keys[0], (50, 6)), jnp.linspace(-scale, scale, 50)
    for regularization in (1e-4, 1e-2, 1.0):
        model = BPR(jnp.zeros(1, jnp.int32), jnp.zeros((1, 6)), items, bias, jnp.float32(regularization))
        history = np.arange(5)
        x = np.asarray(model.fold_in(jnp.asarray(history)[None])[0], np.float64)
        q, b = np.asarray(items, np.float64), np.asarray(bias, np.float64)

        def objective(x, q=q, b=b, regularization=regularization):
            s = q @ x + b
            return np.logaddexp(0, s[None, 5:] - s[:5, None]).mean() + regularization / 2 * x @ x

        assert np.isfinite(x).all()
        assert objective(x) < objective(np.zeros(6))


def test_fold_in_of_a_big_catalogue_compares_with_items_spaced_evenly(monkeypatch, fitted):
    module = importlib.import_module("recjax.models.collaborative.bpr")
    model, _, train, _ = fitted
    monkeypatch.setattr(module, "FOLD_IN_NEGATIVES", 20)
    monkeypatch.setattr(module, "FOLD_IN_PAIRS", 15 * 20 * 7)  # seven users at once
    few = model.fold_in(jnp.asarray(train))
    kept = np.union1d(np.arange(20) * ITEMS // 20, train[0])
    small = model.replace(items=model.items[kept], bias=model.bias[kept])
    monkeypatch.setattr(module, "FOLD_IN_NEGATIVES", len(kept))
    alone = small.fold_in(jnp.asarray(np.searchsorted(kept, train[:1])))
    np.testing.assert_allclose(few[:1], alone, rtol=1e-4, atol=1e-5)


def test_users_without_anything_to_go_by_get_the_biases(fitted):
    model, *_ = fitted
    everything = jnp.arange(ITEMS)[None]
    for scores in (
        model.scores(jnp.full((1, 3), PAD_ID)),
        model.scores(jnp.array([[ITEMS, ITEMS, PAD_ID]])),
        model.scores(jnp.zeros((1, 0), jnp.int32)),
        model.scores(everything),
        model.scores_of(jnp.array([USERS + 5])),
        model.scores_of(jnp.array([-1])),
    ):
        np.testing.assert_allclose(scores[0], model.bias, atol=1e-6)
    assert model.scores(everything[:0]).shape == (0, ITEMS)


def test_users_keep_their_names():
    log, *_ = planted_log()
    renamed = Interactions(log.user * 10 + 3, log.item)
    plain, other = (bpr(each, ITEMS, factors=4, epochs=1) for each in (log, renamed))
    np.testing.assert_array_equal(plain.scores_of(jnp.array([7, 0])), other.scores_of(jnp.array([73, 3])))
    np.testing.assert_array_equal(other.scores_of(jnp.array([74]))[0], other.bias)
    # A user whose only rating is 0 has no row.
    rated = Interactions([2, 5, 9], [0, 1, 2], rating=[3, 0, 4])
    model = bpr(rated, 3, factors=2, epochs=1, weight="rating")
    assert model.user_ids.tolist() == [2, 9]
    assert model.users.shape == (2, 2)


def test_entries_weigh_losses():
    # Users 0 and 1 contradict each other; entries say whom to believe about the biases.
    log = Interactions([0, 1], [0, 1], rating=[9, 1])
    options = {"factors": 1, "epochs": 30, "regularization": 1.0}
    binary, rated = (bpr(log, 2, weight=weight, **options) for weight in ("binary", "rating"))
    assert rated.bias[0] - rated.bias[1] > binary.bias[0] - binary.bias[1] + 0.1


def test_item_index_ranks_as_scores_do(fitted):
    model, _, train, _ = fitted
    history = jnp.asarray(train[:2])
    _, ids = top_k(model.fold_in(history), model.item_index(), 5)
    np.testing.assert_array_equal(ids, np.argsort(-np.asarray(model.scores(history)), axis=1)[:, :5])


def test_the_key_decides_everything():
    log, *_ = planted_log()
    options = {"factors": 4, "epochs": 2, "batch_size": 512}
    one, same, other = (bpr(log, ITEMS, key=jax.random.key(seed), **options) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.allclose(one.items, other.items)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 0}, "factors is 0; bpr needs at least 1"),
        ({"epochs": -1}, "epochs is -1; bpr needs at least 0"),
        ({"batch_size": 0}, "batch_size is 0; bpr needs at least 1"),
        ({"negatives_per_positive": 0}, "negatives_per_positive is 0; bpr needs at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; bpr needs a finite number above 0"),
        ({"regularization": float("nan")}, "regularization is nan; bpr needs a finite number above 0"),
        ({"regularization": -1.0}, "regularization is -1.0; bpr needs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        bpr(Interactions([0], [0]), 2, **options)
