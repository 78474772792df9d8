"""Matrix factorisation of implicit feedback by alternating least squares."""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from recjax.catalogue import ItemIndex, distinct_ids
from recjax.data import Interactions
from recjax.models.collaborative.base import UserItemMatrix, collaborative_models, user_item_matrix
from recjax.types import Array

CHUNK = 32
BLOCK_CHUNKS = 1024

SINGLE_PRECISION = 2.0**14
"""The confidence of a row over the regularisation, which says how ill-conditioned its equations can be, up to which
float32 solves them to about three digits. Beyond it they are solved in float64."""

DOUBLE_PRECISION = SINGLE_PRECISION * 2.0**29
"""The same for float64, which has 29 bits more."""

MAX_ALPHA = 1e5
"""Largest ``alpha`` over the regularisation: users are folded in by float32, which has three digits left then."""


@struct.dataclass
class ALS:
    """Item factors; the factors of a user are solved for from the history.

    Attributes:
      items: ``f32[N, F]`` item factors.
      gram: ``f32[F, F]``, ``items.T @ items`` plus the regularisation.
      alpha: confidence of an event of the history beyond that of no event.
    """

    items: Array
    gram: Array
    alpha: Array

    def fold_in(self, history: Array) -> Array:
        """User factors ``f32[B, F]`` of histories ``i32[B, L]``: the exact minimiser given the items."""
        ids = distinct_ids(history, len(self.items))
        present = (ids < len(self.items)).astype(jnp.float32)
        normal, target = _normal_equations(self.items[ids], present, self.alpha * present)
        return _solve(self.gram[None] + normal, target)

    def item_index(self) -> ItemIndex:
        """What :mod:`recjax.catalogue` scores with the factors of :meth:`fold_in` as queries."""
        return ItemIndex(self.items)

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``, the predicted preference, mostly in [0, 1]."""
        return self.fold_in(history) @ self.items.T


@collaborative_models.register("als")
def als(
    interactions: Interactions,
    num_items: int,
    *,
    factors: int = 32,
    regularization: float = 5.0,
    alpha: float = 1.0,
    sweeps: int = 15,
    weight: str = "binary",
    key: Array | None = None,
) -> ALS:
    """Factorises the user-item matrix.

    Minimises ``sum_ui c_ui (p_ui - <x_u, y_i>)^2 + regularization (|X|^2 + |Y|^2)`` over
    all pairs, with ``p_ui`` 1 where there is an event, else 0, and ``c_ui = 1 + alpha
    r_ui`` for the entry ``r_ui`` of the matrix. Users and items are solved for in turn,
    exactly, by Cholesky factorisation of batches of normal equations: in float32, or in
    float64 where a user or an item has so much confidence (raw counts, a large ``alpha``)
    that float32 would lose the digits. The factors are float32 in either case.

    Args:
      interactions: the training log.
      num_items: items in the catalogue.
      factors: ``F``.
      regularization: above 0 and finite.
      alpha: above 0, and at most 1e5 times the regularization.
      sweeps: how often users and items are solved for; 0 returns the random start.
      weight: the entries ``r_ui``, see :func:`~recjax.models.collaborative.user_item_matrix`.
      key: of the start; ``jax.random.key(0)`` by default.

    Raises:
      ValueError: an option is out of range, or the entries are so far apart that float64
        does not solve the equations either.

    References:
      Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets",
      ICDM 2008.
    """
    most_alpha = MAX_ALPHA * regularization
    if factors < 1 or sweeps < 0 or not 0 < regularization < np.inf or not 0 < alpha <= most_alpha:
        raise ValueError(
            "als needs factors >= 1, sweeps >= 0, a finite regularization > 0 and alpha > 0 of at most"
            f" {MAX_ALPHA:g} times that; got factors={factors}, sweeps={sweeps}, regularization={regularization},"
            f" alpha={alpha}."
        )
    matrix = user_item_matrix(interactions, num_items, weight)
    of_users, of_items = _pack(matrix, alpha), _pack(matrix.transpose(), alpha)
    items = jax.random.normal(jax.random.key(0) if key is None else key, (num_items, factors)) / factors
    spread = _largest_confidence(matrix, alpha) / regularization
    wide = spread > SINGLE_PRECISION
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        items = items.astype(jnp.float64) if wide else items
        for _ in range(sweeps):
            users = _solve_rows(of_users, items, regularization, num_rows=matrix.num_users)
            items = _solve_rows(of_items, users, regularization, num_rows=num_items)
        gram = _gram(items, regularization).astype(jnp.float32)
        items = items.astype(jnp.float32)
    if spread > DOUBLE_PRECISION or not np.isfinite(items).all():
        raise ValueError(
            f"The equations of als cannot be solved to three digits: entries run up to {matrix.weight.max():g} with"
            f" alpha={alpha:g} and regularization={regularization:g}. Use smaller entries (weight='binary', or the"
            " logarithm of counts as ratings), a smaller alpha or more regularization."
        )
    return ALS(items=items, gram=gram, alpha=jnp.float32(alpha))


def _largest_confidence(matrix: UserItemMatrix, alpha: float) -> float:
    """The largest sum of ``alpha r`` over a row or a column."""
    weight = matrix.weight.astype(np.float64)
    return alpha * max(np.bincount(ids, weights=weight).max() for ids in (matrix.user, matrix.item))


def _normal_equations(vectors: Array, present: Array, extra: Array) -> tuple[Array, Array]:
    """``V' (C - I) V`` and ``V' C p`` for vectors ``[..., L, F]`` and ``extra = c - 1``."""
    normal = jnp.einsum("...lf,...l,...lg->...fg", vectors, extra, vectors)
    return normal, jnp.einsum("...lf,...l->...f", vectors, present + extra)


def _solve(normal: Array, target: Array) -> Array:
    return cho_solve(cho_factor(normal), target[..., None])[..., 0]


def _gram(vectors: Array, regularization: float) -> Array:
    return vectors.T @ vectors + regularization * jnp.eye(vectors.shape[-1])


@struct.dataclass
class _Packed:
    """Rows of a sparse matrix cut into chunks of fixed length, and chunks into blocks of whole rows.

    Rows of any length cost memory and time in proportion to their entries.

    Attributes:
      column: ``i32[K, C, CHUNK]``.
      extra: ``f32[K, C, CHUNK]`` the confidence beyond 1; 0 where a chunk is padded.
      row: ``i32[K, C]`` which row of its block a chunk belongs to.
      rows: ``i32[K, R]`` the rows of each block, padded with the number of rows.
    """

    column: Array
    extra: Array
    row: Array
    rows: Array


def _pack(matrix: UserItemMatrix, alpha: float) -> _Packed:
    num_rows = len(matrix.starts) - 1
    chunks = np.maximum(-(-np.diff(matrix.starts) // CHUNK), 1)
    size = max(BLOCK_CHUNKS, int(chunks.max()))
    first = _first_chunks(chunks, size)
    block, num_blocks = first // size, int(first[-1] // size) + 1

    offset = np.arange(len(matrix.user)) - matrix.starts[matrix.user]
    place = first[matrix.user] + offset // CHUNK, offset % CHUNK
    column = np.zeros((num_blocks * size, CHUNK), np.int32)
    extra = np.zeros((num_blocks * size, CHUNK), np.float32)
    column[place], extra[place] = matrix.item, alpha * matrix.weight

    begin = np.searchsorted(block, np.arange(num_blocks + 1))
    within = np.arange(num_rows) - begin[block]
    rows = np.full((num_blocks, within.max() + 1), num_rows, np.int32)
    rows[block, within] = np.arange(num_rows)
    row = np.zeros(num_blocks * size, np.int32)
    row[first] = within
    return _Packed(
        column=jnp.asarray(column.reshape(num_blocks, size, CHUNK)),
        extra=jnp.asarray(extra.reshape(num_blocks, size, CHUNK)),
        row=jnp.asarray(np.maximum.accumulate(row.reshape(num_blocks, size), axis=1)),
        rows=jnp.asarray(rows),
    )


def _first_chunks(chunks: np.ndarray, size: int) -> np.ndarray:
    """Where each row's chunks begin when no row may lie across a multiple of ``size``."""
    first = np.zeros(len(chunks), np.int64)
    end = 0
    for row, count in enumerate(chunks.tolist()):
        begin = end if end % size + count <= size else -(-end // size) * size
        first[row], end = begin, begin + count
    return first


@functools.partial(jax.jit, static_argnames="num_rows")
def _solve_rows(packed: _Packed, vectors: Array, regularization: float, num_rows: int) -> Array:
    """Factors ``[num_rows, F]`` of all rows, given the factors of the columns."""
    gram = _gram(vectors, regularization)

    def solve_block(block: _Packed) -> Array:
        present = (block.extra > 0).astype(jnp.float32)
        equations = _normal_equations(vectors[block.column], present, block.extra)
        normal, target = (jax.ops.segment_sum(term, block.row, len(block.rows)) for term in equations)
        return _solve(gram[None] + normal, target)

    solved = lax.map(solve_block, packed)
    empty = jnp.zeros((num_rows, vectors.shape[-1]))
    return empty.at[packed.rows.reshape(-1)].set(solved.reshape(-1, vectors.shape[-1]), mode="drop")
