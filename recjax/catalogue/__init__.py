"""Operations whose second operand is *every item*: top-k, max, argmax, mean, softmax, Boltzmann samples.

A catalogue is an :class:`ItemIndex` (scores are inner products or cosines), a plain array of
item vectors, or a :class:`BlockScorer` (any function that scores a block of items). The
operations are exact and never hold more than a block of scores, in either direction of
differentiation.

>>> import jax.numpy as jnp
>>> index = ItemIndex(vectors=jnp.eye(3), bias=jnp.array([0.0, 0.5, 0.0]))
>>> queries = jnp.array([[1.0, 0.0, 0.2], [0.0, 0.0, 0.0]])
>>> scores, ids = top_k(queries, index, k=2, exclude=jnp.array([[0], [-1]]))
>>> ids.tolist()
[[1, 2], [1, 0]]
"""

from recjax.catalogue.blocks import block_size_of
from recjax.catalogue.cross_entropy import mean_softmax_cross_entropy
from recjax.catalogue.items import BLOCK_SIZE, BlockScorer, Catalogue, ItemIndex, as_scorer, dense_scorer
from recjax.catalogue.live_index import LiveIndex, live_index, refresh
from recjax.catalogue.lookup import is_followed, lookup, value_and_row_grad
from recjax.catalogue.losses import (
    accidental_hits,
    bce,
    bpr,
    gbce,
    sampled_softmax,
)
from recjax.catalogue.negatives import Negatives
from recjax.catalogue.reduce import logsumexp, max_score, mean_score, score_at, softmax_cross_entropy
from recjax.catalogue.row_optimizers import RowOptimizer, row_adagrad, row_adam, row_sgd
from recjax.catalogue.rows import RowGrads, coalesce
from recjax.catalogue.search import argmax, sample, top_k
from recjax.catalogue.vectors import normalize

__all__ = [
    "BLOCK_SIZE",
    "BlockScorer",
    "Catalogue",
    "ItemIndex",
    "LiveIndex",
    "Negatives",
    "RowGrads",
    "RowOptimizer",
    "accidental_hits",
    "argmax",
    "as_scorer",
    "bce",
    "block_size_of",
    "bpr",
    "coalesce",
    "dense_scorer",
    "gbce",
    "is_followed",
    "live_index",
    "logsumexp",
    "lookup",
    "max_score",
    "mean_score",
    "mean_softmax_cross_entropy",
    "normalize",
    "refresh",
    "row_adagrad",
    "row_adam",
    "row_sgd",
    "sample",
    "sampled_softmax",
    "score_at",
    "softmax_cross_entropy",
    "top_k",
    "value_and_row_grad",
]
