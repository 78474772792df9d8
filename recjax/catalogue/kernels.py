"""The one place for kernels that replace a piece of XLA on some device.

There is none yet: nothing here has been measured on a GPU, and a kernel that was never run
is worth nothing. What a kernel would replace is a function of this module, with the same
result up to rounding, so that callers never know which of the two they got:

* :func:`group_max`, :func:`block_max` and :func:`block_best`: one pass over a block of
  scores, for top-k, for maxima and for argmaxima over the catalogue;
* :func:`update_rows`: the sorted-run update of the rows of a table, where one kernel would
  read and write each row and its state once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from recjax.types import Array, PyTree

LANES = 32
"""Neighbours whose maximum XLA takes by vector instructions on CPUs."""


def group_max(scores: Array, group: int) -> Array:
    """Maxima of groups of neighbours, ``f32[B, n] -> f32[B, n / group]``; NaN where a group holds one.

    XLA's maximum of floats on CPUs drops NaN as soon as it is vectorised, so the maximum is taken of integers in the
    same order. Runs of ``LANES`` integers are what XLA vectorises; a longer group is several of them.
    """
    lanes = min(group, LANES)
    if group % lanes:
        raise ValueError(f"group is {group}; it must be at most {LANES}, or a multiple of it.")
    batch, n = scores.shape
    runs = as_integers(scores).reshape(batch, n // lanes, lanes).max(-1)
    each = group // lanes
    return as_scores(functools.reduce(jnp.maximum, (runs[:, i::each] for i in range(each))))


def block_max(scores: Array) -> Array:
    """The largest score of each query, ``f32[B, n] -> f32[B]``; NaN where there is one."""
    even = scores.shape[-1] // LANES * LANES
    maxima = jnp.concatenate([group_max(scores[:, :even], LANES), scores[:, even:]], axis=-1)
    return jnp.where(jnp.isnan(maxima).any(-1), jnp.nan, maxima.max(-1))


def as_integers(scores: Array) -> Array:
    """``i32`` in the order of ``f32`` scores: NaN of either sign is above ``+inf``, zeros of either sign are equal."""
    one_nan = jnp.where(jnp.isnan(scores), jnp.nan, scores.astype(jnp.float32))
    integers = _flip_negative(lax.bitcast_convert_type(one_nan, jnp.int32))
    # Minus zero, by its bits: CPUs take the smallest numbers for zeros when they compare floats.
    return jnp.where(integers == -1, 0, integers)


def as_scores(integers: Array) -> Array:
    """The scores of :func:`as_integers`."""
    return lax.bitcast_convert_type(_flip_negative(integers), jnp.float32)


def _flip_negative(bits: Array) -> Array:
    """Floats are sign and magnitude: the order of negative ones is that of integers once their magnitude is flipped."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def block_best(scores: Array) -> tuple[Array, Array]:
    """The largest score of each query and its first position, ``(f32[B], i32[B])``; NaN is the largest."""
    # Two plain reductions: jnp.argmax reduces pairs, several times slower on CPUs.
    top = block_max(scores)
    is_top = (scores == top[:, None]) | (jnp.isnan(scores) & jnp.isnan(top)[:, None])
    positions = jnp.broadcast_to(jnp.arange(scores.shape[-1]), scores.shape)
    return top, jnp.min(jnp.where(is_top, positions, scores.shape[-1]), axis=-1)


def update_rows(
    rule: Callable[[Array, PyTree], tuple[Array, PyTree]], table: Array, state: PyTree, ids: Array
) -> tuple[Array, PyTree]:
    """Replaces some rows of a table and of its state by ``rule`` of them.

    Args:
      rule: ``(rows [U, D], row_state) -> (rows, row_state)`` of the dtypes it was given.
      table: ``[V, D]``.
      state: leaves ``[V, ...]``.
      ids: ``i32[U]`` distinct, as :func:`recjax.catalogue.coalesce` leaves them: those of
        rows ascend, and slots whose id is beyond the table write nothing.

    Returns:
      ``(table, state)``, in place when both are donated.
    """
    # Slots without a row read the last row; what comes of it is dropped.
    rows, row_state = jax.tree.map(lambda leaf: leaf.at[ids].get(mode="clip"), (table, state))
    put = lambda leaf, new: leaf.at[ids].set(new, mode="drop", unique_indices=True)  # noqa: E731
    return jax.tree.map(put, (table, state), rule(rows, row_state))
