"""Row-sparse optimisers against float64 loops over rows, PyTorch, optax, and their own dense form."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.catalogue.row_optimizers import row_adagrad, row_adam, row_sgd, stochastic_round
from recjax.catalogue.rows import RowGrads, coalesce
from recjax.types import PAD_ID

ROWS, DIM, SLOTS, STEPS = 11, 3, 24, 6


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def sgd_row(w, state, g, rate, *, weight_decay=0.0):
    return w - rate * (g + weight_decay * w), state


def adagrad_row(w, state, g, rate, *, eps=1e-8, initial=0.0, weight_decay=0.0):
    total = state.get("total", initial) + np.mean(g**2)
    return w - rate * (g / (np.sqrt(total) + eps) + weight_decay * w), {"total": total}


def adam_row(w, state, g, rate, *, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0):
    t = state.get("t", 0) + 1
    m = b1 * state.get("m", 0.0) + (1 - b1) * g
    v = b2 * state.get("v", 0.0) + (1 - b2) * g**2
    step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w - rate * (step + weight_decay * w), {"t": t, "m": m, "v": v}


OPTIMIZERS = {
    "sgd": (row_sgd, sgd_row, {}),
    "sgd with decay": (row_sgd, sgd_row, {"weight_decay": 0.3}),
    "adagrad": (row_adagrad, adagrad_row, {}),
    "adagrad with all": (row_adagrad, adagrad_row, {"eps": 1e-2, "initial": 0.7, "weight_decay": 0.1}),
    "adam": (row_adam, adam_row, {}),
    "adam with all": (row_adam, adam_row, {"b1": 0.6, "b2": 0.8, "eps": 1e-2, "weight_decay": 0.1}),
    "adam without memory": (row_adam, adam_row, {"b1": 0.0, "b2": 0.0, "eps": 1e-3}),
}
every_setting = pytest.mark.parametrize("name", OPTIMIZERS)
every_kind = pytest.mark.parametrize("name", ["sgd with decay", "adagrad with all", "adam with all"])


@functools.cache
def make(name, learning_rate=0.1):
    factory, _, options = OPTIMIZERS[name]
    return factory(learning_rate, **options)


def random_steps(seed, num_rows=ROWS, dim=DIM, slots=SLOTS, steps=STEPS):
    """Leaves ``[steps, ...]``: a few rows often and others never, padding, and ids past the end of the table."""
    rng = np.random.default_rng(seed)
    few = rng.choice(num_rows, max(num_rows // 2, 1), replace=False)
    ids = rng.choice([*few, *few, PAD_ID, -num_rows, num_rows, num_rows + 5], (steps, slots)).astype(np.int32)
    values = rng.normal(size=(steps, slots, dim)).astype(np.float32)
    table = rng.normal(size=(num_rows, dim)).astype(np.float32)
    return jnp.asarray(table), RowGrads(jnp.asarray(ids), jnp.asarray(values))


def hyperbola(step):
    return 0.2 / (1 + jnp.float32(step))


def one(grads, i):
    return jax.tree.map(lambda leaf: leaf[i], grads)


def run(optimizer, table, grads):
    """Table and state after every step of ``grads``, one compiled call a step."""
    update, state = jax.jit(optimizer.update), optimizer.init(table)
    for i in range(grads.ids.shape[0]):
        table, state = update(table, state, one(grads, i), jnp.array(i))
    return table, state


def assert_same_bits(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def loop_over_rows(row_rule, table, grads, rate, options):
    """The whole training in float64, one row and one step at a time."""
    table = np.asarray(table, np.float64).copy()
    states = [{} for _ in table]
    for i, (ids, values) in enumerate(zip(np.asarray(grads.ids), np.asarray(grads.values, np.float64), strict=True)):
        for row in range(len(table)):
            g = values[ids == row].sum(0)
            if (g != 0).any():
                table[row], states[row] = row_rule(table[row], states[row], g, rate(i), **options)
    return table, states


@every_setting
@pytest.mark.parametrize("schedule", [False, True])
def test_equals_a_loop_over_rows_in_float64(name, schedule):
    _, row_rule, options = OPTIMIZERS[name]
    rate = hyperbola if schedule else (lambda step: 0.1)
    optimizer = make(name, hyperbola if schedule else 0.1)
    for seed in range(2):
        table, grads = random_steps(seed)
        found, state = run(optimizer, table, grads)
        expected, states = loop_over_rows(row_rule, table, grads, rate, options)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
        if "adam" in name:
            assert state.count.tolist() == [s.get("t", 0) for s in states]
            moments = np.stack([np.r_[np.zeros(DIM) + s.get("m", 0), np.zeros(DIM) + s.get("v", 0)] for s in states])
            np.testing.assert_allclose(state.moments, moments, rtol=2e-5, atol=1e-6)
        if "adagrad" in name:
            totals = [s.get("total", options.get("initial", 0.0)) for s in states]
            np.testing.assert_allclose(state, totals, rtol=1e-5)


@every_setting
def test_sparse_equals_dense(name):
    optimizer = make(name)
    table, grads = random_steps(5)
    dense_update = jax.jit(optimizer.dense_update)
    sparse, dense = (table, optimizer.init(table)), (table, optimizer.init(table))
    for i in range(STEPS):
        sparse = jax.jit(optimizer.update)(*sparse, one(grads, i), jnp.array(i))
        dense = dense_update(*dense, one(grads, i).dense(ROWS), jnp.array(i))
        for a, b in zip(jax.tree.leaves(sparse), jax.tree.leaves(dense), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_adam_equals_optax_when_every_row_is_touched(weight_decay):
    rng = np.random.default_rng(0)
    table = expected = jnp.asarray(rng.normal(size=(5, 4)).astype(np.float32))
    reference = optax.adamw(0.05, weight_decay=weight_decay)
    optimizer = row_adam(0.05, weight_decay=weight_decay)
    state, reference_state = optimizer.init(table), reference.init(expected)
    update, reference_update = jax.jit(optimizer.update), jax.jit(reference.update)
    for i in range(8):
        ids = jnp.asarray(rng.permutation(np.r_[np.arange(5), rng.integers(0, 5, 4)]).astype(np.int32))
        grads = RowGrads(ids, jnp.asarray(rng.normal(size=(9, 4)).astype(np.float32)))
        table, state = update(table, state, grads, jnp.array(i))
        with jax.numpy_dtype_promotion("standard"):
            updates, reference_state = reference_update(grads.dense(5), reference_state, expected)
        expected = optax.apply_updates(expected, updates)
        np.testing.assert_allclose(table, expected, rtol=2e-5, atol=1e-6)
    assert state.count.tolist() == [8] * 5
    assert update._cache_size() == 1


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_equals_pytorch(name):
    torch = pytest.importorskip("torch")
    # SparseAdam counts steps for all rows, so all are touched; Adagrad of PyTorch is row-wise only at width one.
    lazy = name == "adagrad"
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 1 if lazy else 3)).astype(np.float32)
    weights = torch.nn.Embedding.from_pretrained(torch.tensor(start), freeze=False, sparse=not lazy)
    if lazy:
        reference = torch.optim.Adagrad(weights.parameters(), lr=0.05, eps=1e-6, initial_accumulator_value=0.3)
        optimizer = row_adagrad(0.05, eps=1e-6, initial=0.3)
    else:
        reference = torch.optim.SparseAdam(weights.parameters(), lr=0.05, betas=(0.8, 0.95))
        optimizer = row_adam(0.05, b1=0.8, b2=0.95)
    table = jnp.asarray(start)
    update, state = jax.jit(optimizer.update), optimizer.init(table)
    for i in range(6):
        ids = rng.permutation(np.r_[np.arange(2 if lazy else 6), rng.integers(0, 6, 5)]).astype(np.int32)
        slopes = rng.normal(size=(len(ids), start.shape[1])).astype(np.float32)
        reference.zero_grad()
        with torch.sparse.check_sparse_tensor_invariants():
            (weights(torch.tensor(ids, dtype=torch.long)) * torch.tensor(slopes)).sum().backward()
            reference.step()
        table, state = update(table, state, RowGrads(jnp.asarray(ids), jnp.asarray(slopes)), jnp.array(i))
    np.testing.assert_allclose(table, weights.weight.detach().numpy(), rtol=1e-4, atol=1e-6)


@every_kind
def test_gradients_that_are_zero_change_no_bit(name):
    optimizer = make(name)
    table = jnp.array([[1.0, -0.0], [jnp.nan, 2.0], [jnp.inf, 1e-40], [0.5, 3.0]])
    _, state = run(optimizer, table, random_steps(0, 4, 2)[1])
    ids = jnp.array([0, 1, 1, 2, 3, 3, PAD_ID, 4, 9], jnp.int32)
    values = jnp.zeros((9, 2)).at[4].set(7.0).at[5].set(-7.0).at[6:].set(jnp.nan)
    before = (table, state)
    assert_same_bits(jax.jit(optimizer.update)(*before, RowGrads(ids, values), jnp.array(3)), before)
    assert_same_bits(jax.jit(optimizer.dense_update)(*before, jnp.zeros((4, 2)), jnp.array(3)), before)


@every_kind
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_nan_poisons_only_its_own_row(name, dtype):
    optimizer = make(name)
    table, grads = random_steps(3)
    table, grads = table.astype(dtype), one(grads, 0)
    hit = int(next(i for i in grads.ids.tolist() if 0 <= i < ROWS))
    poisoned = RowGrads(grads.ids, jnp.where((grads.ids == hit)[:, None], jnp.nan, grads.values))
    found, state = jax.jit(optimizer.update)(table, optimizer.init(table), poisoned, jnp.array(0))
    bad = np.isnan(np.asarray(found, np.float32)).all(1)
    assert bad.tolist() == [row == hit for row in range(ROWS)]
    for leaf in jax.tree.leaves(state):
        assert np.isfinite(np.asarray(leaf)[~bad]).all()
    others = np.isin(np.arange(ROWS), np.asarray(grads.ids)) & ~bad
    assert (np.asarray(found != table).any(1) == others)[~bad].all()


@every_kind
def test_mapped_over_seeds_and_scanned_as_one_at_a_time(name):
    optimizer = make(name)
    runs = [random_steps(seed) for seed in range(3)]
    tables, grads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)

    @jax.jit
    @jax.vmap
    def train(table, grads):
        start, steps = (table, optimizer.init(table)), (grads, jnp.arange(STEPS))
        return jax.lax.scan(lambda carry, x: (optimizer.update(*carry, *x), None), start, steps)[0]

    found = train(tables, grads)
    for i, (table, own) in enumerate(runs):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(run(optimizer, table, own)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=2e-6, atol=2e-7)


def test_learning_rates_may_be_traced():
    problem = random_steps(4)
    found = jax.jit(jax.vmap(lambda rate: run(row_adam(rate), *problem)[0]))(jnp.array([0.1, 0.02]))
    np.testing.assert_allclose(found[1], run(row_adam(0.02), *problem)[0], rtol=2e-6, atol=2e-7)
    assert not np.allclose(found[0], found[1])


def test_a_schedule_sees_the_global_step_without_compiling_again():
    update = jax.jit(row_sgd(optax.linear_schedule(1.0, 0.0, 4)).update)
    grads = RowGrads(jnp.array([1], jnp.int32), jnp.ones((1, 1)))
    for step, rate in ((0, 1.0), (3, 0.25), (100, 0.0)):
        found, _ = update(jnp.ones((3, 1)), (), grads, jnp.array(step))
        assert found[:, 0].tolist() == [1.0, 1.0 - rate, 1.0]
    assert update._cache_size() == 1


def test_coalesced_gradients_are_taken_as_they_are():
    table, grads = random_steps(6)
    optimizer, grads = row_adam(0.1), one(grads, 0)
    update, state = jax.jit(optimizer.update), optimizer.init(table)
    plain = update(table, state, grads, jnp.array(0))
    # Those coalesced for a larger table hold rows that this one lacks.
    for num_rows in (ROWS, 2 * ROWS):
        assert_same_bits(update(table, state, coalesce(grads, num_rows), jnp.array(0)), plain)


def train_step(optimizer, table, state, ids, i):
    """Looks rows up, differentiates with respect to them, updates: how a table is trained."""
    values = jax.grad(lambda rows: (rows.astype(jnp.float32) ** 2).sum())(table[jnp.maximum(ids, 0)])
    return optimizer.update(table, state, RowGrads(ids, values), i)


def three_steps(optimizer, table, state, ids, i):
    step = functools.partial(train_step, optimizer)
    return jax.lax.scan(lambda c, j: (step(*c, ids, j), None), (table, state), i + jnp.arange(3))[0]


def memory(train, optimizer, num_rows, dtype, seeds):
    """``(temporary, aliased, all of table and state)`` in bytes, for 128 ids and donated buffers."""
    table = jax.ShapeDtypeStruct((*seeds, num_rows, 8), dtype)
    init, step = optimizer.init, functools.partial(train, optimizer)
    for _ in seeds:
        init, step = jax.vmap(init), jax.vmap(step, in_axes=(0, 0, 0, None))
    state = jax.eval_shape(init, table)
    ids, i = jax.ShapeDtypeStruct((*seeds, 128), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)
    found = jax.jit(step, donate_argnums=(0, 1)).lower(table, state, ids, i).compile().memory_analysis()
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((table, state)))
    return found.temp_size_in_bytes, found.alias_size_in_bytes, total


widens = pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="JAX 0.10 widens bfloat16 tables on CPUs")


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=widens)])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize(("train", "seeds"), [(train_step, ()), (three_steps, ()), (train_step, (3,))])
def test_donated_tables_are_updated_in_place(name, train, seeds, dtype):
    temporary, aliased, total = memory(train, make(name), 1_000_000, dtype, seeds)
    assert temporary == memory(train, make(name), 10_000, dtype, seeds)[0]
    assert temporary < 300_000
    assert aliased == total


def test_stochastic_rounding_is_unbiased_between_two_neighbours(key):
    for value in (1.0 + 2**-10, -3.0 - 2**-9 - 2**-12, 2.0**-126 * (1 + 2**-10), 1e-39, 255.99):
        x = jnp.full((20_001,), value, jnp.float32)
        drawn = np.asarray(stochastic_round(key, x).astype(jnp.float32), np.float64)
        exact = float(x[0])
        low, high = sorted(set(drawn.tolist()))
        assert low < exact < high
        assert np.asarray(high).astype(jnp.bfloat16) == np.nextafter(jnp.bfloat16(low), jnp.bfloat16(np.inf))
        p = (exact - low) / (high - low)
        assert abs((drawn == high).mean() - p) < 5 * np.sqrt(p * (1 - p) / x.size)


def test_stochastic_rounding_keeps_what_bfloat16_holds(key):
    every = jnp.arange(2**16, dtype=jnp.uint32).astype(jnp.uint16)
    held = jax.lax.bitcast_convert_type(every, jnp.bfloat16)
    rounded = stochastic_round(key, held.astype(jnp.float32))
    nan = np.isnan(np.asarray(held, np.float32))
    assert np.isnan(np.asarray(rounded, np.float32))[nan].all()
    assert np.asarray(rounded)[~nan].tobytes() == np.asarray(held)[~nan].tobytes()
    payload = jax.lax.bitcast_convert_type(jnp.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], jnp.uint32), jnp.float32)
    assert np.isnan(np.asarray(stochastic_round(key, payload), np.float32)).all()
    assert stochastic_round(key, jnp.float32(2.0)).shape == ()
    assert stochastic_round(key, jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
def test_bfloat16_tables_accumulate_steps_too_small_to_round_to(name, dense):
    steps, rows, tiny = 256, 500, 2.0**-12
    assert jnp.bfloat16(1) - jnp.bfloat16(tiny) == 1
    # Adam and Adagrad take steps of the learning rate (over the root of the count) under a constant gradient.
    rate = tiny * (jnp.sqrt if name == "adagrad" else jnp.ones_like)(jnp.arange(1.0, steps + 1))
    optimizer = make(name, lambda step: rate[step])
    table = jnp.ones((rows, 8), jnp.bfloat16)
    grads = RowGrads(jnp.arange(1, rows, dtype=jnp.int32), jnp.ones((rows - 1, 8)))
    update, given = (optimizer.dense_update, grads.dense(rows)) if dense else (optimizer.update, grads)
    train = jax.jit(lambda c: jax.lax.scan(lambda c, i: (update(*c, given, i), None), c, jnp.arange(steps))[0])
    found, state = train((table, optimizer.init(table)))
    assert found.dtype == jnp.bfloat16
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(state))
    moved = np.asarray(found, np.float64)
    assert (moved[0] == 1).all()
    # A step rounds by 2^-8 with probability 1/16, so 256 steps spread by 0.015.
    assert abs(moved[1:].mean() - (1 - steps * tiny)) < 5 * 0.015 / np.sqrt(moved[1:].size)


def test_rounding_noise_differs_by_step_seed_and_gradient():
    table = jnp.ones((200, 8), jnp.bfloat16)
    ids = jnp.arange(200, dtype=jnp.int32)
    values = jnp.full((200, 8), 2.0**-9)

    @jax.jit
    def draw(seed=0, step=0, values=values):
        return row_sgd(1.0, seed=seed).update(table, (), RowGrads(ids, values), step)[0]

    base = draw()
    np.testing.assert_array_equal(draw(), base)
    nudged = values.at[0, 0].set(jnp.nextafter(jnp.float32(2.0**-9), jnp.float32(1.0)))
    for other in (draw(seed=1), draw(step=1), draw(values=nudged)):
        assert 0.4 < (other == base).mean() < 0.6
    mapped = jax.vmap(lambda values: draw(values=values))(jnp.stack([values, nudged]))
    np.testing.assert_array_equal(mapped[0], base)
    np.testing.assert_array_equal(mapped[1], draw(values=nudged))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: row_sgd(-0.1), "learning_rate is -0.1"),
        (lambda: row_sgd(float("nan")), "learning_rate is nan"),
        (lambda: row_sgd(0.1, weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: row_adagrad(0.1, eps=-1e-8), "eps is -1e-08"),
        (lambda: row_adagrad(0.1, initial=-1.0), "initial is -1.0"),
        (lambda: row_adam(0.1, b1=1.0), "b1 is 1.0; it must lie in \\[0, 1\\)"),
        (lambda: row_adam(0.1, b2=-0.1), "b2 is -0.1"),
        (lambda: row_adam(0.1, b2=float("nan")), "b2 is nan"),
        (lambda: row_adam(0.1, eps=-1.0), "eps is -1.0"),
    ],
)
def test_bad_hyper_parameters_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@every_kind
def test_bad_tables_and_gradients_are_refused(name):
    optimizer = make(name)
    grads = RowGrads(jnp.zeros(2, jnp.int32), jnp.ones((2, 3)))
    for table in (jnp.zeros(3), jnp.zeros((2, 2, 3)), jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 3), jnp.float16)):
        for call, args in (
            (optimizer.init, ()),
            (optimizer.update, ((), grads, jnp.array(0))),
            (optimizer.dense_update, ((), jnp.ones(table.shape), jnp.array(0))),
        ):
            with pytest.raises(ValueError, match="float32 or bfloat16 of shape \\[V, D\\]; got"):
                call(table, *args)
    table = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match="shape \\(4, 2\\) cannot take gradients of shape \\(2, 3\\)"):
        optimizer.update(table, optimizer.init(table), grads, jnp.array(0))
    with pytest.raises(ValueError, match="cannot take a dense gradient of shape \\(4, 3\\)"):
        optimizer.dense_update(table, optimizer.init(table), jnp.ones((4, 3)), jnp.array(0))
