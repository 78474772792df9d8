"""Two ways to score every item of a catalogue: inner products, or any function of a block of items."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from flax import struct
from jax import lax

from recjax.types import Array, PyTree

BLOCK_SIZE = 4096
"""Items scored at once unless told otherwise: a catalogue of a few thousand items is one dense block."""


@struct.dataclass
class ItemIndex:
    """Items whose score is an inner product: ``score(q, i) = <q, vectors[i]> + bias[i]``.

    Products are summed in float32, at JAX's default matrix precision of the device.

    Attributes:
      vectors: ``[N, D]`` one vector an item.
      bias: ``f32[N]`` added to the scores, or None. A bias of ``-inf`` withdraws an item.
    """

    vectors: Array
    bias: Array | None = None

    @property
    def num_items(self) -> int:
        """Size of the catalogue (``N``)."""
        return self.vectors.shape[-2]


@dataclasses.dataclass(frozen=True, eq=False)
class BlockScorer:
    """Items whose score is any function that can be evaluated on a block of neighbouring items.

    It is compared and hashed by identity and is not a pytree: build it inside the
    function that is traced, over whatever arrays ``score_block`` closes over.

    Attributes:
      score_block: ``(queries, start, size) -> [B, size]``, the scores of items
        ``start .. start + size - 1``. ``start`` may be traced, ``size`` is a Python
        integer, and ``start + size <= num_items`` always.
      num_items: size of the catalogue.
      score_ids: ``(queries, ids [B, M]) -> [B, M]``, the scores of given items, or None
        when only blocks can be scored; then :func:`score_at` passes over the catalogue.
      block_size: items to score at once when the caller does not say.
    """

    score_block: Callable[[PyTree, Array | int, int], Array]
    num_items: int
    score_ids: Callable[[PyTree, Array], Array] | None = None
    block_size: int = BLOCK_SIZE


Catalogue = Array | ItemIndex | BlockScorer
"""What catalogue operations accept as ``items``; an array means ``ItemIndex(array)``."""


def as_scorer(items: Catalogue) -> BlockScorer:
    """The items as a :class:`BlockScorer`.

    Raises:
      ValueError: the item vectors or biases have the wrong shape.
    """
    if isinstance(items, BlockScorer):
        return items
    index = items if isinstance(items, ItemIndex) else ItemIndex(items)
    if index.vectors.ndim != 2:
        raise ValueError(f"Item vectors must have shape [N, D]; got {index.vectors.shape}.")
    if index.bias is not None and index.bias.shape != (index.num_items,):
        raise ValueError(f"Item biases must have shape ({index.num_items},), one an item; got {index.bias.shape}.")

    def score_block(queries: Array, start: Array | int, size: int) -> Array:
        vectors = lax.dynamic_slice_in_dim(index.vectors, start, size)
        scores = jnp.matmul(queries, vectors.T, preferred_element_type=jnp.float32)
        if index.bias is None:
            return scores
        return scores + lax.dynamic_slice_in_dim(index.bias, start, size)[None, :]

    def score_ids(queries: Array, ids: Array) -> Array:
        scores = jnp.einsum("bd,bmd->bm", queries, index.vectors[ids], preferred_element_type=jnp.float32)
        return scores if index.bias is None else scores + index.bias[ids]

    return BlockScorer(score_block, index.num_items, score_ids)
