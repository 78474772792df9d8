"""The reduction over rows against a plain loop in NumPy, whatever the blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from recjax.catalogue.blocks import Blocks, reduce_rows

N = 23
X = np.random.default_rng(0).normal(size=N).astype(np.float32)


def total(rows):
    block = lax.dynamic_slice_in_dim(jnp.asarray(X), rows.start, rows.size)
    return jnp.where(rows.start + jnp.arange(rows.size) >= rows.first, block, 0).sum()


def seen(rows):
    """How often each row was counted."""
    ids = rows.start + jnp.arange(rows.size)
    return jnp.zeros(N).at[jnp.where(ids >= rows.first, ids, N)].add(1.0, mode="drop")


def add(merged, values):
    """For values of one block, and for those of several together."""
    return merged + values.reshape(-1, *merged.shape).sum(0)


@pytest.mark.parametrize("size", [1, 4, 11, 12, 22, 23])
@pytest.mark.parametrize("together", [None, 1, 3])
@pytest.mark.parametrize("overlap", [True, False])
def test_every_row_counts_once(size, together, overlap):
    blocks = Blocks(N, size, together, overlap)
    np.testing.assert_array_equal(jax.jit(lambda: reduce_rows(seen, add, blocks, init=jnp.zeros(N)))(), np.ones(N))
    found = jax.jit(lambda: reduce_rows(total, add, blocks, init=jnp.zeros(())))()
    np.testing.assert_allclose(found, X.sum(dtype=np.float64), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 22, 23])
def test_without_a_first_value_the_first_block_is_it(size):
    last = lambda rows: jnp.stack([jnp.asarray(rows.first), jnp.asarray(rows.start)])  # noqa: E731
    # Subtraction is not associative: the order of blocks shows.
    found = reduce_rows(last, lambda merged, value: value - merged, Blocks(N, size))
    expected = None
    for first in range(0, N, size):
        value = np.array([first, min(first, N - size)])
        expected = value if expected is None else value - expected
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("upto", [0, 1, 4, 5, 22, 23])
def test_blocks_beyond_a_traced_end_are_left_out(upto):
    run = jax.jit(lambda upto: reduce_rows(seen, add, Blocks(N, 4), init=jnp.zeros(N), upto=upto))
    expected = np.arange(N) < min(-(-upto // 4) * 4, N)
    np.testing.assert_array_equal(run(jnp.int32(upto)), expected)


def test_gradients_with_and_without_keeping_blocks():
    x = jnp.asarray(X)

    def norm(x, remat):
        def square(rows):
            block = lax.dynamic_slice_in_dim(x, rows.start, rows.size)
            return jnp.where(rows.start + jnp.arange(rows.size) >= rows.first, block**2, 0).sum()

        return reduce_rows(square, jnp.add, Blocks(N, 5), remat=remat)

    for remat in (False, True):
        np.testing.assert_allclose(jax.grad(norm)(x, remat), 2 * X, rtol=1e-6)


def test_sizes_are_checked():
    for size in (0, 24):
        with pytest.raises(ValueError, match=rf"size is {size}; blocks of 23 rows have 1 .. 23"):
            Blocks(N, size)
    for wrong in ({"init": None}, {"blocks": Blocks(N, 4, overlap=False)}):
        with pytest.raises(ValueError, match="upto needs init and overlapping blocks"):
            reduce_rows(seen, add, **({"blocks": Blocks(N, 4), "init": jnp.zeros(N), "upto": jnp.int32(3)} | wrong))
