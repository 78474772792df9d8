"""Losses of predicting the next item: a softmax over the whole catalogue, or sampled negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recjax.catalogue import accidental_hits, negatives, softmax_cross_entropy
from recjax.catalogue.losses import losses
from recjax.fit import LossFn
from recjax.nn import Recommendation, catalogue_scores
from recjax.types import Array, PyTree

WHOLE_CATALOGUE = 20_000
"""Items up to which a whole catalogue is scored and updated at every step unless told otherwise."""

SAMPLERS = ("uniform", "popularity", "in_batch", "mixed")


def next_item_loss(module: Recommendation, config: Any, targets: np.ndarray) -> LossFn:
    """The loss of batches ``(observation, target i32[B], items)``.

    Args:
      module: the recommender.
      config: a :class:`recjax.models.sequence.TwoTowerConfig`: ``loss``, ``negatives``, ``sampler``.
      targets: ``i32[n]`` all items that are ever targets; how often each occurs is its popularity.
    """
    name = config.loss_for(module.num_items)
    if name == "softmax":
        return _softmax(module)
    loss, draw = losses[name], _sampler(config, module.num_items, targets)

    def sampled(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        drawn = draw(key, target)
        positive, negative = module.apply(params, observation, target[:, None], drawn.ids, items, method="against")
        hits = accidental_hits(target, drawn.ids)
        return loss(positive[:, 0], negative, logq=drawn.logq, hits=hits, num_items=module.num_items).mean(), {}

    return sampled


def _sampler(config: Any, num_items: int, targets: np.ndarray) -> Callable[[Array, Array], negatives.Negatives]:
    """``(key, target i32[B]) -> negatives`` that the batch shares."""
    shape = (config.negatives,)
    if config.sampler == "uniform":
        return lambda key, target: negatives.uniform(key, shape, num_items)
    counts = np.bincount(targets, minlength=num_items)
    if config.sampler == "popularity":
        smoothed = negatives.popularity_distribution(counts)
        return lambda key, target: negatives.popularity(key, shape, smoothed)
    # The other positions of a batch are drawn by how often items occur, and by nothing else.
    occurring = negatives.popularity_distribution(counts, smoothing=0.0)
    if config.sampler == "mixed":
        return lambda key, target: negatives.mixed(key, target, config.negatives, occurring)
    return lambda key, target: negatives.in_batch(target, occurring)


def _softmax(module: Recommendation) -> LossFn:
    def whole(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        queries, index = catalogue_scores(module, params, observation, items)
        return softmax_cross_entropy(queries, index, target).mean(), {}

    return whole
