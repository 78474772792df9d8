"""EASE: every item as a linear function of all others, fitted in closed form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recjax.catalogue import distinct_ids
from recjax.data import Interactions
from recjax.models.collaborative.base import UserItemMatrix, collaborative_models, user_item_matrix
from recjax.types import Array

MAX_ITEMS = 46_340
"""Beyond it, entries of a square of items have no 32-bit index, and the square takes over 16 GiB in float64."""

BLOCK_ITEMS = 2048
"""Items whose products with all items are held as a sparse matrix at once."""


@struct.dataclass
class EASE:
    """How much every item speaks for every other.

    Attributes:
      weights: ``f32[N, N]``; row ``i`` is what item ``i`` of a history adds to the scores.
        The diagonal is 0.
    """

    weights: Array

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` -> ``f32[B, N]``, the predicted entries of the users' rows."""
        num_items = len(self.weights)
        items = jnp.sort(distinct_ids(history, num_items))

        # One item of every history at a time: [B, L, N] rows are never held, and B L N additions
        # are fewer than the B N N multiplications of a dense product.
        def add_rows(total: Array, item: Array) -> tuple[Array, None]:
            return total + self.weights.at[item].get(mode="fill", fill_value=0.0), None

        return lax.scan(add_rows, jnp.zeros((len(history), num_items)), items.T)[0]


@collaborative_models.register("ease")
def ease(interactions: Interactions, num_items: int, *, regularization: float = 300.0, weight: str = "binary") -> EASE:
    """Fits the user-item matrix ``X`` by ``X W`` with a diagonal of zeros.

    Minimises ``|X - X W|^2 + regularization |W|^2`` subject to ``W_jj = 0``, so that no item
    explains itself. With ``P = (X'X + regularization I)^-1`` the minimiser is ``W_ij = -P_ij
    / P_jj`` off the diagonal. It is computed in float64 on the host, by a Cholesky
    factorisation of ``X'X``: ``8 N^2`` bytes and about ``N^3`` multiplications, however many
    users there are.

    Args:
      interactions: the training log.
      num_items: items in the catalogue, at most 46,340.
      regularization: above 0. It is measured against how many users an item has: 200 to
        1,000 are usual for logs of millions of events, less for small ones.
      weight: entries of the matrix, see :func:`~recjax.models.collaborative.user_item_matrix`.

    Raises:
      ValueError: ``regularization`` is not a number above 0 or so small that rounding leaves
        no positive definite matrix, or the catalogue is too big.

    References:
      Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
    """
    if not 0 < regularization < np.inf:
        raise ValueError(f"regularization is {regularization}; ease needs a finite number above 0, such as 300.")
    if num_items > MAX_ITEMS:
        raise ValueError(
            f"num_items is {num_items}, so ease would need {8 * num_items**2 / 2**30:.0f} GiB to invert a matrix of"
            f" items by items; at most {MAX_ITEMS} items are allowed. Use item_knn or als, or drop rare items."
        )
    inverse = _gram(user_item_matrix(interactions, num_items, weight))
    inverse[np.diag_indices(num_items)] += regularization
    inverse = _inverse(inverse, regularization)
    inverse /= -np.diag(inverse)
    np.fill_diagonal(inverse, 0.0)
    return EASE(weights=jnp.asarray(inverse, jnp.float32))


def _gram(matrix: UserItemMatrix) -> np.ndarray:
    """``X'X`` in float64, ``[N, N]``, from the sparse products of a block of items with all."""
    from scipy import sparse  # Importing it changes the warning filters, which importing recjax must not.

    shape = (matrix.num_users, matrix.num_items)
    users = sparse.csr_matrix((matrix.weight.astype(np.float64), (matrix.user, matrix.item)), shape)
    items = users.T.tocsr()
    # Columns lie side by side, as LAPACK has them, so that the inverse can be made in place.
    gram = np.zeros((matrix.num_items, matrix.num_items), order="F")
    for start in range(0, matrix.num_items, BLOCK_ITEMS):
        rows = slice(start, start + BLOCK_ITEMS)
        gram[:, rows] = (items[rows] @ users).toarray().T
    return gram


def _inverse(matrix: np.ndarray, regularization: float) -> np.ndarray:
    """The inverse of a positive definite matrix, written over it."""
    from scipy.linalg import lapack

    factor, info = lapack.dpotrf(matrix, lower=True, overwrite_a=True)
    if info == 0:
        inverse, info = lapack.dpotri(factor, lower=True, overwrite_c=True)
    if info != 0:
        raise ValueError(
            f"X'X + {regularization} I is not positive definite in float64; regularization must be larger, such as 300."
        )
    for column in range(1, len(inverse)):  # LAPACK fills one triangle.
        inverse[:column, column] = inverse[column, :column]
    return inverse
