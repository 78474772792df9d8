"""Semantic ids of items: their codes, what the codes stand for, and how well they are used."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.models.semantic_ids.autoencoder import Autoencoder
from recjax.models.semantic_ids.quantize import check_vectors, residual_codes, sum_of_codes
from recjax.types import Array, PyTree


@struct.dataclass
class SemanticIds:
    """The codes of every item, and how vectors are turned into codes and back.

    Attributes:
      codes: ``i32[N, levels]``; items that share a beginning are alike.
      codebooks: ``f32[K, D]`` of each level but the extra one.
      params: of the autoencoder.
      autoencoder: what maps vectors to those that are quantised, and back; None for the vectors themselves.
      extra_size: codes of an extra last level that only tells items apart; 0 without one.
    """

    codes: Array
    codebooks: tuple[Array, ...]
    params: PyTree = None
    autoencoder: Autoencoder | None = struct.field(pytree_node=False, default=None)
    extra_size: int = struct.field(pytree_node=False, default=0)

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.codes.shape[0]

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """How many codes each level has, the extra level included."""
        sizes = tuple(len(codebook) for codebook in self.codebooks)
        return (*sizes, self.extra_size) if self.extra_size else sizes

    def encode(self, vectors: Array) -> Array:
        """What is quantised of vectors ``f32[M, D]``: the vectors, or their latents ``f32[M, latent]``.

        Raises:
          ValueError: the vectors are not finite, or of another width than those of the ids.
        """
        vectors = check_vectors(vectors)
        width = self.codebooks[0].shape[1] if self.autoencoder is None else self.autoencoder.dim
        if vectors.shape[1] != width:
            raise ValueError(f"The vectors have {vectors.shape[1]} numbers, but these ids were made of {width}.")
        if self.autoencoder is None:
            return vectors
        return jnp.asarray(self.autoencoder.apply(self.params, vectors, method="encode"))

    def codes_of(self, vectors: Array) -> Array:
        """Codes ``i32[M, len(codebooks)]`` of vectors ``f32[M, D]``, which others may have too.

        Raises:
          ValueError: as :meth:`encode`.
        """
        return residual_codes(self.encode(vectors), self.codebooks)

    def reconstruct(self, codes: Array) -> Array:
        """Vectors ``f32[M, D]`` that codes ``i32[M, levels]`` stand for; an extra level says nothing."""
        quantized = sum_of_codes(codes, self.codebooks)
        if self.autoencoder is None:
            return quantized
        return jnp.asarray(self.autoencoder.apply(self.params, quantized, method="decode"))


@dataclasses.dataclass(frozen=True)
class CodebookUse:
    """How evenly the codes of every level are used.

    Attributes:
      used: share of the codes of each level that an item has.
      perplexity: ``exp(H)`` of each level with ``H`` the entropy of its codes in nats: how many codes
        would say as much if all were used alike.
      colliding: share of the items whose codes another item has too.
    """

    used: tuple[float, ...]
    perplexity: tuple[float, ...]
    colliding: float


def codebook_use(ids: SemanticIds) -> CodebookUse:
    """Reports the use of the codes of ``ids``.

    >>> ids = SemanticIds(codes=jnp.array([[0, 0], [1, 0], [1, 0]]), codebooks=(jnp.eye(2), jnp.eye(2)))
    >>> use = codebook_use(ids)
    >>> use.used, [round(p, 2) for p in use.perplexity], round(use.colliding, 2)
    ((1.0, 0.5), [1.89, 1.0], 0.67)
    """
    codes = np.asarray(jax.device_get(ids.codes))
    used, perplexity = [], []
    for level, size in enumerate(ids.level_sizes):
        share = np.bincount(codes[:, level], minlength=size) / len(codes)
        present = share[share > 0]
        used.append(len(present) / size)
        perplexity.append(float(np.exp(-np.sum(present * np.log(present)))))
    _, group, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return CodebookUse(tuple(used), tuple(perplexity), float(np.mean(count[group.reshape(-1)] > 1)))
