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
    left = jnp.broadcast_to(jnp.asarray(time) % 3 == 2, (users,))
    cut = jnp.broadcast_to(jnp.asarray(time) % 3 == 1, (users,)) & (jnp.arange(users) % 2 == 0)
    obs = Observation(history=ids(length), behaviour=jnp.zeros((users, length), jnp.int8))
    # Where an episode was cut, what would have come next is not what the next row begins with.
    after = obs.replace(history=obs.history + jnp.where(cut, 7, 1)[:, None])
    return Step(obs, ids(slots), pairs[:, 0], {"value": pairs}, Response(click=pairs), pairs, left, cut, after)


def make_buffer(capacity, window=1, truncated_share=1.0):
    return replay.uniform(window, truncated_share=truncated_share).make(capacity)


def filled(buffer, users, adds):
    state = buffer.init(make_step(0, users))
    add = lambda state, time: (buffer.add(state, make_step(time, users)), None)  # noqa: E731
    return jax.lax.scan(add, state, jnp.arange(adds))[0]


@pytest.mark.parametrize("users", [1, 3])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("rows", [4, 9])
def test_windows_are_consecutive_steps_of_one_user(key, users, window, rows):
    buffer = make_buffer(capacity=rows * users + users - 1, window=window)

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
        code = drawn.experience.slate[..., 0] - (1 << 24) - 1
        assert code.shape == (256, window)
        user, time = code // STRIDE, code % STRIDE
        assert (user == user[:, :1]).all()
        assert (np.diff(time, axis=1) == 1).all()
        oldest = max(adds - rows, 0)
        assert set(time[:, 0]) == set(range(oldest, oldest + whole)), "every whole window, and no other"
        assert set(user[:, 0]) == set(range(users))
        np.testing.assert_array_equal(drawn.experience.reward[..., 1], time)
        np.testing.assert_array_equal(drawn.experience.terminated, time % 3 == 2)
        counts = ~drawn.experience.terminated
        expected = drawn.experience.observation.history + np.where(drawn.experience.truncated, 7, 1)[..., None]
        np.testing.assert_array_equal(drawn.experience.next_observation.history[counts], expected[counts])
        np.testing.assert_allclose(drawn.probabilities, 1 / (whole * users), rtol=1e-6)
        assert len(set(zip(drawn.indices, code[:, 0], strict=True))) == len(set(drawn.indices)) == len(set(code[:, 0]))


def test_windows_are_uniform(key):
    buffer = make_buffer(capacity=12, window=2)
    state = filled(buffer, users=2, adds=9)
    drawn = jax.jit(buffer.sample, static_argnums=2)(key, state, 20_000)
    code = np.asarray(drawn.experience.slate[:, 0, 0]) - (1 << 24) - 1
    counts = np.unique(code, return_counts=True)[1]
    assert len(counts) == 2 * 5
    expected = 20_000 / 10
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 27.9, "99.9 % quantile of chi-squared with 9 degrees of freedom"


def test_ids_keep_dtype_and_value(key):
    state = filled(make_buffer(capacity=8), users=2, adds=3)
    assert state.data.slate.dtype == jnp.int32
    assert state.data.observation.behaviour.dtype == jnp.int8
    assert state.data.terminated.dtype == jnp.bool_
    assert int(state.data.slate[1, 0, 0]) == (1 << 24) + 2


def test_same_key_same_sample_and_keys_differ(key):
    buffer = make_buffer(capacity=64, window=2)
    state = filled(buffer, users=2, adds=20)
    sample = jax.jit(buffer.sample, static_argnums=2)
    first, again = (sample(key, state, 32).experience.slate for _ in range(2))
    other = sample(jax.random.key(1), state, 32).experience.slate
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def _remember_and_recall(buffer, users):
    def body(state, key):
        time, ring = state
        ring = buffer.add(ring, make_step(time, users))
        return (time + 1, ring), buffer.sample(key, ring, 8).experience.reward.sum()

    def run(ring, keys):
        (_, ring), rewards = jax.lax.scan(body, (jnp.int32(0), ring), keys)
        return ring, rewards

    return run


@pytest.mark.parametrize("users", [1, 64])
@pytest.mark.parametrize("seeds", [None, 3])
def test_scan_writes_in_place(key, users, seeds):
    buffer = make_buffer(capacity=1 << 14, window=3)
    state = jax.eval_shape(buffer.init, make_step(0, users))
    keys = jax.eval_shape(lambda: jax.random.split(key, 10))
    run = _remember_and_recall(buffer, users)
    if seeds:
        axes = seed_axes(state)
        assert axes.cursor is None
        assert axes.data.slate == 0
        run = jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0))
        batch = lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype)  # noqa: E731
        state = jax.tree.map(
            lambda axis, x: x if axis is None else jax.tree.map(batch, x),
            axes,
            state,
            is_leaf=lambda axis: axis is None,
        )
        keys = batch(keys)
    memory = jax.jit(run, donate_argnums=0).lower(state, keys).compile().memory_analysis()
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state.data, state.finals)))
    assert memory.temp_size_in_bytes < size / 10
    assert memory.alias_size_in_bytes >= size


def test_vmap_over_seeds_equals_single_seeds(key):
    buffer = make_buffer(capacity=32, window=2)
    state = buffer.init(make_step(0, 4))
    axes = seed_axes(state)
    batched = jax.tree.map(
        lambda axis, x: x if axis is None else jnp.stack([x] * 3), axes, state, is_leaf=lambda axis: axis is None
    )
    keys = jax.random.split(key, (3, 7))
    run = _remember_and_recall(buffer, 4)
    ring, rewards = jax.jit(jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0)))(batched, keys)
    assert ring.cursor.shape == ()
    for seed in range(3):
        _, alone = jax.jit(run)(state, keys[seed])
        np.testing.assert_allclose(rewards[seed], alone, rtol=1e-6)
    assert (rewards[0] != rewards[1]).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="window is 0"):
        make_buffer(capacity=4, window=0)
    with pytest.raises(ValueError, match="truncated_share is 0"):
        make_buffer(capacity=4, truncated_share=0)
    with pytest.raises(ValueError, match=r"capacity=7 holds 2 steps of each of 3 users.*at least 9"):
        make_buffer(capacity=7, window=3).init(make_step(0, 3))
    buffer = make_buffer(capacity=8)
    state = buffer.init(make_step(0, 2))
    with pytest.raises(ValueError, match="as it did at init"):
        buffer.add(state, make_step(0, 3))
    wrong = make_step(0, 2)
    with pytest.raises(ValueError, match="float32"):
        buffer.add(state, wrong.replace(slate=wrong.slate.astype(jnp.float32)))


def test_a_next_observation_is_not_stored_twice():
    """The ring is smaller than steps with both observations by nearly one observation each."""
    step = make_step(0, users=64, length=20)
    state = jax.eval_shape(make_buffer(capacity=1 << 14, window=3, truncated_share=0.125).init, step)
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    both, observation = size(step) / 64, size(step.observation) / 64
    numbers = 4
    assert size(state) / (1 << 14) < both - 0.8 * observation + numbers


def test_truncated_steps_beyond_the_share_are_not_valid(key):
    """Sixteen rows of two users of whom one is cut every third step, and room for two of these."""
    buffer = make_buffer(capacity=32, window=1, truncated_share=1 / 16)
    state = filled(buffer, users=2, adds=16)
    drawn = jax.jit(buffer.sample, static_argnums=2)(key, state, 2000)
    cut, time = np.asarray(drawn.experience.truncated[:, 0]), np.asarray(drawn.experience.reward[:, 0, 0])
    valid = np.asarray(drawn.valid)
    assert valid[~cut].all()
    assert set(time[cut & valid]) == {10, 13}
    assert set(time[cut & ~valid]) == {1, 4, 7}


def test_any_pytree_can_be_remembered(key):
    buffer = make_buffer(capacity=12, window=2)
    experience = {"features": jnp.arange(6.0).reshape(3, 2), "id": jnp.arange(3)}
    state = buffer.init(experience)
    for step in range(6):
        state = buffer.add(state, jax.tree.map(lambda x, step=step: x + step, experience))
    drawn = buffer.sample(key, state, 64)
    assert drawn.valid.all()
    assert drawn.experience["features"].shape == (64, 2, 2)
    np.testing.assert_array_equal(np.diff(drawn.experience["id"], axis=1), 1)
