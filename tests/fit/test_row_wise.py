"""Row-wise training against the same training by whole tables, and against optax."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.catalogue import row_adagrad, row_adam, row_sgd
from recjax.fit import RowWise, TrainingPlan, TrainState, descend, fit_epochs, gradient_step, make_update, pmap_update

NUM_ITEMS = 12


class Model(nn.Module):
    """Scores pairs of items; padding reads the last row."""

    @nn.compact
    def __call__(self, pairs):
        vectors = nn.Embed(NUM_ITEMS + 1, 4)(pairs)
        vectors = jnp.where((pairs >= 0)[..., None], vectors, 0)
        return nn.Dense(1)(vectors[:, 0] * vectors[:, 1])[:, 0]


MODEL = Model()


def loss_fn(params, batch, key):
    error = MODEL.apply(params, batch["pairs"]) - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    pairs = rng.integers(-1, NUM_ITEMS, (24, 2)).astype(np.int32)
    return {"pairs": jnp.asarray(pairs), "y": jnp.asarray(rng.normal(size=24), jnp.float32)}


@pytest.fixture
def params(data):
    return jax.jit(MODEL.init)(jax.random.key(1), data["pairs"])


def train(optimizer, params, data, steps=4, **options):
    update = make_update(loss_fn, optimizer, **options)
    state = TrainState.create(jax.tree.map(jnp.array, params), optimizer)
    metrics = []
    for step in range(steps):
        batch = jax.tree.map(lambda x: jnp.roll(x, 5 * step, 0)[:12], data)  # noqa: B023
        state, found = update(state, batch, jax.random.key(step))
        metrics.append(found)
    return state, metrics


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("make", [row_sgd, row_adagrad, row_adam])
def test_rows_equal_whole_tables(params, data, make, max_grad_norm):
    states = [
        train(
            RowWise(make(0.1, weight_decay=0.01), optax.adam(0.1), max_grad_norm=max_grad_norm, whole=whole),
            params,
            data,
        )
        for whole in (False, True)
    ]
    (by_rows, metrics), (by_tables, expected) = states
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), by_rows, by_tables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics, expected)
    moved = by_rows.params["params"]["Embed_0"]["embedding"] != params["params"]["Embed_0"]["embedding"]
    assert moved[:NUM_ITEMS].any(-1).sum() > NUM_ITEMS / 2
    assert not moved[NUM_ITEMS].any(), "padding is never written"


def test_clipping_and_sgd_equal_optax(params, data):
    ours, metrics = train(RowWise(row_sgd(0.5), optax.sgd(0.5), max_grad_norm=0.05), params, data)
    theirs, expected = train(optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.5)), params, data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours.params, theirs.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics, expected)


@pytest.mark.parametrize("optimizer", [RowWise(row_adam(0.1), optax.adam(0.1)), optax.adam(0.1)], ids=["rows", "optax"])
def test_accumulated_parts_equal_the_whole_batch(params, data, optimizer):
    whole, metrics = train(optimizer, params, data)
    parts, found = train(optimizer, params, data, accumulate=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), parts, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, metrics)


def test_parts_have_keys_of_their_own():
    step = gradient_step(lambda p, batch, key: (p * jax.random.normal(key), {}), optax.sgd(1.0), accumulate=3)
    state = TrainState.create(jnp.zeros(()), optax.sgd(1.0))
    key = jax.random.key(0)
    moved, _ = step(state, jnp.zeros(3), key)
    expected = np.mean([jax.random.normal(k) for k in jax.random.split(key, 3)])
    np.testing.assert_allclose(moved.params, -expected, rtol=1e-6)


def test_parts_must_be_equal(params, data):
    with pytest.raises(ValueError, match="accumulate=5 must divide the batch of 12"):
        train(optax.sgd(0.1), params, data, accumulate=5)


def test_devices_share_a_batch(params, data):
    optimizer = RowWise(row_adam(0.1), optax.adam(0.1))
    alone, _ = train(optimizer, params, data, steps=1)
    state = TrainState.create(params, optimizer)
    shared, _ = pmap_update(loss_fn, optimizer)(state, jax.tree.map(lambda x: x[:12], data), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), shared, alone)


def test_schedules_count_updates(params, data):
    falling = optax.piecewise_constant_schedule(1.0, {2: 0.0})
    state, _ = train(RowWise(row_sgd(falling), optax.sgd(0.0)), params, data, steps=2)
    later, _ = train(RowWise(row_sgd(falling), optax.sgd(0.0)), params, data, steps=4)
    np.testing.assert_array_equal(*(s.params["params"]["Embed_0"]["embedding"] for s in (state, later)))
    assert later.opt_state.step == 4


def test_epochs_take_it(params, data):
    optimizer = RowWise(row_adam(0.05), optax.adam(0.05))
    plan = TrainingPlan(epochs=30, batch_size=8, accumulate=2)
    fitted = fit_epochs(loss_fn, optimizer, params, data, plan, key=jax.random.key(0))
    assert fitted.history[-1]["loss"] < 0.5 * fitted.history[0]["loss"]


def test_a_big_table_is_updated_in_place_and_compiled_once():
    num_items = 500_000

    traced = []

    def big_loss(params, batch, key):
        traced.append(batch)
        return (nn.Embed(num_items, 8).apply({"params": params}, batch) ** 2).mean(), {}

    optimizer = RowWise(row_adam(0.1), optax.adam(0.1))
    update = make_update(big_loss, optimizer)
    state = TrainState.create({"embedding": jnp.ones((num_items, 8))}, optimizer)
    batch, key = jnp.arange(64), jax.random.key(0)
    memory = update.lower(state, batch, key).compile().memory_analysis()
    table = num_items * 8 * 4
    assert memory.temp_size_in_bytes < table / 20
    assert memory.alias_size_in_bytes >= 3 * table
    state, _ = update(state, batch, key)
    before = len(traced)
    state, _ = update(state, batch, key)
    assert len(traced) == before
    assert (state.params["embedding"][64:] == 1).all()
    assert (state.params["embedding"][:64] < 1).all()


def test_seeds_by_vmap_equal_a_loop(params, data):
    optimizer = RowWise(row_adam(0.1), optax.adam(0.1), max_grad_norm=0.1)
    seeds = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)

    def step(params):
        return descend(loss_fn, optimizer, params, optimizer.init(params), data, jax.random.key(0)).params

    found = jax.vmap(step)(seeds)
    for seed in range(2):
        expected = step(jax.tree.map(lambda x: x[seed], seeds))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[seed], b, rtol=1e-4, atol=1e-6), found, expected)  # noqa: B023


def test_bad_options_are_named(params):
    with pytest.raises(ValueError, match=r"No parameter \[V, D\] is named one of \['items'\].*Embed_0"):
        RowWise(row_sgd(0.1), optax.sgd(0.1), names=("items",)).init(params)
    with pytest.raises(ValueError, match="max_grad_norm is 0"):
        RowWise(row_sgd(0.1), optax.sgd(0.1), max_grad_norm=0)
