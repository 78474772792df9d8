"""The tree of sums against plain float64 arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.replay import sum_tree

PUT, DRAW = jax.jit(sum_tree.put), jax.jit(sum_tree.draw, static_argnums=2)
SEVERAL = jax.jit(jax.vmap(lambda key, tree: sum_tree.draw(key, tree, 64), in_axes=(0, None)))


def filled(weights):
    weights = jnp.asarray(weights, jnp.float32)
    return PUT(sum_tree.empty(len(weights)), jnp.arange(len(weights)), weights)


def check_sums(tree, weights):
    """Every level is the sum of the blocks of the one below, from the weights to the total."""
    level, at = np.pad(np.asarray(weights, np.float64), (0, -len(weights) % 16)), 0
    while True:
        np.testing.assert_allclose(tree.nodes[at : at + len(level)], level, rtol=1e-6)
        at += len(level)
        if len(level) == 16:
            break
        level = level.reshape(-1, 16).sum(1)
        level = np.pad(level, (0, -len(level) % 16))
    assert at == len(tree.nodes)
    np.testing.assert_allclose(tree.total, level.sum(), rtol=1e-6)


@pytest.mark.parametrize("size", [1, 16, 17, 300, 4097])
def test_any_changes_leave_the_sums_of_what_is_there(size):
    rng = np.random.default_rng(size)
    tree, weights = sum_tree.empty(size), np.zeros(size)
    width = min(size, 37)
    put_ranges = jax.jit(lambda tree, starts, values: sum_tree.put_ranges(tree, list(zip(starts, values, strict=True))))
    for _ in range(5):
        indices, values = rng.integers(0, size, 20), rng.random(20).astype(np.float32)
        tree = PUT(tree, jnp.asarray(indices, jnp.int32), jnp.asarray(values))
        weights[indices] = 0
        np.maximum.at(weights, indices, values)
        check_sums(tree, weights)
        starts, ranges = rng.integers(0, size - width + 1, 2), rng.random((2, width)).astype(np.float32)
        tree = put_ranges(tree, list(jnp.asarray(starts, jnp.int32)), list(jnp.asarray(ranges)))
        for start, values in zip(starts, ranges, strict=True):
            weights[start : start + width] = values
        check_sums(tree, weights)


def test_sums_do_not_drift(key):
    """After a million changes, of weights that differ by eight orders of magnitude."""
    size = 2000

    @jax.jit
    def run(tree):
        def change(tree, key):
            where, what = jax.random.split(key)
            indices = jax.random.randint(where, (500,), 0, size)
            return sum_tree.put(tree, indices, 10 ** jax.random.uniform(what, (500,), minval=-4, maxval=4)), None

        return jax.lax.scan(change, tree, jax.random.split(key, 2000))[0]

    tree = run(filled(np.ones(size)))
    check_sums(tree, np.asarray(tree.nodes[:size], np.float64))


def test_draws_are_stratified_and_in_proportion(key):
    """Any range of indices is drawn as often as its weight says, to less than two draws."""
    rng = np.random.default_rng(0)
    weights = np.where(rng.random(3000) < 0.3, 0, 10 ** rng.uniform(-6, 2, 3000)).astype(np.float32)
    drawn = np.asarray(DRAW(key, filled(weights), 4096))
    assert (np.diff(drawn) >= 0).all()
    assert (weights[drawn] > 0).all()
    expected = 4096 * np.cumsum(weights, dtype=np.float64) / weights.sum(dtype=np.float64)
    assert np.abs(np.searchsorted(drawn, np.arange(3000), side="right") - expected).max() < 1.01


@pytest.mark.parametrize("count", [1, 16])
def test_a_million_weights_are_told_apart(count, key):
    """In one block of equal weights every one is as likely, although a float32 of the sum holds few points there."""
    size, seen = 1 << 20, 20_000
    tree = filled(np.ones(size))
    drawn = jax.jit(jax.vmap(lambda key: sum_tree.draw(key, tree, count)))(jax.random.split(key, seen))
    counts = np.bincount(np.asarray(drawn).reshape(-1) % 16, minlength=16)
    expected = seen * count / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7, "99.9 % quantile of chi-squared, 15 degrees"


def test_weights_of_zero_are_never_drawn(key):
    """Not even where they follow the last weight, and rounding brings points to the end of the sum."""
    weights = np.zeros(70, np.float32)
    weights[[3, 20, 21]] = 1e-6, 1e6, 0.1
    drawn = SEVERAL(jax.random.split(key, 200), filled(weights))
    assert set(np.unique(drawn)) <= {3, 20, 21}
    assert (SEVERAL(jax.random.split(key, 200), filled(weights * (np.arange(70) == 21))) == 21).all()
    of_none = SEVERAL(jax.random.split(key, 200), sum_tree.empty(70))
    assert ((of_none >= 0) & (of_none < 70)).all()
