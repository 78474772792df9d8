"""Operations whose second operand is *every item*: top-k, max, argmax, mean, Boltzmann samples.

A catalogue is an :class:`ItemIndex` (scores are inner products), a plain array of item
vectors, or a :class:`BlockScorer` (any function that scores a block of items). The
operations are exact and never hold more than ``[B, block_size]`` scores.

>>> import jax.numpy as jnp
>>> index = ItemIndex(vectors=jnp.eye(3), bias=jnp.array([0.0, 0.5, 0.0]))
>>> queries = jnp.array([[1.0, 0.0, 0.2], [0.0, 0.0, 0.0]])
>>> scores, ids = top_k(queries, index, k=2, exclude=jnp.array([[0], [-1]]))
>>> ids.tolist()
[[1, 2], [1, 0]]
"""

from recjax.catalogue.items import BLOCK_SIZE, BlockScorer, Catalogue, ItemIndex, as_scorer
from recjax.catalogue.reduce import argmax, max_score, mean_score, sample, score_at, top_k

__all__ = [
    "BLOCK_SIZE",
    "BlockScorer",
    "Catalogue",
    "ItemIndex",
    "argmax",
    "as_scorer",
    "max_score",
    "mean_score",
    "sample",
    "score_at",
    "top_k",
]
