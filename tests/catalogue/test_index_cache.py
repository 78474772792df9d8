"""An index that is refreshed row by row against one that is always made anew."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import CachedIndex, build_index, refresh, top_k
from recjax.types import PAD_ID, seed_axes

N, D = 11, 3


def vectors_of(params):
    """An item's own row, and a weight that all items share."""
    return lambda ids: params["own"][ids] * params["shared"][None]


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {"own": jnp.asarray(rng.normal(size=(N, D)), jnp.float32), "shared": jnp.ones(D)}


def everything(params):
    return vectors_of(params)(jnp.arange(N))


@pytest.mark.parametrize("every", [None, 1, 3])
def test_rows_of_their_own_are_never_stale(params, every):
    index = build_index(vectors_of(params), N)
    step = jax.jit(lambda index, touched, params: refresh(index, touched, vectors_of(params), every))
    for update in range(5):
        touched = jnp.array([update, PAD_ID, update, N, 7], jnp.int32)
        params["own"] = params["own"].at[jnp.array([update, 7])].add(1.0)
        index = step(index, touched, params)
        np.testing.assert_array_equal(index.vectors, everything(params))
    assert index.age == {None: 5, 1: 0, 3: 2}[every]
    assert index.drift == 0


def test_what_items_share_is_stale_until_the_full_refresh_and_reported(params):
    index = build_index(vectors_of(params), N)
    for update in range(1, 7):
        before = index.vectors
        params["shared"] = params["shared"] + 0.5
        index = refresh(index, jnp.array([2]), vectors_of(params), every=3)
        np.testing.assert_array_equal(index.vectors[2], everything(params)[2])
        if update % 3:
            np.testing.assert_array_equal(index.vectors[3:], before[3:])
        else:
            np.testing.assert_allclose(index.vectors, everything(params), rtol=1e-6)
            wrong = np.abs(np.asarray(index.vectors) - np.asarray(before))
            wrong[2] = np.abs(0.0)  # Made again at once, so it was not stale.
            np.testing.assert_allclose(index.drift, wrong.max(), rtol=1e-6)
        assert index.age == update % 3


def test_catalogues_of_several_blocks_are_made_whole():
    index = build_index(lambda ids: (2.0 * ids)[:, None], 10_000)
    np.testing.assert_array_equal(index.vectors[:, 0], 2.0 * np.arange(10_000))
    assert top_k(jnp.ones((1, 1)), index.index, 1)[1].tolist() == [[9_999]]


def test_the_index_is_written_in_place():
    num_items, dim = 500_000, 8

    def run(index, scale):
        def step(carry, touched):
            index, scale = carry
            scale = 1.01 * scale
            index = refresh(index, touched, lambda ids: jnp.cos(ids[:, None] * scale[None]), every=2)
            return (index, scale), index.vectors[:4].sum()

        return jax.lax.scan(step, (index, scale), jnp.zeros((4, 16), jnp.int32))

    index = jax.eval_shape(lambda: build_index(lambda ids: jnp.cos(ids[:, None] * jnp.ones((1, dim))), num_items))
    memory = jax.jit(run, donate_argnums=0).lower(index, jnp.ones(dim)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < num_items * dim * 4 / 10
    assert memory.alias_size_in_bytes >= num_items * dim * 4


def test_seeds_share_the_age_and_equal_a_loop(params):
    seeds = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    make = lambda params: build_index(vectors_of(params), N)  # noqa: E731
    axes = seed_axes(jax.eval_shape(make, params))
    assert axes == CachedIndex(vectors=0, drift=0, age=None)
    index = jax.vmap(make, out_axes=axes)(seeds)
    changed = jax.tree.map(lambda x: x + 1, seeds)
    update = lambda index, params: refresh(index, jnp.array([1]), vectors_of(params), every=1)  # noqa: E731
    found = jax.vmap(update, in_axes=(axes, 0), out_axes=axes)(index, changed)
    for seed in range(2):
        one = jax.tree.map(lambda x: x[seed], changed)  # noqa: B023
        np.testing.assert_allclose(found.vectors[seed], everything(one), rtol=1e-6)
    assert found.age == 0


def test_bad_arguments_are_named(params):
    with pytest.raises(ValueError, match="num_items is 0"):
        build_index(vectors_of(params), 0)
    with pytest.raises(ValueError, match="every is 0"):
        refresh(build_index(vectors_of(params), N), jnp.array([0]), vectors_of(params), every=0)
