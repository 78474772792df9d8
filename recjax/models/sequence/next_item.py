"""Losses of predicting the next item: a softmax over the whole catalogue, or sampled negatives."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from recjax.catalogue import accidental_hits, negatives, softmax_cross_entropy
from recjax.catalogue.losses import losses
from recjax.fit import LossFn
from recjax.nn import Recommendation, catalogue_scores
from recjax.types import Array, Items, Observation, PyTree

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
    loss, counts = losses[name], np.bincount(targets, minlength=module.num_items)
    # The other positions of a batch are drawn by how often items occur, and by nothing else.
    smoothing = 1.0 if config.sampler == "popularity" else 0.0
    popularity = negatives.popularity_distribution(counts, smoothing=smoothing)

    def draw(key: Array, target: Array) -> negatives.Negatives:
        if config.sampler == "uniform":
            return negatives.uniform(key, (config.negatives,), module.num_items)
        if config.sampler == "popularity":
            return negatives.popularity(key, (config.negatives,), popularity)
        if config.sampler == "mixed":
            return negatives.mixed(key, target, config.negatives, popularity)
        return negatives.in_batch(target, popularity)

    def scores(
        module: Recommendation, observation: Observation, target: Array, drawn: Array, items: Items
    ) -> tuple[Array, Array]:
        queries = module.queries(observation, items)
        positive = jnp.sum(queries * module.item_vectors(target, items), axis=-1)
        return positive, queries @ module.item_vectors(drawn, items).T

    def sampled(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        drawn = draw(key, target)
        positive, negative = module.apply(params, observation, target, drawn.ids, items, method=scores)
        hits = accidental_hits(target, drawn.ids)
        return loss(positive, negative, logq=drawn.logq, hits=hits, num_items=module.num_items).mean(), {}

    return sampled


def _softmax(module: Recommendation) -> LossFn:
    def whole(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        queries, index = catalogue_scores(module, params, observation, items)
        return softmax_cross_entropy(queries, index, target).mean(), {}

    return whole
