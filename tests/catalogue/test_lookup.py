"""Gradients by rows equal dense gradients, for every way in which a module may read a table."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import RowGrads, is_followed, lookup, lookup_or_zeros, value_and_row_grad
from recjax.types import PAD_ID


class Reader(nn.Module):
    """Reads one table by Linen's Embed, twice, and one by lookup; the rest is dense."""

    dtype: object = None

    @nn.compact
    def __call__(self, ids, more):
        words = nn.Embed(10, 4, name="words", dtype=self.dtype)
        items = self.param("items", nn.initializers.normal(1.0), (7, 3))
        hidden = nn.Dense(2)(words(ids).astype(jnp.float32)) ** 2
        return hidden.sum() + (words(more) ** 3).sum().astype(jnp.float32) + (lookup(items, ids) ** 2).sum()


def names_tables(params, *names):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(name in jax.tree_util.keystr(path) for name in names), params
    )


@pytest.fixture
def problem():
    module, ids, more = Reader(), jnp.array([[1, 3], [3, 6]]), jnp.array([3, 0, 3])
    params = jax.jit(module.init)(jax.random.key(0), ids, more)
    return (lambda params, ids, more: (module.apply(params, ids, more), {"sum": ids.sum()})), params, ids, more


@pytest.mark.parametrize("names", [("words", "items"), ("words",), ("items",)])
def test_rows_are_the_dense_gradient(problem, names):
    loss_fn, params, ids, more = problem
    is_table = names_tables(params, *names)
    (loss, aux), grads = jax.jit(lambda *a: value_and_row_grad(loss_fn, a[0], is_table, *a[1:]))(params, ids, more)
    (expected_loss, _), expected = jax.value_and_grad(loss_fn, has_aux=True)(params, ids, more)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert aux["sum"] == 13
    found = jax.tree.map(
        lambda grad, like: grad.dense(len(like)) if isinstance(grad, RowGrads) else grad,
        grads,
        params,
        is_leaf=lambda x: isinstance(x, RowGrads),
    )
    assert sum(
        isinstance(x, RowGrads) for x in jax.tree.leaves(grads, is_leaf=lambda x: isinstance(x, RowGrads))
    ) == len(names)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_ids_are_those_that_were_read_in_their_order(problem):
    loss_fn, params, ids, more = problem
    _, grads = value_and_row_grad(loss_fn, params, names_tables(params, "words", "items"), ids, more)
    assert grads["params"]["words"]["embedding"].ids.tolist() == [1, 3, 3, 6, 3, 0, 3]
    assert grads["params"]["items"].ids.tolist() == [1, 3, 3, 6]


def test_no_array_has_the_shape_of_the_table():
    def loss_fn(table, ids):
        return (lookup(table, ids) ** 2).sum(), None

    table, ids = jax.ShapeDtypeStruct((1_000_000, 8), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    step = jax.jit(lambda table, ids: value_and_row_grad(loss_fn, table, True, ids)[1])
    memory = step.lower(table, ids).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 20_000


def test_outside_it_is_plain_indexing():
    table = jnp.arange(8.0).reshape(4, 2)
    assert lookup(table, jnp.array([[2, PAD_ID]])).tolist() == [[[4.0, 5.0], [6.0, 7.0]]]
    assert not is_followed(table)
    gradient = jax.grad(lambda t: lookup(t, jnp.array([1, 1])).sum())(table)
    assert gradient.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0]]


def test_padding_reads_zeros_and_hands_no_gradient_back():
    table = jnp.arange(1.0, 9.0).reshape(4, 2)
    ids = jnp.array([[3, PAD_ID, 0], [3, 3, PAD_ID]])
    expected = np.where(ids[..., None] == PAD_ID, 0, np.asarray(table)[np.maximum(ids, 0)])
    np.testing.assert_array_equal(lookup_or_zeros(table, ids), expected)
    loss_fn = lambda params, ids: ((lookup_or_zeros(params, ids) + 1) ** 2).sum()  # noqa: E731
    by_hand = np.zeros((4, 2))
    np.add.at(by_hand, np.asarray(ids)[ids != PAD_ID], 2 * (expected[ids != PAD_ID] + 1))
    np.testing.assert_allclose(jax.grad(loss_fn)(table, ids), by_hand)
    (_, _), rows = value_and_row_grad(lambda *a: (loss_fn(*a), None), table, True, ids)
    np.testing.assert_allclose(rows.dense(4), by_hand)


def test_a_table_that_is_never_read_has_no_rows():
    params = {"item": jnp.ones((4, 2)), "bias": jnp.float32(2)}
    _, grads = value_and_row_grad(lambda p: (p["bias"] ** 2, None), params, {"item": True, "bias": False})
    assert grads["item"].ids.shape == (0,)
    assert grads["item"].values.shape == (0, 2)
    assert grads["bias"] == 4


def test_seeds_by_vmap_equal_a_loop(problem):
    loss_fn, params, ids, more = problem
    seeds = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    step = lambda params: value_and_row_grad(loss_fn, params, names_tables(params, "words"), ids, more)  # noqa: E731
    _, grads = jax.vmap(step)(seeds)
    for seed in range(2):
        _, expected = step(jax.tree.map(lambda x: x[seed], seeds))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[seed], b, rtol=1e-5), grads, expected)  # noqa: B023


def test_reading_the_whole_table_is_refused_by_name(problem):
    loss_fn, params, ids, more = problem

    def with_decay(params, ids, more):
        return loss_fn(params, ids, more)[0] + (params["params"]["items"] ** 2).sum(), None

    with pytest.raises(ValueError, match=r"table \['params'\]\['items'\] is under a row-wise optimiser, but the loss"):
        value_and_row_grad(with_decay, params, names_tables(params, "items"), ids, more)


def test_reading_it_without_a_gradient_is_fine(problem):
    loss_fn, params, ids, more = problem

    def with_target(params, ids, more):
        return loss_fn(params, ids, more)[0] * jax.lax.stop_gradient(params["params"]["items"].max()), None

    _, grads = value_and_row_grad(with_target, params, names_tables(params, "items"), ids, more)
    _, expected = jax.value_and_grad(with_target, has_aux=True)(params, ids, more)
    np.testing.assert_allclose(grads["params"]["items"].dense(7), expected["params"]["items"], rtol=1e-5)


@pytest.mark.parametrize("transform", [jax.vmap, jax.jit, jax.checkpoint, lambda f: lambda ids: jax.lax.map(f, ids)])
def test_lookups_that_cannot_hand_their_ids_back_are_refused(transform):
    def loss_fn(table, ids):
        return transform(lambda i: lookup(table, i))(ids).sum(), None

    with pytest.raises(ValueError, match="inside vmap, scan, jit or remat"):
        value_and_row_grad(loss_fn, jnp.ones((4, 2)), True, jnp.array([1, 2]))


def test_after_an_error_nothing_is_followed(problem):
    table = jnp.ones((4, 2))
    with pytest.raises(ZeroDivisionError):
        value_and_row_grad(lambda t: 1 / 0, table, True)
    assert not is_followed(table)
    assert lookup(table, jnp.array([0])).shape == (1, 2)


def test_tables_have_two_axes():
    with pytest.raises(ValueError, match=r"table \['w'\] must have shape \[V, D\]; got \(3,\)"):
        value_and_row_grad(lambda p: (p["w"].sum(), None), {"w": jnp.ones(3)}, {"w": True})
