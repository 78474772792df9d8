"""Gradients of embedding tables as rows: ids and values instead of ``[V, D]``.

A step of training reads a few thousand rows of a table that may hold millions. Take the
rows out of the table first, differentiate with respect to the rows, and keep the ids:

>>> table = jnp.ones((1000, 2))
>>> ids = jnp.array([7, -1, 7], jnp.int32)
>>> values = jax.grad(lambda rows: (rows**2).sum())(table[ids])
>>> merged = coalesce(RowGrads(ids, values), num_rows=1000)
>>> merged.ids.tolist(), merged.values[0].tolist()
([7, 1001, 1002], [4.0, 4.0])

Nothing here costs time or memory in proportion to ``V``, except :meth:`RowGrads.dense`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from recjax.types import Array

_MAX_ID = 2**31 - 1


@struct.dataclass
class RowGrads:
    """The gradient of a table ``[V, D]`` as a sum of rows.

    The gradient of row ``r`` is the sum of the values whose id is ``r``. Ids outside
    ``0 .. V-1``, such as ``PAD_ID``, count for nothing.

    Attributes:
      ids: ``i32[M]`` rows of the table, in any order and with repetitions.
      values: ``f32[M, D]``.
      coalesced_for: the ``V`` that :func:`coalesce` was given, None before. It is static.
    """

    ids: Array
    values: Array
    coalesced_for: int | None = struct.field(pytree_node=False, default=None)

    def dense(self, num_rows: int) -> Array:
        """The same gradient as ``f32[num_rows, D]``, for tests and for optimisers that know no rows."""
        check_row_grads(self)
        known = (self.ids >= 0) & (self.ids < num_rows)
        zeros = jnp.zeros((num_rows, self.values.shape[-1]), jnp.float32)
        return zeros.at[jnp.where(known, self.ids, num_rows)].add(self.values.astype(jnp.float32), mode="drop")


def coalesce(grads: RowGrads, num_rows: int) -> RowGrads:
    """The same gradient with every row at most once: duplicates are summed in float32.

    The result has as many slots as ``grads``. The slots of rows with a gradient that is
    not zero hold ascending ids. The others, left by duplicates, by ids outside the table
    and by rows whose gradient is exactly zero, hold zeros and the id ``num_rows`` plus
    their position. So ids are distinct, and scatters with ``mode="drop"`` and
    ``unique_indices=True`` skip what is not there.

    Gradients that are coalesced for ``num_rows`` already are returned as they are.

    Args:
      grads: ids and values.
      num_rows: rows of the table (``V``).

    Raises:
      ValueError: wrong shapes or dtypes, or ``num_rows`` is not in ``1 .. 2**31 - 1 - M``.
    """
    check_row_grads(grads)
    slots = grads.ids.shape[0]
    if not 1 <= num_rows <= _MAX_ID - slots:
        raise ValueError(
            f"num_rows is {num_rows}; with {slots} gradient rows it must lie in 1 .. {_MAX_ID - slots}"
            " so that ids fit int32. Split the table."
        )
    if grads.coalesced_for == num_rows:
        return grads
    known = (grads.ids >= 0) & (grads.ids < num_rows)
    ids = jnp.where(known, grads.ids, num_rows)
    # Sorting bare ids and searching them is faster on CPUs than a sort that carries positions; the unrolled
    # search is one chain of gathers, where a loop would be many launches on a GPU.
    in_order = lax.sort(ids)
    slot = jnp.searchsorted(in_order, ids, method="scan_unrolled").astype(jnp.int32)
    values = jax.ops.segment_sum(grads.values.astype(jnp.float32), jnp.where(known, slot, slots), slots)
    return _only_touched(in_order, values, num_rows)


def concatenate(*grads: RowGrads) -> RowGrads:
    """The sum of gradients of one table, for instance of several lookups or micro-batches.

    Raises:
      ValueError: no gradients, wrong shapes or dtypes, or rows of different widths.
    """
    for each in grads:
        check_row_grads(each)
    widths = [each.values.shape[-1] for each in grads]
    if len(set(widths)) != 1:
        raise ValueError(f"Gradients of one table have one width; got {len(widths)} of widths {widths}.")
    return RowGrads(
        jnp.concatenate([each.ids for each in grads]),
        jnp.concatenate([each.values.astype(jnp.float32) for each in grads]),
    )


def scale(grads: RowGrads, factor: Array | float) -> RowGrads:
    """The gradient times a scalar; what was coalesced stays coalesced."""
    check_row_grads(grads)
    values = grads.values.astype(jnp.float32) * factor
    if grads.coalesced_for is None:
        return RowGrads(grads.ids, values)
    return _only_touched(grads.ids, values, grads.coalesced_for)


def squared_norm(grads: RowGrads) -> Array:
    """The sum of squares of a coalesced gradient, ``f32[]``, to clip by global norm.

    Raises:
      ValueError: ``grads`` is not coalesced, so that squares of summands would be summed.
    """
    if grads.coalesced_for is None:
        raise ValueError("These gradients may repeat rows, so they have no norm yet; call coalesce(grads, num_rows).")
    return jnp.square(grads.values).sum()


def check_row_grads(grads: RowGrads) -> None:
    """Checks the shapes and dtypes of ``grads``.

    Raises:
      ValueError: ``ids`` is not ``i32[M]`` or ``values`` is not floating ``[M, D]``.
    """
    if grads.ids.ndim != 1 or grads.ids.dtype != jnp.int32:
        raise ValueError(
            f"RowGrads.ids must be int32 of shape [M]; got {grads.ids.dtype} of shape {grads.ids.shape}."
            " Use ids.reshape(-1).astype(jnp.int32)."
        )
    values = grads.values
    if values.ndim != 2 or values.shape[0] != grads.ids.shape[0] or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"RowGrads.values must be floating point of shape [{grads.ids.shape[0]}, D], one row an id;"
            f" got {values.dtype} of shape {values.shape}."
        )


def _only_touched(ids: Array, values: Array, num_rows: int) -> RowGrads:
    """Sets the ids of slots without a gradient out of range, each to one of its own."""
    touched = (values != 0).any(-1)
    absent = num_rows + lax.iota(jnp.int32, ids.shape[0])
    return RowGrads(jnp.where(touched, ids, absent), values, coalesced_for=num_rows)
