"""Optimisers of embedding tables that read and write only the rows with a gradient.

An optimiser is one formula over rows. ``update`` gathers the touched rows of the table
and of the state, applies the formula and scatters the result back, so a step costs the
same for a thousand rows and for a hundred million; ``dense_update`` applies the same
formula to the whole table and keeps what was touched. Donate table and state at the
outermost ``jit``, otherwise both are copied:

>>> optimizer = row_adagrad(0.5)
>>> table = jnp.ones((4, 2))
>>> state = optimizer.init(table)
>>> step = jax.jit(optimizer.update, donate_argnums=(0, 1))
>>> grads = RowGrads(jnp.array([2, -1], jnp.int32), jnp.ones((2, 2)))
>>> table, state = step(table, state, grads, jnp.array(0))
>>> table.tolist()
[[1.0, 1.0], [1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]

A row is *touched* in a step when its summed gradient is not exactly zero. Other rows keep
every bit of table and state: no momentum, decay of moments or weight decay reaches them.

Tables are float32 or bfloat16; states are float32 always. New bfloat16 rows are rounded
stochastically, because rounding to nearest loses every step below 1/512 of a weight. On
CPUs, JAX 0.10 widens a whole bfloat16 table to write into it (0.12 does not): the result
is right, but the cost grows with the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from recjax.catalogue.kernels import update_rows
from recjax.catalogue.rows import RowGrads, check_row_grads, coalesce
from recjax.types import Array, PyTree

LearningRate = float | Array | Callable[[Array], Array | float]
"""A rate, or a schedule: a function of the global step, such as those of optax."""

Rule = Callable[[Array, PyTree, Array, Array], tuple[Array, PyTree]]
"""``(rows f32[U, D], row_state, grads f32[U, D], step i32[]) -> (rows, row_state)``, leaves ``[U, ...]``."""


class RowOptimizer(NamedTuple):
    """How an embedding table learns.

    Attributes:
      init: ``(table [V, D]) -> state``; every leaf of the state has leading ``[V]``.
      update: ``(table, state, grads, step) -> (table, state)`` from :class:`RowGrads` and
        the global step ``i32[]``, at a cost that does not depend on ``V``.
      dense_update: the same from a gradient ``f32[V, D]``, at the cost of the whole table.

    All raise ``ValueError`` for a table that is not float32 or bfloat16 ``[V, D]``, and
    for gradients that do not fit it.
    """

    init: Callable[[Array], PyTree]
    update: Callable[[Array, PyTree, RowGrads, Array], tuple[Array, PyTree]]
    dense_update: Callable[[Array, PyTree, Array, Array], tuple[Array, PyTree]]


@struct.dataclass
class RowAdamState:
    """State of :func:`row_adam`.

    The two moments lie side by side because a random row of one wide table costs about
    as much time as a random row of a narrow one.

    Attributes:
      moments: ``f32[V, 2 D]``: first moments, then second moments.
      count: ``i32[V]`` how often each row was touched.
    """

    moments: Array
    count: Array


def row_sgd(learning_rate: LearningRate, *, weight_decay: float = 0.0, seed: int = 0) -> RowOptimizer:
    """Gradient descent on the touched rows: ``w -= lr (g + weight_decay w)``. It has no state.

    Args:
      learning_rate: a rate, or a schedule of the global step.
      weight_decay: see :func:`row_adam`.
      seed: of the rounding of bfloat16 tables.

    Raises:
      ValueError: a negative rate or decay.
    """
    _check_not_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def rule(rows: Array, state: PyTree, grads: Array, step: Array) -> tuple[Array, PyTree]:
        return rows - _rate(learning_rate, step) * (grads + weight_decay * rows), state

    return _row_optimizer(lambda table: (), rule, seed)


def row_adagrad(
    learning_rate: LearningRate,
    *,
    eps: float = 1e-8,
    initial: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> RowOptimizer:
    """Adagrad with one number a row: ``a += mean(g²)``, ``w -= lr (g / (sqrt(a) + eps) + weight_decay w)``.

    The state is ``f32[V]``, the sum of mean squares of each row. It is the default of
    large embedding systems, which call it exact row-wise Adagrad.

    Args:
      learning_rate: a rate, or a schedule of the global step.
      eps: added to the root.
      initial: the sum that every row starts with; above 0, it damps first steps.
      weight_decay: see :func:`row_adam`.
      seed: of the rounding of bfloat16 tables.

    Raises:
      ValueError: a negative hyper-parameter.

    References:
      Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and
      Stochastic Optimization", JMLR 2011; for the row-wise form, Mudigere et al.,
      "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
      Recommendation Models", ISCA 2022.
    """
    _check_not_negative(learning_rate=learning_rate, eps=eps, initial=initial, weight_decay=weight_decay)

    def init(table: Array) -> Array:
        return jnp.full(table.shape[0], initial, jnp.float32)

    def rule(rows: Array, total: Array, grads: Array, step: Array) -> tuple[Array, Array]:
        total = total + jnp.square(grads).mean(-1)
        direction = grads / (jnp.sqrt(total) + eps)[:, None]
        return rows - _rate(learning_rate, step) * (direction + weight_decay * rows), total

    return _row_optimizer(init, rule, seed)


def row_adam(
    learning_rate: LearningRate,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> RowOptimizer:
    """Lazy Adam: each row runs Adam over the steps that touch it, as if there were no others.

    It is Adam (with ``weight_decay``, AdamW) exactly when every row is touched in every
    step. Otherwise it differs from Adam in three ways. The moments of a row do not decay
    while it rests, so its old momentum acts undiminished on its next step. A row that
    rests does not move, where Adam would go on along its momentum. And the bias of the
    moments is corrected by the row's own count of steps, so a row that appears late takes
    its first step at full length.

    Args:
      learning_rate: a rate, or a schedule of the *global* step.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added to the root of the second moment.
      weight_decay: decoupled decay: a touched row loses ``lr * weight_decay`` of itself.
        Rare rows are hence decayed rarely.
      seed: of the rounding of bfloat16 tables.

    Raises:
      ValueError: a decay outside [0, 1) or another negative hyper-parameter.

    References:
      Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Loshchilov,
      Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """
    _check_not_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
    for name, decay in (("b1", b1), ("b2", b2)):
        if not 0 <= decay < 1:
            raise ValueError(f"{name} is {decay}; it must lie in [0, 1). Usual are b1=0.9 and b2=0.999.")

    def init(table: Array) -> RowAdamState:
        num_rows, dim = table.shape
        return RowAdamState(jnp.zeros((num_rows, 2 * dim), jnp.float32), jnp.zeros(num_rows, jnp.int32))

    def rule(rows: Array, state: RowAdamState, grads: Array, step: Array) -> tuple[Array, RowAdamState]:
        first, second = jnp.split(state.moments, 2, axis=-1)
        count = state.count + 1
        first = b1 * first + (1 - b1) * grads
        second = b2 * second + (1 - b2) * jnp.square(grads)
        direction = first / _unbias(b1, count) / (jnp.sqrt(second / _unbias(b2, count)) + eps)
        rows = rows - _rate(learning_rate, step) * (direction + weight_decay * rows)
        return rows, RowAdamState(jnp.concatenate([first, second], axis=-1), count)

    return _row_optimizer(init, rule, seed)


def stochastic_round(key: Array, x: Array) -> Array:
    """Rounds float32 to a neighbour in bfloat16, up or down at random, so that the mean is ``x``.

    Values that bfloat16 holds stay as they are, and so do infinities and NaN. Finite
    values beyond the largest finite bfloat16 may become infinite.

    Args:
      key: a key of ``jax.random``.
      x: ``f32[...]``.

    Returns:
      ``bf16[...]``.
    """
    words = jax.random.bits(key, ((x.size + 1) // 2,), jnp.uint32)
    noise = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    # The lower half of the bits of a float32 is how far it lies between two values of bfloat16.
    bits = lax.bitcast_convert_type(x, jnp.uint32) + noise.astype(jnp.uint32)
    rounded = lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def _row_optimizer(init: Callable[[Array], PyTree], rule: Rule, seed: int) -> RowOptimizer:
    """The sparse and the dense update of one formula."""

    def checked_init(table: Array) -> PyTree:
        _check_table(table)
        return init(table)

    def store(rows: Array, dtype: jnp.dtype, grads: Array, step: Array) -> Array:
        if dtype == jnp.float32:
            return rows
        # The bits of the gradient set runs apart that are mapped over seeds.
        bits = lax.bitcast_convert_type(grads, jnp.uint32).sum(dtype=jnp.uint32)
        return stochastic_round(jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), bits), rows)

    def update(table: Array, state: PyTree, grads: RowGrads, step: Array) -> tuple[Array, PyTree]:
        _check_table(table)
        check_row_grads(grads)
        if grads.values.shape[-1] != table.shape[-1]:
            raise ValueError(f"A table of shape {table.shape} cannot take gradients of shape {grads.values.shape}.")
        grads = coalesce(grads, table.shape[0])

        def changed(rows: Array, row_state: PyTree) -> tuple[Array, PyTree]:
            rows, row_state = rule(rows.astype(jnp.float32), row_state, grads.values, step)
            return store(rows, table.dtype, grads.values, step), row_state

        return update_rows(changed, table, state, grads.ids)

    def dense_update(table: Array, state: PyTree, grad: Array, step: Array) -> tuple[Array, PyTree]:
        _check_table(table)
        if grad.shape != table.shape:
            raise ValueError(f"A table of shape {table.shape} cannot take a dense gradient of shape {grad.shape}.")
        grad = grad.astype(jnp.float32)
        rows, new_state = rule(table.astype(jnp.float32), state, grad, step)
        rows = store(rows, table.dtype, grad, step)
        touched = (grad != 0).any(-1)
        return jax.tree.map(
            lambda old, new: jnp.where(jnp.expand_dims(touched, range(1, old.ndim)), new, old),
            (table, state),
            (rows, new_state),
        )

    return RowOptimizer(checked_init, update, dense_update)


def _rate(learning_rate: LearningRate, step: Array) -> Array:
    return jnp.asarray(learning_rate(step) if callable(learning_rate) else learning_rate, jnp.float32)


def _unbias(decay: float, count: Array) -> Array:
    """``1 - decay ** count`` as ``f32[U, 1]``, precise when ``decay`` is close to 1."""
    log_decay = math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(count.astype(jnp.float32) * log_decay)[:, None]


def _check_table(table: Array) -> None:
    if table.ndim != 2 or table.dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(
            f"An embedding table must be float32 or bfloat16 of shape [V, D]; got {table.dtype} of shape {table.shape}."
        )


def _check_not_negative(**values: object) -> None:
    for name, value in values.items():
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(f"{name} is {value}; it must be a number >= 0.")
