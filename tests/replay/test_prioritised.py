"""Prioritised replay: which windows can be drawn, how likely, and what an update changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import replay
from recjax.types import Observation, Response, Spec, Step, seed_axes


def numbered(time, users):
    """Experience that says whose it is and when it was."""
    return {"user": jnp.arange(users), "time": jnp.broadcast_to(jnp.asarray(time), (users,))}


def compiled(memory, capacity):
    init, add, sample, update = memory.make(capacity)
    return replay.Buffer(init, jax.jit(add), jax.jit(sample, static_argnums=2), jax.jit(update))


def filled(buffer, users, adds):
    add = lambda state, time: (buffer.add(state, numbered(time, users)), None)  # noqa: E731
    return jax.lax.scan(add, buffer.init(numbered(0, users)), jnp.arange(adds))[0]


@pytest.mark.parametrize(("alpha", "window", "users"), [(0.0, 1, 5), (0.6, 3, 1), (0.6, 1, 5), (1.0, 3, 5)])
def test_probabilities_are_those_of_the_definition(alpha, window, users):
    """Against float64: new windows get the largest priority, broken ones none, while the ring goes round twice."""
    rows, epsilon = 7, 0.01
    buffer = compiled(replay.prioritised(window, alpha=alpha, epsilon=epsilon), rows * users)
    state, expected, largest = buffer.init(numbered(0, users)), {}, 1.0
    rng = np.random.default_rng(1)
    for time in range(2 * rows + 2):
        state = buffer.add(state, numbered(time, users))
        expected = {place: weight for place, weight in expected.items() if place[0] > time - rows}
        if time >= window - 1:
            expected |= {(time - window + 1, user): largest for user in range(users)}
        batch = buffer.sample(jax.random.key(time), state, 512)
        assert batch.valid.all() == bool(expected)
        if not expected:
            continue
        places = list(
            zip(batch.experience["time"][:, 0].tolist(), batch.experience["user"][:, 0].tolist(), strict=True)
        )
        total = sum(expected.values())
        np.testing.assert_allclose(batch.probabilities, [expected[place] / total for place in places], rtol=1e-5)
        if alpha == 0 or time < window + 2:
            assert set(places) == set(expected)
        priorities = rng.random(512).astype(np.float32) * 3
        state = buffer.update(state, batch.indices, jnp.asarray(priorities))
        given = {}
        for place, priority in zip(places, priorities.tolist(), strict=True):
            given[place] = max(given.get(place, 0.0), (priority + epsilon) ** alpha)
        expected |= given
        largest = max(largest, *given.values())


def test_nothing_is_valid_before_a_window_is_whole_and_updates_leave_it_so(key):
    buffer = compiled(replay.prioritised(window=4), 40)
    state = filled(buffer, users=2, adds=3)
    batch = buffer.sample(key, state, 8)
    assert not batch.valid.any()
    assert np.isfinite(batch.probabilities).all()
    state = buffer.update(state, jnp.arange(16), jnp.full(16, 9.0))
    assert float(state.weights.total) == 0
    assert buffer.sample(key, buffer.add(state, numbered(3, 2)), 8).valid.all()


def test_windows_with_lost_observations_are_not_drawn_again(key):
    """Every step of one user is cut, and there is room for what two of eight ended with."""
    seen = Observation(history=jnp.zeros((2, 1), jnp.int32), behaviour=jnp.zeros((2, 1), jnp.int32))
    cut, never = jnp.array([True, False]), jnp.zeros(2, bool)
    pair = jnp.zeros((2, 1))
    step = Step(seen, jnp.zeros((2, 1), jnp.int32), pair[:, 0], None, Response(click=pair), pair, never, cut, seen)
    buffer = compiled(replay.prioritised(truncated_share=1 / 8), 16)
    state = buffer.init(step)
    for _ in range(8):
        state = buffer.add(state, step)
    batch = buffer.sample(key, state, 400)
    lost = set(np.unique(batch.indices[~batch.valid]).tolist())
    # The newest row needs no stored observation; of the rest the newest two are held.
    assert lost == {2 * row for row in range(6)}
    state = buffer.update(state, batch.indices, jnp.ones(400))
    batch = buffer.sample(jax.random.key(1), state, 400)
    assert batch.valid.all()
    assert not lost & set(batch.indices.tolist())


def test_importance_weights_undo_priorities(key):
    """With β = 1 the weighted mean over draws is the plain mean over windows."""
    buffer = compiled(replay.prioritised(alpha=1.0), 64)
    state = filled(buffer, users=4, adds=16)
    batch = buffer.sample(key, state, 4096)
    state = buffer.update(state, batch.indices, 0.1 + batch.experience["time"][:, 0].astype(jnp.float32))
    batch = buffer.sample(key, state, 4096)
    time, weights = np.asarray(batch.experience["time"][:, 0]), np.asarray(replay.importance_weights(batch, 1.0))
    assert weights.max() == 1
    assert time.mean() > 9
    np.testing.assert_allclose((weights * time).sum() / weights.sum(), 7.5, rtol=0.02)
    half = replay.importance_weights(batch, 0.5)
    np.testing.assert_allclose(half**2, weights, rtol=1e-5)
    assert (replay.importance_weights(batch, 0.0) == 1).all()
    unequal = batch._replace(valid=batch.valid.at[:10].set(False))
    assert (replay.importance_weights(unequal, 0.7)[:10] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_bad_priorities_show(bad, key):
    buffer = compiled(replay.prioritised(), 64)
    state = buffer.update(filled(buffer, users=4, adds=16), jnp.array([5]), jnp.array([bad]))
    assert np.isnan(buffer.sample(key, state, 8).probabilities).all()


def remember_recall_and_rank(buffer, users, batch_size=8):
    def body(carry, key):
        time, state = carry
        state = buffer.add(state, numbered(time, users))
        batch = buffer.sample(key, state, batch_size)
        weights = replay.importance_weights(batch, 0.5)
        state = buffer.update(state, batch.indices, batch.experience["time"][:, 0] % 5 + 0.5)
        return (time + 1, state), (batch.indices, weights)

    def run(state, keys):
        (_, state), drawn = jax.lax.scan(body, (jnp.int32(0), state), keys)
        return state, drawn

    return run


def over_seeds(state, seeds):
    axes = seed_axes(state)
    stack = lambda axis, x: x if axis is None else jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), x)  # noqa: E731
    return axes, jax.tree.map(stack, axes, state, is_leaf=lambda axis: axis is None)


@pytest.mark.parametrize("users", [1, 16])
@pytest.mark.parametrize("seeds", [None, 3])
def test_a_scan_writes_in_place(users, seeds):
    buffer = replay.prioritised(window=2).make(1 << 14)
    state = buffer.init(numbered(0, users))
    run, keys = remember_recall_and_rank(buffer, users), jax.random.split(jax.random.key(0), 4)
    if seeds:
        axes, state = over_seeds(state, seeds)
        assert axes.ring.cursor is None
        run, keys = jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0)), jax.random.split(keys[0], (seeds, 4))
    memory = jax.jit(run, donate_argnums=0).lower(state, keys).compile().memory_analysis()
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    assert memory.temp_size_in_bytes < state.weights.nodes.nbytes / 4
    assert memory.alias_size_in_bytes >= size


def test_vmap_over_seeds_equals_single_seeds():
    buffer = compiled(replay.prioritised(window=2), 60)
    state = buffer.init(numbered(0, 3))
    axes, several = over_seeds(state, 2)
    keys = jax.random.split(jax.random.key(0), (2, 30))
    run = remember_recall_and_rank(buffer, 3)
    _, together = jax.jit(jax.vmap(run, in_axes=(axes, 0), out_axes=(axes, 0)))(several, keys)
    single = jax.jit(run)
    for seed in range(2):
        alone = single(state, keys[seed])[1]
        jax.tree.map(lambda a, b, seed=seed: np.testing.assert_allclose(a[seed], b, rtol=1e-6), together, alone)
    assert (together[0][0] != together[0][1]).any()


def test_it_stores_experience_in_small_dtypes(key):
    spec = Spec(num_items=100, slate_size=2, history_length=3)
    seen = spec.empty_observation((4,))
    pair, never = jnp.zeros((4, 2)), jnp.zeros(4, bool)
    step = Step(seen, jnp.full((4, 2), 99), pair[:, 0], None, Response(click=pair), pair, never, never, seen)
    buffer = replay.stored(replay.prioritised().make(40), replay.step_storage(spec))
    state = jax.jit(buffer.add)(buffer.init(step), step)
    assert state.ring.data.slate.dtype == jnp.int8
    batch = jax.jit(buffer.sample, static_argnums=2)(key, state, 8)
    assert batch.experience.slate.dtype == jnp.int32
    after = buffer.update(state, batch.indices[:1], jnp.array([3.0]))
    assert float(after.largest) == pytest.approx(3**0.6, rel=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        replay.prioritised(alpha=1.5)
    with pytest.raises(ValueError, match="epsilon is 0"):
        replay.prioritised(epsilon=0)
    with pytest.raises(ValueError, match="window is 0"):
        replay.prioritised(0)
    with pytest.raises(ValueError, match="capacity is 0"):
        replay.prioritised().make(0)
