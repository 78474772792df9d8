"""Losses of predicting the next item: a softmax over the whole catalogue, or sampled negatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from recjax.catalogue import accidental_hits, mean_softmax_cross_entropy, negatives
from recjax.fit import LossFn
from recjax.losses import losses, masked_mean
from recjax.models.sequence.config import NextItemConfig
from recjax.nn import LikelihoodModel, Recommendation, SequenceModel
from recjax.types import PAD_ID, Array, Observation, PyTree


def next_item_loss(
    module: SequenceModel, config: NextItemConfig, targets: np.ndarray, *, every_position: bool = False
) -> LossFn:
    """The loss of batches ``(observation, target, items)``, a mean over the targets that are items.

    Args:
      module: a :class:`recjax.nn.Recommendation`; or a :class:`recjax.nn.LikelihoodModel`, which has a loss of
        its own, so that ``config.loss`` must be None.
      config: the loss and its negatives.
      targets: ``i32[n]`` all items that are ever targets; how often each occurs is its popularity.
      every_position: whether ``target`` is ``i32[B, L]``, what follows each position of the
        history, rather than ``i32[B]``, what follows the history.

    Raises:
      ValueError: the module has a loss of its own and ``config`` names another, or it is neither of these.
    """
    if isinstance(module, LikelihoodModel):
        if config.loss is not None:
            raise ValueError(
                f"{type(config).__name__}.loss is {config.loss!r}, but {type(module).__name__} has a loss of its own;"
                " leave it None."
            )
        return _own_loss(module, every_position)
    if not isinstance(module, Recommendation):
        raise ValueError(
            f"{type(module).__name__} is neither an nn.Recommendation nor an nn.LikelihoodModel; derive it from one."
        )
    name = config.loss_for(module.num_items)
    options = {"every_position": True} if every_position else {}
    if name == "softmax":
        return _softmax(module, options)
    loss, draw = losses[name], _sampler(config, module.num_items, targets)

    def sampled(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        drawn = draw(key, target.reshape(-1))
        # Its draws are weighed by logq; those of the other losses count one by one.
        if name == "sampled_softmax" and len(drawn.ids) > module.num_items:
            drawn = negatives.merged(drawn, module.num_items)
        logits: Any = module.apply(
            params, observation, target[..., None], drawn.ids, items,
            method="against", rngs={"dropout": jax.random.fold_in(key, 0)}, **options,
        )  # fmt: skip
        positive, negative = logits
        positive, target = positive.reshape(-1), target.reshape(-1)
        hits = accidental_hits(target, drawn.ids)
        each = loss(positive, negative.reshape(len(target), -1), logq=drawn.logq, hits=hits, num_items=module.num_items)
        return masked_mean(each, is_item(target, module.num_items)), {}

    return sampled


def is_item(ids: Array, num_items: int) -> Array:
    """Whether ids are those of known items, neither padding nor out of the vocabulary."""
    return (ids != PAD_ID) & (ids < num_items)


def each_event(change: Callable[[Array], Array], observation: Observation) -> Observation:
    """``change`` of everything that an observation has one of for each event."""
    time = None if observation.time is None else change(observation.time)
    return dataclasses.replace(
        observation, history=change(observation.history), behaviour=change(observation.behaviour), time=time
    )


def _sampler(
    config: NextItemConfig, num_items: int, targets: np.ndarray
) -> Callable[[Array, Array], negatives.Negatives]:
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


def _own_loss(module: LikelihoodModel, every_position: bool) -> LossFn:
    def own(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        loss: Any = module.apply(
            params, *batch, every_position=every_position, method="next_item_loss", rngs={"dropout": key}
        )
        return loss, {}

    return own


def _softmax(module: Recommendation, options: dict[str, Any]) -> LossFn:
    def full(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        scored: Any = module.apply(params, observation, items, method="catalogue", rngs={"dropout": key}, **options)
        (queries, index), target = scored, target.reshape(-1)
        return mean_softmax_cross_entropy(queries.reshape(len(target), -1), index, target), {}

    return full
