"""The plan of a training: how many epochs, and how examples become batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from recjax.types import Array, PyTree

Gather = Callable[[PyTree, Array], PyTree]
"""``(data, indices i32[B]) -> batch``."""

Batches = Callable[[Array], Array]
"""``key -> i32[steps, B]``: the examples of every batch of an epoch."""


def shuffled(num_examples: int, batch_size: int) -> Batches:
    """Every example once, in random order.

    The last batch is filled up with the first examples of the epoch's order, so all
    batches have one size, every example is seen, and fewer than ``batch_size`` are seen
    twice.

    Raises:
      ValueError: ``batch_size`` is not in ``1 .. num_examples``.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size={batch_size} must lie in 1 .. {num_examples}, the number of examples.")
    steps = -(-num_examples // batch_size)
    return lambda key: jnp.resize(jax.random.permutation(key, num_examples), (steps, batch_size))


def bucketed(sort_key: Array, batch_size: int) -> Batches:
    """Like :func:`shuffled`, but each batch is sorted, so that the parts it is cut into hold examples of like length.

    Args:
      sort_key: ``i32[n]`` of each example, such as its length.
      batch_size: examples in a batch.

    Raises:
      ValueError: ``batch_size`` is not in ``1 .. n``.
    """
    unsorted = shuffled(len(sort_key), batch_size)

    def batches(key: Array) -> Array:
        indices = unsorted(key)
        return jnp.take_along_axis(indices, jnp.argsort(sort_key[indices], axis=-1), axis=-1)

    return batches


def take(data: PyTree, indices: Array) -> PyTree:
    """The rows ``indices`` of every leaf of ``data``."""
    return jax.tree.map(lambda leaf: leaf[indices], data)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPlan:
    """How many epochs there are, and how examples become batches.

    Attributes:
      epochs: passes over all examples, at most.
      batch_size: examples in a batch.
      num_examples: examples in the data; the leading axis of its leaves by default.
      gather: makes a batch from the data and example indices; takes rows by default.
      sort_key: ``i32[n]``, the order of examples within batches, see :func:`bucketed`; none by default.
      accumulate: into how many parts each batch is cut, one computed after the other, for less memory.
      name: what a progress bar calls the training.
    """

    epochs: int
    batch_size: int
    num_examples: int | None = None
    # A function as a class attribute would be documented as a method.
    gather: Gather = dataclasses.field(default_factory=lambda: take)
    sort_key: Array | None = None
    accumulate: int = 1
    name: str = "fit"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs} trains nothing; use at least 1.")

    def count(self, data: PyTree) -> int:
        """How many examples ``data`` has."""
        return jax.tree.leaves(data)[0].shape[0] if self.num_examples is None else self.num_examples

    def batches(self, num_examples: int) -> Batches:
        """Which examples make up each batch of an epoch."""
        if self.sort_key is None:
            return shuffled(num_examples, self.batch_size)
        return bucketed(self.sort_key, self.batch_size)
