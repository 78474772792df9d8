"""User-based collaborative filtering: what users with a like history chose."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recjax.catalogue import BlockScorer, top_k
from recjax.data import Interactions
from recjax.models.collaborative.base import collaborative_models, multi_hot, user_item_matrix
from recjax.models.collaborative.item_knn import BLOCK_ELEMENTS, check_neighbours
from recjax.types import Array


@struct.dataclass
class UserKNN:
    """The users of the training log, among whom neighbours of a history are sought.

    The score of item ``i`` is the sum over the ``n`` nearest users ``v`` of
    ``similarity(u, v) x_vi``. A user of the training log is their own nearest neighbour,
    which adds to the scores of items they have already and takes one of the ``n`` places.

    Attributes:
      user: ``i32[E + M]`` row of each entry of the user-item matrix, ascending, padded
        with the number of users.
      item: ``i32[E + M]``.
      weight: ``f32[E + M]``.
      starts: ``i32[U + 1]`` where each user begins.
      norms: ``f32[U]`` norms of the rows.
      shrinkage: see :func:`user_knn`.
      num_items: ``N``.
      neighbours: ``n``.
      block_users: users that are made dense at once.
      block_entries: ``M``, the most entries that so many users in a row have.
    """

    user: Array
    item: Array
    weight: Array
    starts: Array
    norms: Array
    shrinkage: Array
    num_items: int = struct.field(pytree_node=False)
    neighbours: int = struct.field(pytree_node=False)
    block_users: int = struct.field(pytree_node=False)
    block_entries: int = struct.field(pytree_node=False)

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``."""
        num_users = len(self.norms)
        query = multi_hot(history, self.num_items)
        query_norm = jnp.sqrt(query.sum(axis=-1, keepdims=True))

        def similarity(query: Array, start: Array | int, size: int) -> Array:
            products = query @ self._rows(start, size).T
            scale = query_norm * lax.dynamic_slice_in_dim(self.norms, start, size)[None, :] + self.shrinkage
            return jnp.where(products > 0, products / jnp.where(products > 0, scale, 1.0), 0.0)

        users = BlockScorer(similarity, num_users, block_size=self.block_users)
        weights, ids = top_k(query, users, self.neighbours)

        def add_block(total: Array, start: Array) -> tuple[Array, None]:
            inside = (ids >= start) & (ids < start + self.block_users)
            column = jnp.where(inside, ids - start, self.block_users)
            batch = jnp.arange(len(history))[:, None]
            chosen = jnp.zeros((len(history), self.block_users)).at[batch, column].set(weights, mode="drop")
            return total + chosen @ self._rows(start, self.block_users), None

        starts = jnp.arange(0, num_users, self.block_users)
        return lax.scan(add_block, jnp.zeros_like(query), starts)[0]

    def _rows(self, start: Array | int, size: int) -> Array:
        """Rows ``start .. start + size - 1`` of the matrix, dense ``[size, N]``; rows beyond it are 0."""
        columns = (self.user, self.item, self.weight)
        user, item, weight = (lax.dynamic_slice_in_dim(c, self.starts[start], self.block_entries) for c in columns)
        inside = (user >= start) & (user < start + size)
        row = jnp.where(inside, user - start, size)
        return jnp.zeros((size, self.num_items)).at[row, item].set(weight, mode="drop")


@collaborative_models.register("user_knn")
def user_knn(
    interactions: Interactions,
    num_items: int,
    *,
    neighbours: int = 50,
    shrinkage: float = 10.0,
    weight: str = "binary",
) -> UserKNN:
    """Keeps the user-item matrix, to find neighbours by the cosine of histories with its rows.

    ``similarity(u, v) = <x_u, x_v> / (|x_u| |x_v| + shrinkage)`` with ``x_u`` binary.

    Args:
      interactions: the training log.
      num_items: items in the catalogue.
      neighbours: how many users count; ties prefer users with low ids.
      shrinkage: at least 0.
      weight: entries of the matrix, see :func:`~recjax.models.collaborative.user_item_matrix`.

    Raises:
      ValueError: ``neighbours`` is below 1, or ``shrinkage`` is below 0 or not finite.

    References:
      Resnick et al., "GroupLens: An Open Architecture for Collaborative Filtering of
      Netnews", CSCW 1994; Herlocker et al., SIGIR 1999.
    """
    check_neighbours(neighbours, shrinkage)
    matrix = user_item_matrix(interactions, num_items, weight)
    block_users = min(matrix.num_users, max(1, BLOCK_ELEMENTS // num_items))
    # The last block may begin anywhere, so windows count, not only blocks.
    block_entries = int((matrix.starts[block_users:] - matrix.starts[:-block_users]).max())
    padding = (0, block_entries)
    return UserKNN(
        user=jnp.asarray(np.pad(matrix.user, padding, constant_values=matrix.num_users)),
        item=jnp.asarray(np.pad(matrix.item, padding)),
        weight=jnp.asarray(np.pad(matrix.weight, padding)),
        starts=jnp.asarray(matrix.starts, jnp.int32),
        norms=jnp.sqrt(jnp.asarray(np.bincount(matrix.user, weights=matrix.weight**2), jnp.float32)),
        shrinkage=jnp.float32(shrinkage),
        num_items=num_items,
        neighbours=min(neighbours, matrix.num_users),
        block_users=block_users,
        block_entries=block_entries,
    )
