"""Operations whose second operand is *every item*: top-k, max, argmax, mean, softmax, Boltzmann samples.

A catalogue is a :class:`Scorer`: an :class:`ItemIndex` (scores are inner products or cosines), a plain
array of item vectors, or a :class:`BlockScorer` (any function that scores a block of items). The
operations are exact and never hold more than a block of scores, in either direction of
differentiation.

>>> import jax.numpy as jnp
>>> index = ItemIndex(vectors=jnp.eye(3), bias=jnp.array([0.0, 0.5, 0.0]))
>>> queries = jnp.array([[1.0, 0.0, 0.2], [0.0, 0.0, 0.0]])
>>> scores, ids = top_k(queries, index, k=2, exclude=jnp.array([[0], [-1]]))
>>> ids.tolist()
[[1, 2], [1, 0]]
"""

from recjax.catalogue.block_scores import block_size_of
from recjax.catalogue.cross_entropy import mean_softmax_cross_entropy
from recjax.catalogue.expectation import softmax_mean
from recjax.catalogue.ids import distinct_ids
from recjax.catalogue.index_cache import CachedIndex, build_index, refresh
from recjax.catalogue.items import Catalogue, ItemIndex, as_scorer
from recjax.catalogue.lookup import is_followed, lookup, lookup_or_zeros, value_and_row_grad
from recjax.catalogue.negatives import Negatives, accidental_hits
from recjax.catalogue.plan import BLOCK_SIZE, Plan, plan_for
from recjax.catalogue.ratio import Choices, best_slate, gains, greedy_slate, ranked, slate_value
from recjax.catalogue.reduce import logsumexp, max_score, mean_score, score_at, softmax_cross_entropy
from recjax.catalogue.row_optimizers import RowOptimizer, row_adagrad, row_adam, row_sgd
from recjax.catalogue.rows import RowGrads, coalesce
from recjax.catalogue.scorer import BlockScorer, Scorer, dense_scorer
from recjax.catalogue.search import argmax, sample, top_k
from recjax.catalogue.vectors import normalize

__all__ = [
    "BLOCK_SIZE",
    "BlockScorer",
    "CachedIndex",
    "Catalogue",
    "Choices",
    "ItemIndex",
    "Negatives",
    "Plan",
    "RowGrads",
    "RowOptimizer",
    "Scorer",
    "accidental_hits",
    "argmax",
    "as_scorer",
    "best_slate",
    "block_size_of",
    "build_index",
    "coalesce",
    "dense_scorer",
    "distinct_ids",
    "gains",
    "greedy_slate",
    "is_followed",
    "logsumexp",
    "lookup",
    "lookup_or_zeros",
    "max_score",
    "mean_score",
    "mean_softmax_cross_entropy",
    "normalize",
    "plan_for",
    "ranked",
    "refresh",
    "row_adagrad",
    "row_adam",
    "row_sgd",
    "sample",
    "score_at",
    "slate_value",
    "softmax_cross_entropy",
    "softmax_mean",
    "top_k",
    "value_and_row_grad",
]
