"""Two fake devices give what one gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from recjax.fit import TrainState, make_update, pmap_update, shard_seeds
from recjax.types import seed_axes, shared


@struct.dataclass
class State:
    w: jax.Array
    key: jax.Array
    context: jax.Array | None
    table: jax.Array = shared()
    step: jax.Array = shared()


def state(seeds):
    return State(
        w=jnp.arange(seeds * 3.0).reshape(seeds, 3),
        key=jax.random.split(jax.random.key(0), seeds),
        context=None,
        table=jnp.ones((5, 3)),
        step=jnp.int32(0),
    )


def test_seeds_are_divided_and_shared_leaves_copied():
    placed = shard_seeds(state(4), seed_axes(state(4)))
    assert [shard.data.shape for shard in placed.w.addressable_shards] == [(2, 3), (2, 3)]
    assert [shard.data.shape for shard in placed.table.addressable_shards] == [(5, 3), (5, 3)]
    assert len(placed.key.sharding.device_set) == 2


def test_a_mapped_step_is_the_same_on_two_devices_and_stays_there():
    axes = seed_axes(state(4))

    def step(s):
        noise = jax.random.normal(s.key, s.w.shape)
        return s.replace(w=s.w + noise + s.table.sum(axis=0), step=s.step + 1)

    mapped = jax.jit(jax.vmap(step, in_axes=(axes,), out_axes=axes))
    alone, divided = mapped(state(4)), mapped(shard_seeds(state(4), axes))
    np.testing.assert_allclose(alone.w, divided.w, rtol=1e-6)
    assert len(divided.w.sharding.device_set) == 2


def test_one_device_changes_nothing():
    alone = state(3)
    assert shard_seeds(alone, seed_axes(alone), devices=1) is alone


@pytest.mark.parametrize(
    ("seeds", "devices", "message"),
    [(3, 2, "3 seeds cannot be divided among 2 devices"), (4, 3, "devices=3 but JAX sees 2"), (4, 0, "devices=0")],
)
def test_what_cannot_be_divided_is_refused(seeds, devices, message):
    with pytest.raises(ValueError, match=message):
        shard_seeds(state(seeds), seed_axes(state(seeds)), devices)


def loss_fn(params, batch, key):
    error = batch["x"] @ params - batch["y"]
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def test_pmap_update_is_the_update_of_the_whole_batch():
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(8, 3)).astype(np.float32), "y": rng.normal(size=8).astype(np.float32)}
    optimizer = optax.adam(0.1)
    one, two = (TrainState.create(jnp.ones(3), optimizer) for _ in range(2))
    update, divided = make_update(loss_fn, optimizer), pmap_update(loss_fn, optimizer)
    for step in range(3):
        one, metrics = update(one, batch, jax.random.key(step))
        two, divided_metrics = divided(two, batch, jax.random.key(step))
    np.testing.assert_allclose(one.params, two.params, rtol=1e-5)
    assert int(two.step) == 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics, divided_metrics)
    with pytest.raises(ValueError, match="A batch of 7 cannot be divided among 2 devices"):
        divided(two, jax.tree.map(lambda leaf: leaf[:7], batch), jax.random.key(0))
