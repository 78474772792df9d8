"""Rows of a table as what is differentiated, so that no gradient ever has the shape of the table.

``jax.grad`` through ``table[ids]`` makes an array of the table's shape, almost all of it
zeros. :func:`value_and_row_grad` differentiates with respect to the rows that a function
looks up by :func:`lookup` instead, and gives them back as :class:`~recjax.catalogue.RowGrads`.
Outside of it ``lookup`` is plain indexing, so modules are written once.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import get_opaque_trace_state

from recjax.catalogue.rows import RowGrads, concatenate
from recjax.types import PAD_ID, Array, PyTree


def lookup(table: Array, ids: Array) -> Array:
    """``table[ids]``, the one way to read rows that row-wise optimisers can follow.

    Negative ids count from the end, as in NumPy, which is how ``PAD_ID`` reads the padding
    row; no gradient ever reaches a row through an id outside ``0 .. V-1``.

    Args:
      table: ``[V, D]``.
      ids: integers of any shape ``[...]``.

    Returns:
      ``[..., D]`` in the dtype of the table.

    Raises:
      ValueError: inside :func:`value_and_row_grad`, when called under a further
        transformation (``vmap``, ``scan``, ``jit``, ``remat``), out of which the ids could
        not be handed back.
    """
    tape = _tape.get()
    return table[ids] if tape is None else tape.lookup(table, ids)


def lookup_or_zeros(table: Array, ids: Array) -> Array:
    """:func:`lookup`, with zeros for ``PAD_ID``.

    >>> lookup_or_zeros(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, PAD_ID])).tolist()
    [[3.0, 4.0], [0.0, 0.0]]

    Args:
      table: ``[V, D]``.
      ids: integers of any shape ``[...]`` in ``0 .. V-1``, or ``PAD_ID``.

    Returns:
      ``[..., D]`` in the dtype of the table.

    Raises:
      ValueError: as :func:`lookup`.
    """
    is_row = ids != PAD_ID
    if is_followed(table):
        return jnp.where(is_row[..., None], lookup(table, ids), 0)
    # A gradient is dropped where it is scattered, which costs less than a selection from it before.
    return table.at[jnp.where(is_row, ids, table.shape[0])].get(mode="fill", fill_value=0)


def is_followed(table: Array) -> bool:
    """Whether ``table`` is one that :func:`value_and_row_grad` differentiates by its rows at the moment."""
    tape = _tape.get()
    return tape is not None and tape.index(table) is not None


def value_and_row_grad(
    loss_fn: Callable[..., tuple[Array, Any]], params: PyTree, is_table: PyTree, *args: Any
) -> tuple[tuple[Array, Any], PyTree]:
    """Value and gradient of a function of parameters, where gradients of tables are rows.

    The function is traced twice, first to see which rows it reads. ``flax.linen.Embed`` is
    followed as :func:`lookup` is, so modules need not know.

    Args:
      loss_fn: ``(params, *args) -> (loss, aux)``.
      params: the parameters.
      is_table: a tree of bools like ``params``, True where a leaf ``[V, D]`` is a table.
      *args: not differentiated.

    Returns:
      ``((loss, aux), grads)`` with ``grads`` like ``params`` but a
      :class:`~recjax.catalogue.RowGrads` in the place of each table; its ids are those that
      were read, repeats and padding included.

    Raises:
      ValueError: a table is not ``[V, D]``; or a gradient would reach a table other than
        through its rows, as by a softmax over the whole catalogue.

    >>> table = jnp.arange(8.0).reshape(4, 2)
    >>> loss_fn = lambda params, ids: (jnp.sum(lookup(params["item"], ids) * params["scale"]), None)
    >>> params = {"item": table, "scale": jnp.float32(3)}
    >>> (loss, _), grads = value_and_row_grad(loss_fn, params, {"item": True, "scale": False}, jnp.array([2, 0, 2]))
    >>> grads["item"].ids.tolist(), grads["item"].values.tolist(), float(grads["scale"])
    ([2, 0, 2], [[3.0, 3.0], [3.0, 3.0], [3.0, 3.0]], 19.0)
    """
    paths_and_leaves, treedef = jax.tree.flatten_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in paths_and_leaves]
    leaves = [leaf for _, leaf in paths_and_leaves]
    tables = [i for i, chosen in enumerate(jax.tree.leaves(is_table)) if chosen]
    for i in tables:
        if jnp.ndim(leaves[i]) != 2:
            raise ValueError(f"The table {names[i]} must have shape [V, D]; got {jnp.shape(leaves[i])}.")

    def rebuild(found: dict[int, Any]) -> PyTree:
        return jax.tree.unflatten(treedef, [found[i] for i in range(len(leaves))])

    def run(variables: dict[int, Any], tape: _Tape) -> tuple[Array, tuple[Any, list[list[Array]]]]:
        guarded = {i: _guard(names[i], lax.stop_gradient(leaves[i]), tape.token) for i in tables}
        with tape.following(guarded):
            loss, aux = loss_fn(rebuild(variables | guarded), *args)
        return loss, (aux, [tape.ids[i] for i in tables])

    dense = {i: leaf for i, leaf in enumerate(leaves) if i not in tables}
    shapes = jax.eval_shape(lambda: run(dense, _Tape(None, jnp.float32(0)))[1][1])
    deltas = {
        i: [jnp.zeros((*ids.shape, leaves[i].shape[1]), leaves[i].dtype) for ids in found]
        for i, found in zip(tables, shapes, strict=True)
    }
    differentiated = jax.value_and_grad(
        lambda dense, deltas, token: run(dense, _Tape(deltas, token)), argnums=(0, 1, 2), has_aux=True
    )
    (loss, (aux, ids)), (grads, row_grads, _) = differentiated(dense, deltas, jnp.float32(0))
    rows = {i: _row_grads(found, row_grads[i], leaves[i]) for i, found in zip(tables, ids, strict=True)}
    return (loss, aux), rebuild(grads | rows)


def _row_grads(ids: list[Array], values: list[Array], table: Array) -> RowGrads:
    """The gradients of all lookups of a table, one after the other."""
    width = table.shape[1]
    nothing = RowGrads(jnp.zeros(0, jnp.int32), jnp.zeros((0, width), jnp.float32))
    found = (RowGrads(i.ravel().astype(jnp.int32), v.reshape(-1, width)) for i, v in zip(ids, values, strict=True))
    return concatenate(nothing, *found)


class _Tape:
    """What is looked up while a function runs once.

    In the first run ``deltas`` is None; in the second they are zeros that are added to the
    rows, one array a lookup in the order of lookups, and the function is differentiated by them.
    """

    def __init__(self, deltas: dict[int, list[Array]] | None, token: Array) -> None:
        self.token, self.ids = token, {}  # type: ignore[var-annotated]
        self._deltas, self._tables, self._trace = deltas, {}, None  # type: ignore[var-annotated]

    @contextlib.contextmanager
    def following(self, tables: dict[int, Array]) -> Iterator[None]:
        self._tables, self._trace = tables, get_opaque_trace_state()
        self.ids = {i: [] for i in tables}
        before = _tape.set(self)
        try:
            with nn.intercept_methods(_embed):
                yield
        finally:
            _tape.reset(before)

    def index(self, table: Array) -> int | None:
        return next((i for i, followed in self._tables.items() if followed is table), None)

    def lookup(self, table: Array, ids: Array) -> Array:
        index = self.index(table)
        if index is None:
            return table[ids]
        if get_opaque_trace_state() != self._trace:
            raise ValueError(
                "A table under a row-wise optimiser was looked up inside vmap, scan, jit or remat, which its ids"
                " cannot leave. Look the rows up before, and hand them in; or train the table by a dense optimiser."
            )
        rows = lax.stop_gradient(table)[ids]
        if self._deltas is not None:
            rows = rows + self._deltas[index][len(self.ids[index])]
        self.ids[index].append(ids)
        return rows


_tape: contextvars.ContextVar[_Tape | None] = contextvars.ContextVar("tape", default=None)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _guard(name: str, table: Array, token: Array) -> Array:
    """The table, whose derivative must never be asked for; the token is what makes JAX ask."""
    return table


def _refuse(name: str, residuals: None, cotangent: Array) -> tuple[Array, Array]:
    raise ValueError(
        f"The table {name} is under a row-wise optimiser, but the loss depends on it other than through rows looked up"
        " by recjax.catalogue.lookup or flax.linen.Embed, as a softmax over the whole catalogue does. Use a sampled"
        " loss, or train this table by a dense optimiser."
    )


_guard.defvjp(lambda name, table, token: (table, None), _refuse)


def _embed(call: Callable, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
    """``flax.linen.Embed`` by :func:`lookup`."""
    module = context.module
    if isinstance(module, nn.Embed) and context.method_name == "__call__" and is_followed(module.embedding):
        rows = lookup(module.embedding, *args, **kwargs)
        return rows if module.dtype is None else rows.astype(module.dtype)
    return call(*args, **kwargs)
