"""Row gradients against sums in float64, one row at a time."""

from __future__ import annotations

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.catalogue import rows
from recjax.catalogue.rows import RowGrads, concatenate, scale, squared_norm
from recjax.types import PAD_ID

coalesce = jax.jit(rows.coalesce, static_argnums=1)


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def row_sums(ids, values, num_rows):
    """``{id: float64 sum}`` of the rows whose sum is not zero, in ascending order of ids."""
    sums = {}
    for row, value in zip(np.asarray(ids).tolist(), np.asarray(values, np.float64), strict=True):
        if 0 <= row < num_rows:
            sums[row] = sums.get(row, 0.0) + value
    return {row: sums[row] for row in sorted(sums) if (sums[row] != 0).any()}


def assert_coalesced(grads, sums, num_rows, rtol=0.0):
    ids, values = np.asarray(grads.ids), np.asarray(grads.values)
    assert grads.coalesced_for == num_rows
    assert ids.dtype == np.int32
    assert values.dtype == np.float32
    present = ids < num_rows
    assert ids[present].tolist() == list(sums)
    np.testing.assert_array_equal(ids[~present], num_rows + np.flatnonzero(~present))
    np.testing.assert_array_equal(values[~present], 0.0)
    if sums:
        np.testing.assert_allclose(values[present], np.stack(list(sums.values())), rtol=rtol, atol=rtol)


def random_grads(rng, slots, dim, num_rows):
    """Ids from two below the table to five above it, so that all of padding, repetition and overflow occur."""
    ids = rng.integers(-2, num_rows + 6, slots).astype(np.int32)
    return RowGrads(jnp.asarray(ids), jnp.asarray(rng.normal(size=(slots, dim)).astype(np.float32)))


@pytest.mark.parametrize(
    ("slots", "dim", "num_rows"),
    [(0, 3, 4), (1, 1, 1), (7, 2, 3), (300, 5, 11), (300, 5, 100_000), (256, 1, 2**31 - 257)],
)
def test_coalesced_rows_are_the_sums_of_their_duplicates(slots, dim, num_rows):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        ids = rng.integers(max(-2, -num_rows), min(num_rows + 6, 2**31 - 1), slots).astype(np.int32)
        grads = RowGrads(jnp.asarray(ids), jnp.asarray(rng.normal(size=(slots, dim)).astype(np.float32)))
        sums = row_sums(grads.ids, grads.values, num_rows)
        assert_coalesced(coalesce(grads, num_rows), sums, num_rows, rtol=2e-6)


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True, database=None)
@hypothesis.given(
    ids=hnp.arrays(np.int32, 12, elements=st.sampled_from([-(2**31), -6, -1, 0, 1, 2, 5, 6, 7, 11, 17, 2**31 - 1])),
    values=hnp.arrays(np.float32, (12, 2), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.0, 1.0]), fill=st.nothing()),
)
def test_coalesce_of_small_integers_is_exact(ids, values):
    # Six rows: -6 .. -1 must not wrap, 6 .. 17 must not meet the ids of empty slots, and +1 - 1 is no gradient.
    grads = RowGrads(jnp.asarray(ids), jnp.asarray(values))
    sums = row_sums(ids, values, 6)
    merged = coalesce(grads, 6)
    assert_coalesced(merged, sums, 6)
    expected = np.zeros((6, 2))
    for row, value in sums.items():
        expected[row] = value
    np.testing.assert_array_equal(grads.dense(6), expected)
    np.testing.assert_array_equal(merged.dense(6), expected)


def test_row_gradients_equal_the_gradient_of_a_table(key):
    num_rows = 9
    table = jax.random.normal(key, (num_rows, 3))
    ids = jnp.array([4, 0, 4, 8, 4, 0], jnp.int32)

    def loss(rows):
        return jnp.sin(rows).sum() + (rows[0] * rows[2]).sum()

    expected = jax.grad(lambda table: loss(table[ids]))(table)
    grads = RowGrads(ids, jax.grad(loss)(table[ids]))
    np.testing.assert_allclose(grads.dense(num_rows), expected, rtol=1e-6)
    np.testing.assert_allclose(coalesce(grads, num_rows).dense(num_rows), expected, rtol=1e-6)


def test_nan_and_infinities_stay_in_their_row():
    ids = jnp.array([3, 1, PAD_ID, 3, 2, 2, 9], jnp.int32)
    values = jnp.array([[1.0], [jnp.nan], [jnp.nan], [1.0], [jnp.inf], [-jnp.inf], [jnp.inf]])
    merged = coalesce(RowGrads(ids, values), 5)
    assert merged.ids.tolist() == [1, 2, 5 + 2, 3, 5 + 4, 5 + 5, 5 + 6]
    np.testing.assert_array_equal(merged.values[:, 0], [np.nan, np.nan, 0, 2, 0, 0, 0])


def test_duplicates_of_bfloat16_are_summed_in_float32():
    values = jnp.full((257, 1), 2.0**-9, jnp.bfloat16).at[0].set(1.0)
    grads = RowGrads(jnp.zeros(257, jnp.int32), values)
    assert coalesce(grads, 3).values[0, 0] == 1.5
    assert concatenate(grads, grads).dense(3)[0, 0] == 3.0
    assert scale(grads, 2.0).dense(3)[0, 0] == 3.0


def test_coalescing_twice_is_free_for_one_table_and_right_for_another():
    grads = random_grads(np.random.default_rng(0), 20, 2, 10)
    merged = coalesce(grads, 10)
    assert rows.coalesce(merged, 10) is merged
    for num_rows in (4, 10 + 25):
        inside = row_sums(merged.ids, merged.values, num_rows)
        assert_coalesced(coalesce(merged, num_rows), inside, num_rows, rtol=1e-6)


def test_concatenate_adds_and_scale_multiplies():
    rng = np.random.default_rng(1)
    first, second = random_grads(rng, 8, 3, 6), random_grads(rng, 5, 3, 6)
    total = concatenate(coalesce(first, 6), second)
    assert total.coalesced_for is None
    np.testing.assert_allclose(total.dense(6), first.dense(6) + second.dense(6), rtol=1e-6, atol=1e-6)
    for grads in (first, coalesce(first, 6)):
        scaled = scale(grads, jnp.float32(-0.5))
        assert scaled.coalesced_for == grads.coalesced_for
        np.testing.assert_allclose(scaled.dense(6), -0.5 * first.dense(6), rtol=1e-6)
    nothing = scale(coalesce(first, 6), 0.0)
    assert_coalesced(nothing, {}, 6)


def test_clipping_by_global_norm_equals_optax_on_dense_gradients():
    tables = {"items": (30, 12), "users": (9, 5)}
    rng = np.random.default_rng(2)
    grads = {name: random_grads(rng, slots, 4, num_rows) for name, (slots, num_rows) in tables.items()}
    merged = {name: coalesce(g, tables[name][1]) for name, g in grads.items()}
    norm = jnp.sqrt(sum(squared_norm(g) for g in merged.values()))
    clipped = {name: scale(g, jnp.minimum(1.0, 0.5 / norm)) for name, g in merged.items()}
    dense = {name: g.dense(tables[name][1]) for name, g in grads.items()}
    expected, _ = optax.clip_by_global_norm(0.5).update(dense, optax.EmptyState())
    for name in tables:
        np.testing.assert_allclose(clipped[name].dense(tables[name][1]), expected[name], rtol=1e-5, atol=1e-7)


def test_mapped_over_seeds_as_one_at_a_time():
    rng = np.random.default_rng(3)
    runs = [random_grads(rng, 40, 3, 15) for _ in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    mapped = jax.vmap(lambda run: coalesce(run, 15))(stacked)
    for i, run in enumerate(runs):
        alone = coalesce(run, 15)
        np.testing.assert_array_equal(mapped.ids[i], alone.ids)
        np.testing.assert_array_equal(mapped.values[i], alone.values)


def test_is_differentiable_in_the_values():
    grads = random_grads(np.random.default_rng(4), 12, 2, 5)
    slope = jax.grad(lambda values: squared_norm(coalesce(RowGrads(grads.ids, values), 5)))(grads.values)
    known = (grads.ids >= 0) & (grads.ids < 5)
    expected = jnp.where(known[:, None], 2 * grads.dense(5)[jnp.where(known, grads.ids, 0)], 0)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_temporary_memory_does_not_depend_on_the_table():
    grads = RowGrads(jax.ShapeDtypeStruct((512,), jnp.int32), jax.ShapeDtypeStruct((512, 8), jnp.float32))

    def temporary(num_rows):
        compiled = coalesce.lower(grads, num_rows).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(2**30) == temporary(1000) < 10 * 512 * 8 * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coalesce(RowGrads(jnp.zeros((2, 2), jnp.int32), jnp.zeros((2, 2))), 3), "shape \\(2, 2\\)"),
        (lambda: coalesce(RowGrads(jnp.zeros(2), jnp.zeros((2, 2))), 3), "int32 .* got float32"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int8), jnp.zeros((2, 2))), 3), "astype"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((3, 2))), 3), "shape \\[2, D\\].*\\(3, 2\\)"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros(2)), 3), "shape \\[2, D\\].*\\(2,\\)"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((2, 2), jnp.int32)), 3), "got int32"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((2, 2))), 0), "num_rows is 0"),
        (lambda: coalesce(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((2, 2))), 2**31 - 2), "num_rows is 2147483646"),
        (lambda: RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((3, 2))).dense(3), "shape"),
        (lambda: concatenate(), "0 of widths"),
        (
            lambda: concatenate(*(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((2, d))) for d in (2, 3))),
            "2 of widths \\[2, 3\\]",
        ),
        (lambda: scale(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros(2)), 1.0), "shape"),
        (lambda: squared_norm(RowGrads(jnp.zeros(2, jnp.int32), jnp.zeros((2, 2)))), "coalesce"),
    ],
)
def test_bad_gradients_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
