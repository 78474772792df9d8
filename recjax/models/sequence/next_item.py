"""Losses of predicting the next item: a softmax over the whole catalogue, or sampled negatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from recjax.catalogue import accidental_hits, mean_softmax_cross_entropy, negatives
from recjax.fit import LossFn, learning_rates, optimizers
from recjax.losses import losses, masked_mean
from recjax.nn import LikelihoodModel, Recommendation, SequenceModel
from recjax.types import PAD_ID, Array, Observation, PyTree

FULL_SOFTMAX_LIMIT = 20_000
"""Items up to which every item of the catalogue is scored and updated at each step unless told otherwise."""

SAMPLERS = ("uniform", "popularity", "in_batch", "mixed")


@dataclasses.dataclass(frozen=True)
class NextItemConfig:
    """What all training on the next item is configured by.

    Attributes:
      epochs: passes over all examples, at most.
      batch_size: examples in a batch; at most as many as there are.
      history_length: events that the model sees.
      learning_rate: the peak of the learning rate.
      schedule: how it changes, a name in ``recjax.fit.learning_rates``.
      weight_decay: decoupled, on all parameters; with row-wise updates, item rows that a batch
        does not read are not decayed.
      max_grad_norm: the largest global norm of a gradient; None does not clip.
      loss: "softmax" over the whole catalogue; or a name in ``recjax.catalogue.losses.losses``
        ("sampled_softmax", "gbce", "bce", "bpr"), by which an update costs the same for any
        catalogue. By default the softmax for up to :data:`FULL_SOFTMAX_LIMIT` items, "sampled_softmax" for more.
      negatives: items that the examples of a batch share as negatives of a sampled loss.
      sampler: how they are drawn: "uniform", "popularity", "in_batch" (the other examples'
        items, and ``negatives`` does not matter) or "mixed" (those and uniform ones).
      warmup_steps: updates over which the learning rate rises from 0.
      optimizer: a name in ``recjax.fit.optimizers``, "adamw" or "adafactor". Item tables that are updated by rows
        have a row-wise Adam whatever its name.
      l2: times the parameters, is added to the gradient: the derivative of ``l2 / 2 |params|²``.
      accumulate: into how many parts each batch is cut, one computed after the other, for less
        memory. Negatives of "in_batch" are those of one part. Must divide ``batch_size``.
    """

    epochs: int
    batch_size: int
    history_length: int
    learning_rate: float
    schedule: str
    weight_decay: float
    max_grad_norm: float | None
    loss: str | None = None
    negatives: int = 1024
    sampler: str = "uniform"
    warmup_steps: int = 0
    optimizer: str = "adamw"
    l2: float = 0.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        self.check_at_least_one("epochs", "batch_size", "history_length", "negatives", "accumulate")
        self.check_choices(schedule=tuple(learning_rates), sampler=SAMPLERS, optimizer=tuple(optimizers))
        kind = type(self).__name__
        if self.loss not in (None, "softmax", *losses):
            raise ValueError(f"{kind}.loss is {self.loss!r}; choose softmax, {', '.join(losses)}, or None.")
        if not self.learning_rate > 0:
            raise ValueError(f"{kind}.learning_rate is {self.learning_rate}; it must be above 0.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"{kind}.max_grad_norm is {self.max_grad_norm}; it must be above 0, or None.")
        self.check_not_negative("weight_decay", "l2", "warmup_steps")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"{kind}.accumulate is {self.accumulate}, which does not divide batch_size {self.batch_size};"
                " choose a divisor."
            )

    def check_at_least_one(self, *names: str) -> None:
        """Raises ValueError where a field is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{type(self).__name__}.{name} is {getattr(self, name)}; it must be at least 1.")

    def check_not_negative(self, *names: str) -> None:
        """Raises ValueError where a field is below 0 or NaN."""
        for name in names:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{type(self).__name__}.{name} is {getattr(self, name)}; it must be at least 0.")

    def check_choices(self, **choices: tuple[str, ...]) -> None:
        """Raises ValueError where a field is none of its choices."""
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{type(self).__name__}.{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}."
                )

    def loss_for(self, num_items: int) -> str:
        """The name of the loss for a catalogue of that size."""
        return self.loss or ("softmax" if num_items <= FULL_SOFTMAX_LIMIT else "sampled_softmax")


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
