"""Rules by which users leave when they are shown too much of the same, as parts of matrix environments.

Both are those of EasyRL4Rec (Yu et al., SIGIR 2024), which compares an item that is shown with the last ``window``
items before it. ``faithful`` repeats a quirk of its code, which takes the window of step ``t`` as the Python slice
``[t - window : t]``: before step ``window`` a negative start counts from the end of the list, so that the window holds
``min(t, window - t)`` items and shrinks again from the middle on (of a window of 7, the last 3, 2 and 1 items at steps
4, 5 and 6). By default it holds all items so far until there are more than ``window``.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import ArrayLike

from recjax.types import PAD_ID, Array


class Leaving(Protocol):
    """A rule of leaving: a pytree of the arrays that it reads, and two functions of one user.

    Attributes:
      window: how many of the last items it looks back on.
      num_items: items that it knows (``N``).
    """

    window: int

    @property
    def num_items(self) -> int: ...  # noqa: D102

    def puts_off(self, items: Array, previous: Array) -> Array:
        """Which of ``items: i32[M]`` drive away a user who was shown ``previous: i32[window]``; ``bool[M]``.

        ``previous`` is in order, the newest last, and padded on the left.
        """
        ...

    def crowding(self, worth: Array) -> Array:
        """How much of ``worth: f32[N]`` of the other items each item puts out of reach for a while, ``f32[N]``."""
        ...


@struct.dataclass
class TooClose:
    """Users leave at an item that is closer than ``threshold`` to one of the last ``window``; see :func:`too_close`.

    Attributes:
      distances: ``f32[N, N]``, symmetric.
      threshold: ``f32[]``.
      window: items looked back on.
      faithful: repeats the quirk of the original's window.
    """

    distances: Array
    threshold: Array
    window: int = struct.field(pytree_node=False)
    faithful: bool = struct.field(pytree_node=False)

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.distances.shape[-1]

    def puts_off(self, items: Array, previous: Array) -> Array:
        """See :class:`Leaving`."""
        previous = _remembered(previous, self.faithful)
        near = self.distances[items[:, None], previous[None]] < self.threshold
        return jnp.any(near & (previous != PAD_ID)[None], axis=-1)

    def crowding(self, worth: Array) -> Array:
        """See :class:`Leaving`."""
        near = (self.distances < self.threshold) & ~jnp.eye(self.num_items, dtype=bool)
        return near.astype(jnp.float32) @ worth


@struct.dataclass
class TooOften:
    """Users leave at an item of a category that they had more than ``threshold`` times; see :func:`too_often`.

    Attributes:
      categories: ``f32[N, C]``, 1 where the item is of the category.
      threshold: ``f32[]``.
      window: items looked back on.
      faithful: repeats the quirk of the original's window.
    """

    categories: Array
    threshold: Array
    window: int = struct.field(pytree_node=False)
    faithful: bool = struct.field(pytree_node=False)

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.categories.shape[0]

    def puts_off(self, items: Array, previous: Array) -> Array:
        """See :class:`Leaving`."""
        previous = _remembered(previous, self.faithful)
        counts = jnp.sum(jnp.where((previous != PAD_ID)[:, None], self.categories[previous], 0.0), axis=0)
        return self.categories[items] @ (counts > self.threshold).astype(jnp.float32) > 0

    def crowding(self, worth: Array) -> Array:
        """See :class:`Leaving`."""
        of_category = worth @ self.categories
        own = worth * jnp.sum(self.categories, axis=-1)
        return self.categories @ of_category - own


def too_close(distances: ArrayLike, *, threshold: float, window: int, faithful: bool = False) -> TooClose:
    """Users leave when an item is closer than ``threshold`` to one of the last ``window`` items (EasyRL4Rec's Coat).

    Args:
      distances: ``f32[N, N]`` of each two items, symmetric, 0 on the diagonal, so an item that comes back within the
        window drives users away. A table of all pairs: for some ten thousand items at most.
      threshold: above 0, in units of ``distances``.
      window: items looked back on, at least 1.
      faithful: repeats a quirk of the original: after ``t < window`` items, it looks back on ``min(t, window - t)``.

    Raises:
      ValueError: an argument is out of range, or the distances are not symmetric.
    """
    table = np.asarray(distances, np.float32)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.array_equal(table, table.T):
        raise ValueError(f"distances must be a symmetric matrix [items, items]; got one of shape {table.shape}.")
    _check_window(window)
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}; a distance from which on items differ must be above 0.")
    return TooClose(jnp.asarray(table), jnp.float32(threshold), window, faithful)


def too_often(categories: ArrayLike, *, threshold: int, window: int, faithful: bool = False) -> TooOften:
    """Users leave at an item with a category that more than ``threshold`` of the last ``window`` items had (KuaiRec).

    EasyRL4Rec's command line takes ``window=1, threshold=0`` for KuaiRec, its published results ``window=9,
    threshold=1`` and 30 steps.

    Args:
      categories: ``f32[N, C]``, 1 where the item is of the category and 0 elsewhere.
      threshold: how often a category may occur among the last items, at least 0.
      window: items looked back on, at least 1.
      faithful: repeats a quirk of the original: after ``t < window`` items, it looks back on ``min(t, window - t)``.

    Raises:
      ValueError: an argument is out of range.
    """
    table = np.asarray(categories, np.float32)
    if table.ndim != 2 or not np.isin(table, (0.0, 1.0)).all():
        raise ValueError(f"categories must be zeros and ones [items, categories]; got {table.dtype.name}{table.shape}.")
    _check_window(window)
    if threshold < 0:
        raise ValueError(f"threshold is {threshold}; it counts how often a category may occur, so it must be >= 0.")
    return TooOften(jnp.asarray(table), jnp.float32(threshold), window, faithful)


def distances(matrix: ArrayLike) -> Array:
    """Euclidean distances ``f32[N, N]`` of the columns of ``matrix: [U, N]``, for :func:`too_close`.

    >>> distances(jnp.array([[0.0, 3.0], [0.0, 4.0]])).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    columns = np.asarray(matrix, np.float64).T
    square = np.sum(columns**2, axis=1)
    # Symmetric and 0 on the diagonal to the last bit, which the product alone is not.
    product = columns @ columns.T
    between = np.maximum(square[:, None] + square - (product + product.T), 0.0)
    np.fill_diagonal(between, 0.0)
    return jax.device_put(np.sqrt(between).astype(np.float32))


def _remembered(previous: Array, faithful: bool) -> Array:
    """``previous`` without the items that the original's window forgets while there are fewer than it holds."""
    if not faithful:
        return previous
    window = previous.shape[-1]
    count = jnp.sum(previous != PAD_ID)
    size = jnp.where(count < window, jnp.minimum(count, window - count), window)
    return jnp.where(jnp.arange(window) >= window - size, previous, PAD_ID)


def _check_window(window: int) -> None:
    if window < 1:
        raise ValueError(f"window is {window}; users must look back on at least 1 item.")
