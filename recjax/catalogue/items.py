"""Item indices, whose scores are inner products, and the one place where a catalogue becomes a scorer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recjax.catalogue.scorer import Scorer
from recjax.catalogue.vectors import inverse_norm, normalize, quantize
from recjax.types import Array


@struct.dataclass
class ItemIndex:
    """Items whose score is an inner product: ``score(q, i) = scale[i] <q, vectors[i]> + bias[i]``.

    Products are summed in float32, at JAX's default matrix precision of the device.

    Attributes:
      vectors: ``[N, D]`` one vector an item: float32, bfloat16 or int8. Eight-bit vectors
        are scored exactly as ``vectors * scale[:, None]`` in float32.
      bias: ``f32[N]`` added to the scores, or None. A bias of ``-inf`` withdraws an item.
      scale: ``f32[N]`` by which the products are multiplied, or None for 1.
      unit_queries: whether queries are divided by their norm, see :meth:`cosine`.
    """

    vectors: Array
    bias: Array | None = None
    scale: Array | None = None
    unit_queries: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def cosine(cls, vectors: Array) -> ItemIndex:
        """Scores are cosines between queries and vectors, 0 where either is zero; no vector is copied.

        >>> index = ItemIndex.cosine(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
        >>> index.scores(jnp.array([[6.0, 8.0]])).tolist()
        [[1.0, 0.0]]
        """
        wide = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
        return cls(vectors, scale=inverse_norm(wide)[:, 0], unit_queries=True)

    def quantized(self) -> ItemIndex:
        """The same items in eight bits a number, a quarter of the memory of float32; scores change a little."""
        codes, scale = quantize(self.vectors)
        return self.replace(vectors=codes, scale=scale if self.scale is None else scale * self.scale)  # type: ignore[attr-defined]

    @property
    def num_items(self) -> int:
        """Size of the catalogue (``N``)."""
        return self.vectors.shape[-2]

    @property
    def block_size(self) -> None:
        """Blocks of any size are as good: what suits the device is best."""
        return None

    @property
    def random_access(self) -> bool:
        """Given items are scored by their own vectors."""
        return True

    def block(self, start: Array | int, size: int) -> ItemIndex:
        """The items ``start .. start + size - 1``."""
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size), self)

    def scores(self, queries: Array) -> Array:
        """Scores of all items, ``[B, D] -> f32[B, N]``."""
        if queries.shape[0] == 1:
            # XLA multiplies a matrix and a column several times as fast as a row and a matrix on CPUs.
            return self.columns(queries).reshape(1, -1)
        queries, vectors = self._alike(queries, self.vectors)
        scores = jnp.matmul(queries, vectors.T, preferred_element_type=jnp.float32)
        return self._affine(scores, self.scale, self.bias)

    def columns(self, queries: Array) -> Array:
        """Scores of all items with a column for each query, ``[B, D] -> f32[N, B]``: no product is turned around."""
        queries, vectors = self._alike(queries, self.vectors)
        scores = jnp.einsum("nd,bd->nb", vectors, queries, preferred_element_type=jnp.float32)
        each = (None if leaf is None else leaf[:, None] for leaf in (self.scale, self.bias))
        return self._affine(scores, *each)

    def score_block(self, queries: Array, start: Array | int, size: int) -> Array:
        """Scores of the items ``start .. start + size - 1``, ``[B, D] -> f32[B, size]``."""
        return self.block(start, size).scores(queries)

    def score_ids(self, queries: Array, ids: Array) -> Array:
        """Scores of given items, ``([B, D], i32[B, M]) -> f32[B, M]``; all ids in ``0 .. N-1``."""
        queries, vectors = self._alike(queries, self.vectors[ids])
        scores = jnp.einsum("bd,bmd->bm", queries, vectors, preferred_element_type=jnp.float32)
        return self._affine(scores, *(None if leaf is None else leaf[ids] for leaf in (self.scale, self.bias)))

    def _alike(self, queries: Array, vectors: Array) -> tuple[Array, Array]:
        queries = normalize(queries) if self.unit_queries else queries
        return (queries, vectors.astype(jnp.float32)) if vectors.dtype == jnp.int8 else (queries, vectors)

    @staticmethod
    def _affine(scores: Array, scale: Array | None, bias: Array | None) -> Array:
        if scale is not None:
            scores = scores * jnp.broadcast_to(scale, scores.shape)
        return scores if bias is None else scores + jnp.broadcast_to(bias, scores.shape)


Catalogue = Array | Scorer
"""What catalogue operations accept as ``items``; an array means ``ItemIndex(array)``."""


def as_scorer(items: Catalogue) -> Scorer:
    """The items as a :class:`Scorer`: an array becomes an :class:`ItemIndex`, scorers stay what they are.

    Raises:
      ValueError: the item vectors, biases or scales of an index have the wrong shape or dtype.
    """
    if isinstance(items, jax.Array | np.ndarray):
        items = ItemIndex(items)
    if not isinstance(items, ItemIndex):
        return items
    index = items
    if index.vectors.ndim != 2:
        raise ValueError(f"Item vectors must have shape [N, D]; got {index.vectors.shape}.")
    if index.vectors.dtype != jnp.int8 and not jnp.issubdtype(index.vectors.dtype, jnp.floating):
        raise ValueError(f"Item vectors must be floating or int8; got {index.vectors.dtype}.")
    for name, leaf in (("biases", index.bias), ("scales", index.scale)):
        if leaf is not None and leaf.shape != (index.num_items,):
            raise ValueError(f"Item {name} must have shape ({index.num_items},), one an item; got {leaf.shape}.")
    return index
