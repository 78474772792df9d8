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
from recjax.nn import Recommendation
from recjax.types import PAD_ID, Array, Observation, PyTree

WHOLE_CATALOGUE = 20_000
"""Items up to which a whole catalogue is scored and updated at every step unless told otherwise."""

SAMPLERS = ("uniform", "popularity", "in_batch", "mixed")


class NextItemConfig:
    """What configurations of training on the next item have in common: ``loss``, ``negatives``, ``sampler``."""

    loss: str | None
    negatives: int
    sampler: str

    def check(self, *at_least_one: str) -> None:
        """Checks loss and sampler, and that the named fields are at least 1.

        Raises:
          ValueError: the field, its value and what it may be.
        """
        kind = type(self).__name__
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{kind}.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.loss not in (None, "softmax", *losses):
            raise ValueError(f"{kind}.loss is {self.loss!r}; choose softmax, {', '.join(losses)}, or None.")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"{kind}.sampler is {self.sampler!r}; choose one of {', '.join(SAMPLERS)}.")

    def loss_for(self, num_items: int) -> str:
        """The name of the loss for a catalogue of that size."""
        return self.loss or ("softmax" if num_items <= WHOLE_CATALOGUE else "sampled_softmax")


def next_item_loss(
    module: Recommendation, config: NextItemConfig, targets: np.ndarray, *, every_position: bool = False
) -> LossFn:
    """The loss of batches ``(observation, target, items)``, a mean over the targets that are items.

    Args:
      module: the recommender. One that has a method ``next_item_loss(observation, target, items, *,
        every_position)`` says itself what its loss is, and ``config.loss`` must be None.
      config: the loss and its negatives.
      targets: ``i32[n]`` all items that are ever targets; how often each occurs is its popularity.
      every_position: whether ``target`` is ``i32[B, L]``, what follows each position of the
        history, rather than ``i32[B]``, what follows the history.

    Raises:
      ValueError: the module has a loss of its own, and ``config`` names another.
    """
    if has_own_loss(module):
        if config.loss is not None:
            raise ValueError(
                f"{type(config).__name__}.loss is {config.loss!r}, but {type(module).__name__} has a loss of its own;"
                " leave it None."
            )
        return _own_loss(module, every_position)
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


def has_own_loss(module: Any) -> bool:
    """Whether a module says itself what the loss of the next item is."""
    return hasattr(module, "next_item_loss")


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


def _own_loss(module: Any, every_position: bool) -> LossFn:
    def own(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        options = {"every_position": every_position, "method": "next_item_loss", "rngs": {"dropout": key}}
        return module.apply(params, *batch, **options), {}

    return own


def _softmax(module: Recommendation, options: dict[str, Any]) -> LossFn:
    def whole(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        observation, target, items = batch
        scored: Any = module.apply(params, observation, items, method="catalogue", rngs={"dropout": key}, **options)
        (queries, index), target = scored, target.reshape(-1)
        return mean_softmax_cross_entropy(queries.reshape(len(target), -1), index, target), {}

    return whole
