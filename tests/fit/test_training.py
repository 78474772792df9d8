"""Steps and epochs against gradient descent written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.fit import (
    Checkpoints,
    EarlyStopping,
    Hooks,
    TrainingPlan,
    TrainState,
    adamw,
    fit_epochs,
    make_epoch,
    make_update,
    shuffled,
)


def squared_error(params, batch, key):
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def noisy(params, batch, key):
    loss, metrics = squared_error(params, batch, key)
    return loss + 0.1 * params["b"] * jax.random.normal(key), metrics


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(22, 3)).astype(np.float32)
    return {"x": x, "y": (x @ np.array([1.0, -2.0, 0.5]) + 0.3).astype(np.float32)}


PARAMS = {"w": np.zeros(3, np.float32), "b": np.float32(0.0)}


def numpy_gradient(params, x, y):
    error = x @ params["w"] + params["b"] - y
    return np.mean(error**2), {"w": 2 * x.T @ error / len(y), "b": 2 * error.mean()}


def test_update_is_gradient_descent(data):
    optimizer = optax.sgd(0.1)
    update = make_update(squared_error, optimizer)
    state = TrainState.create(jax.tree.map(jnp.array, PARAMS), optimizer)
    expected = {name: value.astype(np.float64) for name, value in PARAMS.items()}
    for _ in range(5):
        loss, gradient = numpy_gradient(expected, data["x"], data["y"])
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        expected = {name: expected[name] - 0.1 * gradient[name] for name in expected}
        state, metrics = update(state, data, jax.random.key(0))
        assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
        assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(state.params["w"], expected["w"], rtol=1e-5)
    assert int(state.step) == 5


def test_update_donates_its_state_and_compiles_once(data):
    optimizer = adamw(0.1)
    update = make_update(squared_error, optimizer)
    state = TrainState.create(jax.tree.map(jnp.array, PARAMS), optimizer)
    first = state.params["w"]
    for _ in range(3):
        state, _ = update(state, data, jax.random.key(0))
    assert first.is_deleted()
    assert update._cache_size() == 1


def test_clipping_is_by_global_norm():
    optimizer = adamw(0.1, max_grad_norm=1.0)
    plain = adamw(0.1)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    clipped, _ = optimizer.update(gradient, optimizer.init(params), params)
    expected, _ = plain.update(jax.tree.map(lambda g: g / 5.0, gradient), plain.init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), clipped, expected)


def test_every_example_is_seen_every_epoch_and_few_twice():
    def record(params, batch, key):
        return jnp.sum(params), {"seen": jax.nn.one_hot(batch, 10).sum(axis=0)}

    epoch = make_epoch(record, optax.sgd(0.0), shuffled(10, 4))
    orders = []
    for seed in range(3):
        state = TrainState.create(jnp.zeros(()), optax.sgd(0.0))
        _, metrics = epoch(state, jnp.arange(10), jax.random.key(seed))
        assert metrics["seen"].shape == (3, 10)
        assert np.sort(metrics["seen"].sum(axis=0)).tolist() == [1] * 8 + [2] * 2
        orders.append(np.argmax(metrics["seen"][0]).tolist())
    assert len(set(map(str, orders))) > 1


def test_epochs_learn_and_repeat_and_leave_params_alone(data):
    params = jax.tree.map(jnp.array, PARAMS)
    runs = [
        fit_epochs(noisy, adamw(0.05), params, data, TrainingPlan(60, 8), key=jax.random.key(seed))
        for seed in (1, 1, 2)
    ]
    assert runs[0].history == runs[1].history
    assert runs[0].history != runs[2].history
    assert runs[0].best_epoch == len(runs[0].history) == 60
    np.testing.assert_allclose(runs[0].params["w"], [1.0, -2.0, 0.5], atol=0.1)
    np.testing.assert_array_equal(params["w"], np.zeros(3))


@pytest.mark.parametrize("cut", [1, 3])
def test_resumed_training_is_bit_identical(tmp_path, data, cut):
    def train(epochs, checkpoints=None):
        return fit_epochs(
            noisy,
            adamw(0.05, max_grad_norm=1.0),
            PARAMS,
            data,
            TrainingPlan(epochs, batch_size=5),
            key=jax.random.key(3),
            hooks=Hooks(early_stopping=EarlyStopping("loss", patience=5, maximise=False), checkpoints=checkpoints),
        )

    whole = train(6)
    train(cut, Checkpoints(tmp_path))
    resumed = train(6, Checkpoints(tmp_path))
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    again = train(6, Checkpoints(tmp_path))  # nothing is left to do
    assert again.history == whole.history


def test_early_stopping_returns_the_best_epoch(data):
    scores = {1: 0.1, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.45, 6: 0.9}
    seen = {}

    def callback(epoch, params):
        seen[epoch] = np.array(params["w"])
        return {"ndcg": scores[epoch]}

    fitted = fit_epochs(
        squared_error,
        adamw(0.05),
        PARAMS,
        data,
        TrainingPlan(epochs=6, batch_size=8),
        key=jax.random.key(0),
        hooks=Hooks(callback, EarlyStopping("ndcg", patience=3)),
    )
    assert list(seen) == [1, 2, 3, 4, 5]
    assert fitted.best_epoch == 2
    np.testing.assert_array_equal(fitted.params["w"], seen[2])
    assert [row["ndcg"] for row in fitted.history] == [0.1, 0.5, 0.4, 0.5, 0.45]


def test_a_loss_that_is_not_finite_names_its_step(data):
    def overflows(params, batch, key):
        return jnp.exp(params["b"]), {}

    with pytest.raises(RuntimeError, match=r"became inf at step 4 \(epoch 2, steps 3 to 5\)"):
        fit_epochs(overflows, optax.sgd(-1.0), PARAMS, data, TrainingPlan(3, 8), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0 trains nothing"),
        ({"batch_size": 0}, r"batch_size=0 must lie in 1 \.\. 22"),
        ({"batch_size": 23}, r"batch_size=23 must lie in 1 \.\. 22"),
    ],
)
def test_bad_arguments(data, options, message):
    def train(options, hooks=Hooks()):
        plan = TrainingPlan(**{"epochs": 1, "batch_size": 8} | options)
        fit_epochs(squared_error, optax.sgd(0.1), PARAMS, data, plan, key=jax.random.key(0), hooks=hooks)

    with pytest.raises(ValueError, match=message):
        train(options)
    hooks = Hooks(early_stopping=EarlyStopping("ndcg"))
    with pytest.raises(ValueError, match="watches 'ndcg', but an epoch has only '"):
        train({}, hooks)
    with pytest.raises(ValueError, match="patience=0"):
        EarlyStopping("loss", patience=0)
