"""Item-based collaborative filtering: items like those of the history."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recjax.catalogue import distinct_ids
from recjax.data import Interactions
from recjax.models.collaborative.base import UserItemMatrix, collaborative_models, user_item_matrix
from recjax.types import PAD_ID, Array

BLOCK_ELEMENTS = 2**25
"""Entries of the dense blocks in which similarities are computed: 128 MiB each."""

DENSE_ITEMS = 20_000
"""Items up to which every pair of items is compared, and how many are compared at once beyond."""

SPARSE_COST = 500
"""What a multiplication of entries of a sparse matrix costs, in multiplications of a dense one."""


@struct.dataclass
class ItemKNN:
    """The nearest neighbours of every item.

    The score of item ``i`` is the sum of its similarities to those items of the history
    that have it among their neighbours.

    Attributes:
      ids: ``i32[N, n]`` neighbours, most similar first, ``PAD_ID`` where there are fewer.
      weights: ``f32[N, n]`` similarities, 0 where there are fewer.
    """

    ids: Array
    weights: Array

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``."""
        num_items = len(self.ids)
        items = distinct_ids(history, num_items)
        reached = self.ids.at[items].get(mode="fill", fill_value=PAD_ID)
        weights = self.weights.at[items].get(mode="fill", fill_value=0.0)
        users = jnp.arange(len(history))[:, None, None]
        # A negative id would wrap; num_items is out of range and dropped.
        targets = jnp.where(reached == PAD_ID, num_items, reached)
        return jnp.zeros((len(history), num_items)).at[users, targets].add(weights, mode="drop")


@collaborative_models.register("item_knn")
def item_knn(
    interactions: Interactions,
    num_items: int,
    *,
    neighbours: int = 50,
    shrinkage: float = 10.0,
    weight: str = "binary",
) -> ItemKNN:
    """Finds the neighbours of every item by the cosine of their columns in the user-item matrix.

    ``similarity(i, j) = <x_i, x_j> / (|x_i| |x_j| + shrinkage)``: shrinkage draws items
    with few users towards 0. For catalogues of up to 20,000 items similarities are computed in
    dense blocks, by ``U N^2`` multiplications, or by ``sum_u |x_u|^2`` sparse ones where that
    is cheaper; for larger ones only those of items that share a user are, by the latter.

    Args:
      interactions: the training log.
      num_items: items in the catalogue.
      neighbours: how many to keep of each item; ties keep the lowest ids.
      shrinkage: at least 0.
      weight: entries of the matrix, see :func:`~recjax.models.collaborative.user_item_matrix`.

    Raises:
      ValueError: ``neighbours`` is below 1, or ``shrinkage`` is below 0 or not finite.

    References:
      Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW
      2001. Bell and Koren, "Scalable Collaborative Filtering with Jointly Derived
      Neighborhood Interpolation Weights", ICDM 2007 (shrinkage).
    """
    check_neighbours(neighbours, shrinkage)
    matrix = user_item_matrix(interactions, num_items, weight)
    norms = jnp.sqrt(jnp.asarray(np.bincount(matrix.item, weights=matrix.weight**2, minlength=num_items), jnp.float32))
    if num_items > DENSE_ITEMS:
        return _from_pairs(matrix, np.asarray(norms), neighbours, shrinkage)
    sparse_products = int(np.square(np.diff(matrix.starts)).sum())
    is_dense = matrix.num_users * num_items**2 < SPARSE_COST * sparse_products
    of_block = (
        functools.partial(_products, matrix) if is_dense else functools.partial(_sparse_products, *_sparse(matrix))
    )
    size = min(num_items, max(1, BLOCK_ELEMENTS // num_items))
    ids, weights = (np.zeros((num_items, min(neighbours, num_items)), dtype) for dtype in (np.int32, np.float32))
    for block in range(0, num_items, size):
        start = min(block, num_items - size)  # the last block overlaps the one before
        products = of_block(start, size)
        rows = slice(start, start + size)
        ids[rows], weights[rows] = _nearest(products, norms, start, shrinkage, ids.shape[1])
    return ItemKNN(ids=jnp.asarray(ids), weights=jnp.asarray(weights))


def _from_pairs(matrix: UserItemMatrix, norms: np.ndarray, neighbours: int, shrinkage: float) -> ItemKNN:
    """The neighbours from the sparse products of items, a block of items at a time."""
    users, items = _sparse(matrix)
    ids = np.full((matrix.num_items, neighbours), PAD_ID, np.int32)
    weights = np.zeros((matrix.num_items, neighbours), np.float32)
    for start in range(0, matrix.num_items, DENSE_ITEMS):
        products = (items[start : start + DENSE_ITEMS] @ users).tocoo()
        row, column = products.row + start, products.col
        similarity = products.data / (norms[row] * norms[column] + np.float32(shrinkage))
        row, column, similarity = (x[(row != column) & (similarity > 0)] for x in (row, column, similarity))
        # Best first within each item, and among equals the lowest id.
        order = np.lexsort((column, -similarity, row))
        row, column, similarity = row[order], column[order], similarity[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        kept = rank < neighbours
        ids[row[kept], rank[kept]] = column[kept]
        weights[row[kept], rank[kept]] = similarity[kept]
    return ItemKNN(ids=jnp.asarray(ids), weights=jnp.asarray(weights))


def _sparse(matrix: UserItemMatrix) -> tuple[Any, Any]:
    """The matrix ``[U, N]`` and its transpose in compressed rows."""
    from scipy import sparse  # Importing it changes the warning filters, which importing recjax must not.

    users = sparse.csr_matrix((matrix.weight, (matrix.user, matrix.item)), (matrix.num_users, matrix.num_items))
    return users, users.T.tocsr()


def _sparse_products(users: Any, items: Any, start: int, size: int) -> Array:
    """What :func:`_products` returns, of a sparse matrix and its transpose, in time by the entries that are there."""
    return jnp.asarray((items[start : start + size] @ users).toarray())


def check_neighbours(neighbours: int, shrinkage: float) -> None:
    """Raises ValueError unless ``neighbours >= 1`` and ``shrinkage`` is finite and at least 0."""
    if neighbours < 1 or not 0 <= shrinkage < np.inf:
        raise ValueError(
            f"neighbours must be at least 1 and shrinkage at least 0; got neighbours={neighbours},"
            f" shrinkage={shrinkage}."
        )


def _products(matrix: UserItemMatrix, start: int, size: int) -> Array:
    """Inner products of the items ``start .. start + size - 1`` with all items, ``[size, N]``."""
    rows = min(matrix.num_users, max(1, BLOCK_ELEMENTS // matrix.num_items))
    total = jnp.zeros((size, matrix.num_items))
    for first in range(0, matrix.num_users, rows):
        entries = slice(matrix.starts[first], matrix.starts[min(first + rows, matrix.num_users)])
        dense = np.zeros((rows, matrix.num_items), np.float32)
        dense[matrix.user[entries] - first, matrix.item[entries]] = matrix.weight[entries]
        total = _add_products(total, dense, start)
    return total


@functools.partial(jax.jit, donate_argnums=0)
def _add_products(total: Array, dense: Array, start: int) -> Array:
    return total + lax.dynamic_slice_in_dim(dense, start, len(total), axis=1).T @ dense


@functools.partial(jax.jit, static_argnames="neighbours")
def _nearest(products: Array, norms: Array, start: int, shrinkage: float, neighbours: int) -> tuple[Array, Array]:
    own = lax.dynamic_slice_in_dim(norms, start, len(products))
    scale = own[:, None] * norms[None, :] + shrinkage
    similarity = jnp.where(products > 0, products / jnp.where(products > 0, scale, 1.0), 0.0)
    is_itself = (start + jnp.arange(len(products)))[:, None] == jnp.arange(len(norms))[None, :]
    weights, ids = lax.top_k(jnp.where(is_itself, 0.0, similarity), neighbours)
    return jnp.where(weights > 0, ids, PAD_ID), weights
