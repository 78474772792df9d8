"""One update of parameters, by whichever kind of optimiser."""

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
from recjax.types import Array, PyTree

Optimizer: TypeAlias = optax.GradientTransformation | RowWise
"""What everything that learns is given."""

Loss = Callable[..., tuple[Array, Any]]
"""``(params, *args) -> (loss, aux)``."""


class Switch(NamedTuple):
    """Losses of one form for batches of several shapes, of which each update takes one.

    Attributes:
      which: ``(*args) -> i32[]`` the index of a branch.
      branches: the losses, with the arguments of :data:`Loss`; all return the same shapes.
    """

    which: Callable[..., Array]
    branches: tuple[Loss, ...]


class Descent(NamedTuple):
    """What one update gives.

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
    if isinstance(loss_fn, Switch):
        # The whole update is inside the branch: gradients of rows differ in shape, and a derivative of the
        # switch itself would carry what every branch remembers.
        take = [
            partial(descend, branch, optimizer, axis_name=axis_name, accumulate=accumulate)
            for branch in loss_fn.branches
        ]
        return jax.lax.switch(loss_fn.which(*args), take, params, opt_state, *args)
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
    loss_fn: Loss, optimizer: Optimizer, params: PyTree, *args: Any
) -> tuple[tuple[Array, Any], PyTree]:
    if isinstance(optimizer, RowWise):
        return optimizer.value_and_grad(loss_fn, params, *args)
    return jax.value_and_grad(loss_fn, has_aux=True)(params, *args)


def _accumulated(
    loss_fn: Loss, optimizer: Optimizer, params: PyTree, args: tuple, parts: int
) -> tuple[tuple[Array, Any], PyTree]:
    """Means over the parts of ``args``; rows of tables are kept side by side."""

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
