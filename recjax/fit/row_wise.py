"""Row-wise optimisation of embedding tables, beside optax for all other parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.catalogue import RowGrads, RowOptimizer, coalesce, value_and_row_grad
from recjax.catalogue.rows import scale, squared_norm
from recjax.types import Array, PyTree

FEWEST_ROWS = 8192
"""Rows of a table up to which passes over the whole of it are as fast, however few of them a batch reads."""


def rows_pay(num_rows: int, rows_read: int) -> bool:
    """Whether updates by rows are faster than updates of whole tables.

    A rule from ``benchmarks/td_update.py --items 1000 4000 10000 20000 --batch 128 --dim 32`` on a CPU, where a batch
    reads 3,200 rows: whole tables are faster at 4,000 items, the two are equal at 10,000, and rows are faster beyond.

    >>> rows_pay(100_000, rows_read=6_400), rows_pay(1_000, rows_read=100)
    (True, False)

    Args:
      num_rows: of the table.
      rows_read: lookups of a batch that have a gradient, repeated ones counted.
    """
    return num_rows > max(FEWEST_ROWS, 2 * rows_read)


@struct.dataclass
class RowWiseState:
    """State of :class:`RowWise`.

    Attributes:
      tables: state of each table, by the path of the parameter.
      rest: state of the optax transformation of everything else.
      step: ``i32[]`` updates done.
    """

    tables: dict[str, PyTree]
    rest: optax.OptState
    step: Array


@dataclasses.dataclass(frozen=True)
class RowWise:
    """Updates embedding tables by the rows that a batch reads, and everything else by optax.

    It goes wherever recjax takes an optax transformation. The cost of an update does not
    depend on the size of a table, provided that the state is donated. Modules read tables by
    :func:`recjax.catalogue.lookup` (those of :mod:`recjax.nn` do) or are ``flax.linen.Embed``;
    a loss that reads a table as a whole raises ``ValueError`` when it is traced.

    >>> from recjax.catalogue import row_adam
    >>> optimizer = RowWise(row_adam(1e-3), optax.adamw(1e-3), max_grad_norm=1.0)
    >>> params = {"item": {"embedding": jnp.ones((4, 2))}, "bias": jnp.zeros(3)}
    >>> sorted(optimizer.init(params).tables)
    ["['item']['embedding']"]

    Attributes:
      tables: how tables are updated: ``row_sgd``, ``row_adagrad`` or ``row_adam``.
      rest: how all other parameters are.
      names: parameters of these names (the last part of their paths) that are ``[V, D]`` are tables.
      max_grad_norm: the largest global norm of a gradient, rows and the rest together; None
        does not clip.
      whole: differentiates by whole tables and passes over all of their rows. The result is
        the same up to rounding: an oracle, faster for tables of fewer rows than a batch reads,
        and the only way for a loss that reads whole tables.
    """

    tables: RowOptimizer
    rest: optax.GradientTransformation
    names: tuple[str, ...] = ("embedding", "item_bias", "item_odds")
    max_grad_norm: float | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0, or None not to clip.")

    def init(self, params: PyTree) -> RowWiseState:
        """The state before the first update.

        Raises:
          ValueError: no parameter is a table.
        """
        flags = self.is_table(params)
        if not any(jax.tree.leaves(flags)):
            paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise ValueError(
                f"No parameter [V, D] is named one of {list(self.names)}, so there is no table to update by rows."
                f" Choose names from the last parts of {paths}, or use optax alone."
            )
        return RowWiseState(
            tables={path: self.tables.init(leaf) for path, leaf in _named(params, flags)},
            rest=self.rest.init(_without(params, flags)),
            step=jnp.zeros((), jnp.int32),
        )

    def is_table(self, params: PyTree) -> PyTree:
        """A tree of bools like ``params``."""

        def chosen(path: tuple, leaf: Array) -> bool:
            name = getattr(path[-1], "key", getattr(path[-1], "name", None)) if path else None
            return name in self.names and jnp.ndim(leaf) == 2

        return jax.tree_util.tree_map_with_path(chosen, params)

    def value_and_grad(self, loss_fn: Callable, params: PyTree, *args: Any) -> tuple[tuple[Array, Any], PyTree]:
        """``((loss, aux), grads)`` of ``loss_fn(params, *args) -> (loss, aux)``, see :func:`value_and_row_grad`."""
        if self.whole:
            return jax.value_and_grad(loss_fn, has_aux=True)(params, *args)
        return value_and_row_grad(loss_fn, params, self.is_table(params), *args)

    def step(self, grads: PyTree, state: RowWiseState, params: PyTree) -> tuple[PyTree, RowWiseState, Array]:
        """``(params, state, norm of the gradient before clipping)`` after one update."""
        flags = self.is_table(params)
        tables = dict(_named(params, flags))
        rows: dict[str, Any] = dict(_named(grads, flags))
        if not self.whole:
            rows = {path: coalesce(leaf, len(tables[path])) for path, leaf in rows.items()}
        rest = _without(grads, flags)
        squares = [jnp.square(leaf).sum() if self.whole else squared_norm(leaf) for leaf in rows.values()]
        norm = jnp.sqrt(jnp.square(optax.tree.norm(rest)) + sum(squares[1:], start=squares[0]))
        if self.max_grad_norm is not None:
            factor = jnp.where(norm > self.max_grad_norm, self.max_grad_norm / norm, 1.0)
            rest, rows = jax.tree.map(
                lambda leaf: scale(leaf, factor) if is_rows(leaf) else leaf * factor, (rest, rows), is_leaf=is_rows
            )
        update: Callable = self.tables.dense_update if self.whole else self.tables.update
        updated = {path: update(table, state.tables[path], rows[path], state.step) for path, table in tables.items()}
        changes, rest_state = self.rest.update(rest, state.rest, _without(params, flags))
        others = optax.apply_updates(_without(params, flags), changes)
        params = jax.tree_util.tree_map_with_path(
            lambda path, chosen, other: updated[jax.tree_util.keystr(path)][0] if chosen else other, flags, others
        )
        states = {path: state for path, (_, state) in updated.items()}
        return params, RowWiseState(states, rest_state, state.step + 1), norm


def is_rows(leaf: Any) -> bool:
    """Whether a leaf of a gradient is that of a table, by rows."""
    return isinstance(leaf, RowGrads)


def _named(tree: PyTree, flags: PyTree) -> list[tuple[str, Any]]:
    """``(path, leaf)`` of the leaves that are flagged."""
    named: list[tuple[str, Any]] = []
    jax.tree_util.tree_map_with_path(
        lambda path, chosen, leaf: named.append((jax.tree_util.keystr(path), leaf)) if chosen else None, flags, tree
    )
    return named


def _without(tree: PyTree, flags: PyTree) -> PyTree:
    """The tree as optax sees it, with nothing in the place of tables."""
    return jax.tree.map(lambda chosen, leaf: optax.MaskedNode() if chosen else leaf, flags, tree)
