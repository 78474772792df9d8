"""Gradient descent: one update of parameters, by an optax transformation or by rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from recjax.catalogue import RowGrads
from recjax.catalogue.rows import scale
from recjax.fit.row_wise import RowWise, is_rows
from recjax.types import PAD_ID, Array, PyTree

Optimizer: TypeAlias = optax.GradientTransformation | RowWise
"""An optax transformation, or a row-wise optimiser of tables beside one."""

Loss = Callable[..., tuple[Array, Any]]
"""``(params, *args) -> (loss, aux)``."""


class Switch(NamedTuple):
    """Losses for batches of several shapes, of which each batch, or part of one, takes one.

    Attributes:
      which: ``(*args) -> i32[]`` the index of a branch.
      branches: the losses, with the arguments of :data:`Loss`; all return the same shapes.
    """

    which: Callable[..., Array]
    branches: tuple[Loss, ...]


class Descent(NamedTuple):
    """The result of one update.

    Attributes:
      params: after the update.
      opt_state: after the update.
      loss: before the update.
      aux: what the loss function returned beside the loss.
      grad_norm: global norm of the gradient before any clipping.
    """

    params: PyTree
    opt_state: PyTree
    loss: Array
    aux: Any
    grad_norm: Array


def descend(
    loss_fn: Loss | Switch,
    optimizer: Optimizer,
    params: PyTree,
    opt_state: PyTree,
    *args: Any,
    axis_name: str | None = None,
    accumulate: int = 1,
) -> Descent:
    """One step of gradient descent, to be used inside ``jit``, ``scan`` or ``vmap``.

    Args:
      loss_fn: ``(params, *args) -> (loss, aux)``, or a :class:`Switch` of several.
      optimizer: an optax transformation or :class:`RowWise`.
      params: the parameters.
      opt_state: ``optimizer.init(params)`` or what the last step returned.
      *args: handed to ``loss_fn``.
      axis_name: a mapped axis over which gradients, loss and ``aux`` are averaged.
      accumulate: into how many parts of equal size the leading axis of every leaf of ``args``
        is cut. Gradients, loss and ``aux`` are averaged over the parts, which are computed one
        after the other, so activations take the memory of one.

    Raises:
      ValueError: ``accumulate`` does not divide a leading axis.
    """
    if accumulate == 1:
        (loss, aux), grads = _value_and_grad(loss_fn, optimizer, params, *args)
    else:
        (loss, aux), grads = _accumulated(loss_fn, optimizer, params, args, accumulate)
    if axis_name is not None:
        loss, aux = jax.lax.pmean((loss, aux), axis_name)
        grads = jax.tree.map(lambda leaf: _mean_over(axis_name, leaf), grads, is_leaf=is_rows)
    if isinstance(optimizer, RowWise):
        params, opt_state, norm = optimizer.step(grads, opt_state, params)
    else:
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return Descent(params, opt_state, loss, aux, norm)


def _value_and_grad(
    loss_fn: Loss | Switch, optimizer: Optimizer, params: PyTree, *args: Any
) -> tuple[tuple[Array, Any], PyTree]:
    if isinstance(loss_fn, Switch):
        # Differentiated inside the branches: the derivative of the switch itself would carry what each remembers.
        take: list[Callable[..., Any]] = [partial(_value_and_grad, each, optimizer) for each in loss_fn.branches]
        if isinstance(optimizer, RowWise):
            wanted = _most_rows([jax.eval_shape(each, params, *args) for each in take])
            take = [partial(_with_rows, wanted, each) for each in take]
        return jax.lax.switch(loss_fn.which(*args), take, params, *args)
    if isinstance(optimizer, RowWise):
        return optimizer.value_and_grad(loss_fn, params, *args)
    return jax.value_and_grad(loss_fn, has_aux=True)(params, *args)


def _most_rows(outputs: list[PyTree]) -> list[int]:
    """How many gradient rows each table has at most; 0 for leaves that are no rows."""
    leaves = [jax.tree.leaves(output, is_leaf=is_rows) for output in outputs]
    return [max(len(leaf.ids) if is_rows(leaf) else 0 for leaf in same) for same in zip(*leaves, strict=True)]


def _with_rows(wanted: list[int], compute: Callable[..., PyTree], *args: Any) -> PyTree:
    """The outputs of ``compute`` with gradients of tables filled up to a number of rows."""
    leaves, structure = jax.tree.flatten(compute(*args), is_leaf=is_rows)

    def fill(leaf: Any, rows: int) -> Any:
        if not is_rows(leaf):
            return leaf
        missing = rows - len(leaf.ids)
        ids = jnp.pad(leaf.ids, (0, missing), constant_values=PAD_ID)
        return RowGrads(ids, jnp.pad(leaf.values, ((0, missing), (0, 0))))

    return jax.tree.unflatten(structure, map(fill, leaves, wanted))


def _accumulated(
    loss_fn: Loss | Switch, optimizer: Optimizer, params: PyTree, args: tuple, parts: int
) -> tuple[tuple[Array, Any], PyTree]:
    """Means over the parts of ``args``; gradient rows of tables are concatenated."""

    def cut(leaf: Array) -> Array:
        if parts < 1 or leaf.shape[0] % parts:
            raise ValueError(f"accumulate={parts} must divide the batch of {leaf.shape[0]} into parts of equal size.")
        return leaf.reshape(parts, -1, *leaf.shape[1:])

    def add_part(total: PyTree, part: tuple) -> tuple[PyTree, tuple]:
        outputs, grads = _value_and_grad(loss_fn, optimizer, params, *part)
        leaves = jax.tree.leaves(grads, is_leaf=is_rows)
        whole = {i: leaf for i, leaf in enumerate(leaves) if not is_rows(leaf)}
        rows = {i: leaf for i, leaf in enumerate(leaves) if is_rows(leaf)}
        return jax.tree.map(jnp.add, total, whole), (outputs, rows)

    pieces = jax.tree.map(cut, args)
    first = jax.tree.map(lambda leaf: leaf[0], pieces)
    _, shapes = jax.eval_shape(lambda part: _value_and_grad(loss_fn, optimizer, params, *part), first)
    like, structure = jax.tree.flatten(shapes, is_leaf=is_rows)
    zeros = {i: jnp.zeros(leaf.shape, leaf.dtype) for i, leaf in enumerate(like) if not is_rows(leaf)}
    whole, (outputs, rows) = jax.lax.scan(add_part, zeros, pieces)
    means = {i: leaf / parts for i, leaf in whole.items()}
    beside = {
        i: scale(RowGrads(leaf.ids.ravel(), leaf.values.reshape(-1, leaf.values.shape[-1])), 1 / parts)
        for i, leaf in rows.items()
    }
    leaves = means | beside
    outputs = jax.tree.map(lambda x: x.mean(0), outputs)
    return outputs, jax.tree.unflatten(structure, [leaves[i] for i in range(len(leaves))])


def _mean_over(axis_name: str, leaf: Any) -> Any:
    if not is_rows(leaf):
        return jax.lax.pmean(leaf, axis_name)
    ids, values = jax.lax.all_gather((leaf.ids, leaf.values), axis_name, tiled=True)
    return scale(RowGrads(ids, values), 1 / jax.lax.axis_size(axis_name))
