"""The ring buffer: every value stored says where it came from, so a broken window shows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import replay
from recjax.types import Observation, Response, Step, seed_axes

STRIDE = 1 << 20


def make_step(time, users: int, length: int = 2, slots: int = 2) -> Step:
    """A step whose slate encodes ``(user, time)``, beyond what f32 could hold exactly."""
    code = (1 << 24) + 1 + jnp.arange(users, dtype=jnp.int32) * STRIDE + time
    ids = lambda width: jnp.broadcast_to(code[:, None], (users, width))  # noqa: E731
    pairs = jnp.broadcast_to(jnp.asarray(time, jnp.float32), (users, slots))
    flags = jnp.broadcast_to(jnp.asarray(time) % 3 == 2, (users,))
    obs = Observation(history=ids(length), behaviour=jnp.zeros((users, length), jnp.int8))
    after = obs.replace(history=obs.history + 1)
    return Step(obs, ids(slots), pairs, Response(click=pairs), pairs, flags, ~flags, after)


def filled(buffer, users, adds):
    state = buffer.init(make_step(0, users))
    add = lambda state, time: (buffer.add(state, make_step(time, users)), None)  # noqa: E731
    return jax.lax.scan(add, state, jnp.arange(adds))[0]


@pytest.mark.parametrize("users", [1, 3])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("rows", [4, 9])
def test_windows_are_consecutive_steps_of_one_user(key, users, window, rows):
    buffer = replay.uniform(capacity=rows * users + users - 1, window=window)

    @jax.jit
    def run(state, key):
        def body(state, time):
            state = buffer.add(state, make_step(time, users))
            return state, buffer.sample(jax.random.fold_in(key, time), state, 256)

        return jax.lax.scan(body, state, jnp.arange(2 * rows + 1))[1]

    samples = jax.device_get(run(buffer.init(make_step(0, users)), key))
    for adds in range(1, 2 * rows + 2):
        drawn = jax.tree.map(lambda x, at=adds - 1: x[at], samples)
        whole = min(adds, rows) - window + 1
        assert (drawn.valid == (whole > 0)).all()
        if whole <= 0:
            continue
        code = drawn.steps.slate[..., 0] - (1 << 24) - 1
        assert code.shape == (256, window)
        user, time = code // STRIDE, code % STRIDE
        assert (user == user[:, :1]).all()
        assert (np.diff(time, axis=1) == 1).all()
        oldest = max(adds - rows, 0)
        assert set(time[:, 0]) == set(range(oldest, oldest + whole)), "every whole window, and no other"
        assert set(user[:, 0]) == set(range(users))
        np.testing.assert_array_equal(drawn.steps.reward[..., 1], time)
        np.testing.assert_array_equal(drawn.steps.terminated, time % 3 == 2)
        np.testing.assert_array_equal(drawn.steps.next_observation.history, drawn.steps.observation.history + 1)


def test_windows_are_uniform(key):
    buffer = replay.uniform(capacity=12, window=2)
    state = filled(buffer, users=2, adds=9)
    drawn = jax.jit(buffer.sample, static_argnums=2)(key, state, 20_000)
    code = np.asarray(drawn.steps.slate[:, 0, 0]) - (1 << 24) - 1
    counts = np.unique(code, return_counts=True)[1]
    assert len(counts) == 2 * 5
    expected = 20_000 / 10
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 27.9, "99.9 % quantile of chi-squared with 9 degrees of freedom"


def test_ids_keep_dtype_and_value(key):
    state = filled(replay.uniform(capacity=8), users=2, adds=3)
    assert state.data.slate.dtype == jnp.int32
    assert state.data.observation.behaviour.dtype == jnp.int8
    assert state.data.terminated.dtype == jnp.bool_
    assert int(state.data.slate[1, 0, 0]) == (1 << 24) + 2


def test_same_key_same_sample_and_keys_differ(key):
    buffer = replay.uniform(capacity=64, window=2)
    state = filled(buffer, users=2, adds=20)
    sample = jax.jit(buffer.sample, static_argnums=2)
    first, again = (sample(key, state, 32).steps.slate for _ in range(2))
    other = sample(jax.random.key(1), state, 32).steps.slate
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def _remember_and_recall(buffer, users):
    def body(state, key):
        time, ring = state
        ring = buffer.add(ring, make_step(time, users))
        return (time + 1, ring), buffer.sample(key, ring, 8).steps.reward.sum()

    def run(ring, keys):
        (_, ring), rewards = jax.lax.scan(body, (jnp.int32(0), ring), keys)
        return ring, rewards

    return run


@pytest.mark.parametrize("users", [1, 64])
@pytest.mark.parametrize("seeds", [None, 3])
def test_scan_writes_in_place(key, users, seeds):
    buffer = replay.uniform(capacity=1 << 14, window=3)
    state = jax.eval_shape(buffer.init, make_step(0, users))
    keys = jax.eval_shape(lambda: jax.random.split(key, 10))
    run = _remember_and_recall(buffer, users)
    if seeds:
        axes = seed_axes(state)
        assert axes.cursor is None
        assert axes.data.slate == 0
        run = jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0))
        batch = lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype)  # noqa: E731
        state = state.replace(data=jax.tree.map(batch, state.data))
        keys = batch(keys)
    memory = jax.jit(run, donate_argnums=0).lower(state, keys).compile().memory_analysis()
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.data))
    assert memory.temp_size_in_bytes < size / 10
    assert memory.alias_size_in_bytes >= size


def test_vmap_over_seeds_equals_single_seeds(key):
    buffer = replay.uniform(capacity=32, window=2)
    state = buffer.init(make_step(0, 4))
    axes = seed_axes(state)
    batched = state.replace(data=jax.tree.map(lambda x: jnp.stack([x] * 3), state.data))
    keys = jax.random.split(key, (3, 7))
    run = _remember_and_recall(buffer, 4)
    ring, rewards = jax.jit(jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0)))(batched, keys)
    assert ring.cursor.shape == ()
    for seed in range(3):
        _, alone = jax.jit(run)(state, keys[seed])
        np.testing.assert_allclose(rewards[seed], alone, rtol=1e-6)
    assert (rewards[0] != rewards[1]).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="window=0"):
        replay.uniform(capacity=4, window=0)
    with pytest.raises(ValueError, match=r"capacity=7 holds 2 steps of each of 3 users.*at least 9"):
        replay.uniform(capacity=7, window=3).init(make_step(0, 3))
    buffer = replay.uniform(capacity=8)
    state = buffer.init(make_step(0, 2))
    with pytest.raises(ValueError, match="as it did at init"):
        buffer.add(state, make_step(0, 3))
    wrong = make_step(0, 2)
    with pytest.raises(ValueError, match="float32"):
        buffer.add(state, wrong.replace(slate=wrong.slate.astype(jnp.float32)))
