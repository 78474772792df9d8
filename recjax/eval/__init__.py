"""Metrics as functions of arrays, the protocols that numbers are measured under, and intervals.

* Ranking metrics are functions of the ranks of relevant items; ranks come from lists
  (:func:`positions`) or from scores of the whole catalogue (:func:`target_ranks`).
  :func:`evaluate` does all of it for a scoring function, under a :class:`Protocol`.
* Beyond accuracy: functions of lists (diversity, serendipity, calibration) and functions
  of exposure counts (coverage, novelty, Gini). :class:`Exposure` accumulates them with
  clicks and rewards while a loop runs; an :class:`Accumulator` is any such metric of a loop.
* Everything is pure and can be jitted and vmapped. What has no value (a user without
  relevant items, a slate of one item for diversity) is NaN and left out of means.

>>> import jax.numpy as jnp
>>> from recjax import eval
>>> ranks = eval.positions(ranked=jnp.array([[4, 2, 7]]), relevant=jnp.array([[2, 7]]))
>>> [round(float(metric(ranks, k=3)[0]), 3) for metric in (eval.ndcg, eval.recall, eval.precision)]
[0.693, 1.0, 0.667]
>>> print(eval.describe("gini").definition)
Gini coefficient, over all items of the catalogue, of the number of slots that showed each; 0 is equal.
"""

from recjax.eval.accumulators import (
    Accumulator,
    default_metrics,
    exposure_metrics,
    reward_metrics,
    signal_metrics,
)
from recjax.eval.between_users import inter_user_diversity, mean_jaccard
from recjax.eval.catalogue_metrics import (
    coverage,
    exposure_counts,
    exposure_popularity_lift,
    gini,
    is_tail,
    new_coverage,
    novelty_information,
    novelty_new,
    self_information,
    tail_coverage,
)
from recjax.eval.definitions import Metric, describe, label, metrics, register_metric
from recjax.eval.evaluation import Evaluation, evaluate, table
from recjax.eval.exposure import Exposure, Total
from recjax.eval.full_ranking import target_ranks
from recjax.eval.intervals import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    t_quantile,
    unpaired_difference,
)
from recjax.eval.list_metrics import (
    calibration,
    genre_distribution,
    intra_list_diversity,
    popularity_lift,
    serendipity,
)
from recjax.eval.power import detectable_difference, runs_needed
from recjax.eval.protocol import Protocol, SampledProtocol
from recjax.eval.ranking import (
    average_precision,
    hit_rate,
    ndcg,
    positions,
    precision,
    ranking_metrics,
    recall,
    reciprocal_rank,
)
from recjax.eval.robust import interquartile_interval, interquartile_mean

__all__ = [
    "Accumulator",
    "Evaluation",
    "Exposure",
    "Interval",
    "Metric",
    "Protocol",
    "SampledProtocol",
    "Total",
    "average_precision",
    "bootstrap_interval",
    "calibration",
    "coverage",
    "default_metrics",
    "describe",
    "detectable_difference",
    "evaluate",
    "exposure_counts",
    "exposure_metrics",
    "exposure_popularity_lift",
    "genre_distribution",
    "gini",
    "hit_rate",
    "inter_user_diversity",
    "interquartile_interval",
    "interquartile_mean",
    "intra_list_diversity",
    "is_tail",
    "label",
    "mean_interval",
    "mean_jaccard",
    "metrics",
    "ndcg",
    "new_coverage",
    "novelty_information",
    "novelty_new",
    "paired_difference",
    "popularity_lift",
    "positions",
    "precision",
    "ranking_metrics",
    "recall",
    "reciprocal_rank",
    "register_metric",
    "reward_metrics",
    "runs_needed",
    "self_information",
    "serendipity",
    "signal_metrics",
    "t_quantile",
    "table",
    "tail_coverage",
    "target_ranks",
    "unpaired_difference",
]
