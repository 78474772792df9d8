"""Trains a recommender on whole sequences: every position of a history predicts what follows it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from recjax.catalogue import row_adam
from recjax.data import Sequences, observations
from recjax.fit import (
    Adaptation,
    Fitted,
    Hooks,
    LossFn,
    Optimizer,
    Rates,
    RowWise,
    Switch,
    TrainingPlan,
    fit_epochs,
    learning_rates,
    optimizers,
    path_wise,
)
from recjax.models.sequence.auxiliary import auxiliary_losses
from recjax.models.sequence.cloze import masked_positions
from recjax.models.sequence.next_item import (
    WHOLE_CATALOGUE,
    NextItemConfig,
    each_event,
    has_own_loss,
    is_item,
    next_item_loss,
)
from recjax.nn import Recommendation
from recjax.nn.history import asks_at_gap
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree


@dataclasses.dataclass(frozen=True)
class SequenceConfig(NextItemConfig):
    """How to train.

    Attributes:
      epochs: passes over all users, at most.
      batch_size: users in a batch; at most as many as there are.
      history_length: events that the model sees.
      windows: of a longer sequence, what is learned from: its "newest" events, as published models do, or
        "all", cut into windows that are examples like any other.
      learning_rate: the peak of the learning rate.
      schedule: how it changes, a name in ``recjax.fit.learning_rates``.
      warmup_steps: updates over which it rises from 0.
      optimizer: a name in ``recjax.fit.optimizers``, "adamw" or "adafactor". Item tables of big catalogues have
        a row-wise Adam whatever its name.
      weight_decay: decoupled, on all parameters.
      l2: times the parameters, is added to the gradient: the derivative of ``l2 / 2 |params|²``.
      max_grad_norm: the largest global norm of a gradient; None does not clip.
      loss, negatives, sampler: see :class:`recjax.models.sequence.TwoTowerConfig`.
      objective: "next" predicts what follows each position; "cloze" predicts items that were
        taken out, for encoders that see both sides (:class:`recjax.nn.BidirectionalEncoder`).
      target_behaviours: what is predicted: events of these behaviours; of any when empty. All are read.
      mask_share: of the events that "cloze" takes out.
      last_only_share: of the histories from which "cloze" takes only the last event, which is
        what is asked in use.
      contrastive: weight of the loss by which two views of a history are to be told from those of
        others (:func:`recjax.losses.info_nce`); 0 leaves it out.
      contrastive_temperature: of that loss.
      views: the augmentations that views are drawn from, see
        :func:`recjax.models.sequence.two_views`; "insert" and "substitute" need ``similar``.
      attributes: weight of the loss of telling the attributes (``items.multi_hot``) of the next
        item (:func:`recjax.models.sequence.attribute_loss`); 0 leaves it out.
      accumulate: into how many parts each batch is cut, one computed after the other, for less
        memory and less padding: a part holds users of like length. Negatives of "in_batch" and the other
        views of a contrastive loss are those of one part. Must divide ``batch_size``.
      lengths: how many lengths parts are computed at, each compiled for itself; 1 pads all alike.
    """

    epochs: int = 100
    batch_size: int = 128
    history_length: int = 200
    windows: str = "newest"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    l2: float = 0.0
    max_grad_norm: float | None = None
    loss: str | None = None
    negatives: int = 1024
    sampler: str = "uniform"
    objective: str = "next"
    target_behaviours: tuple[Behaviour, ...] = ()
    mask_share: float = 0.2
    last_only_share: float = 0.0
    contrastive: float = 0.0
    contrastive_temperature: float = 1.0
    views: tuple[str, ...] = ("crop", "mask", "reorder")
    attributes: float = 0.0
    accumulate: int = 4
    lengths: int = 6

    def __post_init__(self) -> None:
        self.check("epochs", "batch_size", "history_length", "negatives", "accumulate", "lengths")
        for name, value, choices in (
            ("windows", self.windows, ("newest", "all")),
            ("objective", self.objective, ("next", "cloze")),
            ("optimizer", self.optimizer, tuple(optimizers)),
            ("schedule", self.schedule, tuple(learning_rates)),
        ):
            if value not in choices:
                raise ValueError(f"SequenceConfig.{name} is {value!r}; choose one of {', '.join(choices)}.")
        if isinstance(self.target_behaviours, int):
            raise ValueError(f"SequenceConfig.target_behaviours is {self.target_behaviours!r}; give a tuple of them.")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"SequenceConfig.accumulate is {self.accumulate}, which does not divide batch_size {self.batch_size};"
                " choose a divisor."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"SequenceConfig.learning_rate is {self.learning_rate}; it must be above 0.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"SequenceConfig.max_grad_norm is {self.max_grad_norm}; it must be above 0, or None.")
        for name in ("weight_decay", "l2", "contrastive", "attributes", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"SequenceConfig.{name} is {getattr(self, name)}; it must be at least 0.")
        for name in ("mask_share", "last_only_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"SequenceConfig.{name} is {getattr(self, name)}; it must lie in [0, 1].")


@struct.dataclass
class _Log:
    """What stays on the device.

    Attributes:
      sequences: the training log.
      users: ``i32[n]`` those that have something to predict.
      bucket: ``i32[n]`` the shortest of the bucket lengths that holds each of them.
      items: features of all items.
      context: what else is known of every user, or None.
      base: the parameters that an adaptation changes, or None.
    """

    sequences: Sequences
    users: Array
    bucket: Array
    items: Items | PyTree
    context: Array | None = None
    base: PyTree = None


def fit_sequences(
    module: Recommendation | Any,
    sequences: Sequences,
    items: Items | PyTree,
    config: SequenceConfig = SequenceConfig(),
    *,
    key: Array,
    params: PyTree | None = None,
    adaptation: Adaptation | None = None,
    rates: Rates | None = None,
    context: Array | None = None,
    similar: Array | None = None,
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Fits a recommender to the next item at every position of the newest window, or of all windows, of every user.

    A user's window is ``history_length + 1`` events: all but the last are read, all but the
    first are predicted. The first is predicted too, by the cold-start vector, where the window
    is not full. All events of a batch count the same. Users are drawn at random into batches and
    sorted by length into their parts, so that little padding is computed.

    Args:
      module: the recommender; its encoder must know ``every_position``. A module with a loss of its own,
        such as :class:`recjax.models.semantic_ids.GenerativeRetriever`, is trained by that.
      sequences: the training log.
      items: features of all items, or what else the module reads of them.
      config: how to train.
      key: of the initial parameters, the shuffles and dropout.
      params: where to start, e.g. what was trained on another log; fresh ones by default.
      adaptation: what of ``params`` is trained, :func:`recjax.fit.only` some of them or
        :func:`recjax.fit.lora`; everything by default.
      rates: what the learning rate of the parameter at a path is multiplied by, e.g. ``lambda path: 0.05 if
        "language" in path else 1.0`` for a language model that is trained along. Item tables with a row-wise
        optimiser, those of big catalogues, have the rate as it is.
      context: ``f32[U, C]`` what else is known of every user, as ``Observation.context``.
      similar: ``i32[N, n]`` items like each, for the views "insert" and "substitute".
      hooks: callback, early stopping, progress and checkpoints.

    Returns:
      The parameters and ``loss`` of each epoch, as :func:`recjax.fit.fit_epochs` does.

    Raises:
      ValueError: no user has an event of a known item.
      RuntimeError: the loss became infinite or NaN.

    References:
      Kang, McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; for the softmax
      over the whole catalogue, Klenitskiy, Vasilev, "Turning Dross Into Gold Loss: is
      BERT4Rec really better than SASRec?", RecSys 2023.
    """
    _check(module, sequences, items, config, context, similar)
    if config.windows == "all":
        sequences, owner = _cut(sequences, config.history_length)
        context = None if context is None else context[owner]
    log, lengths, targets_per_user = _arrange(sequences, items, config)
    log = dataclasses.replace(log, context=context)
    num_users = len(log.users)
    batch_size = min(config.batch_size, num_users)
    steps = config.epochs * -(-num_users // batch_size)
    events, behaviours = np.asarray(sequences.items), np.asarray(sequences.behaviours)
    targets = events[(events < items.num_items) & _is_target(config, behaviours)]
    predict = next_item_loss(module, config, targets, every_position=True)
    auxiliary = auxiliary_losses(module, config, items, similar)
    examples = _cloze(config, items.num_items) if config.objective == "cloze" else _next(config)

    def gather(log: _Log, indices: Array) -> PyTree:
        users = log.users[indices]
        window = observations(log.sequences, config.history_length + 1, users, context=log.context)
        return window, log.bucket[indices], log.items, log.base

    def expand(base: PyTree, variables: PyTree) -> PyTree:
        return variables if adaptation is None else adaptation.expand(base, variables)

    def of_length(length: int) -> LossFn:
        def loss_fn(variables: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
            window, _, items, base = batch
            params = expand(base, variables)
            mask_key, predict_key, *keys = jax.random.split(key, 2 + len(auxiliary))
            window = each_event(lambda events: events[:, -length - 1 :], window)
            seen, target = examples(mask_key, window)
            loss, metrics = predict(params, (seen, target, items), predict_key)
            # A mean over the batch, whatever the share of its targets that this part has.
            loss *= is_item(target, items.num_items).sum() / (len(target) * targets_per_user)
            for (name, weight, term), key in zip(auxiliary, keys, strict=True):
                metrics[name] = term(params, window, items, key)
                loss += weight * metrics[name]
            return loss, metrics

        return loss_fn

    init_key, fit_key = jax.random.split(key)
    if params is None:
        window, *_ = jax.jit(gather)(log, jnp.arange(1))
        params = jax.jit(module.init)(init_key, each_event(lambda events: events[:, 1:], window), items)
    variables = params
    if adaptation is not None:
        log, variables = dataclasses.replace(log, base=params), adaptation.init(init_key, params)
    fitted = fit_epochs(
        Switch(lambda batch: batch[1].max(), tuple(map(of_length, lengths))),
        _optimizer(config, items.num_items, steps, rates, whole=adaptation is not None or has_own_loss(module)),
        variables,
        log,
        TrainingPlan(
            config.epochs,
            batch_size,
            num_users,
            gather,
            log.bucket,
            math.gcd(config.accumulate, batch_size),
            "sequences",
        ),
        key=fit_key,
        hooks=hooks.map_params(lambda trained: expand(params, trained)),
        config=config,
    )
    return dataclasses.replace(fitted, params=expand(params, fitted.params))


def _check(
    module: Any, sequences: Sequences, items: Any, config: SequenceConfig, context: Array | None, similar: Array | None
) -> None:
    """What would train something else than was meant, without an error."""
    encoder, num_users = getattr(module, "encoder", None), len(sequences.starts) - 1
    wanted = "cloze" if encoder is not None and asks_at_gap(encoder) else "next"
    if encoder is not None and config.objective != wanted:
        raise ValueError(
            f"SequenceConfig.objective is {config.objective!r}, but the encoder {encoder!r} is for {wanted!r}: what"
            " sees both sides (BidirectionalEncoder: name, class or functools.partial) fills gaps, others look ahead."
        )
    if config.objective == "cloze" and config.attributes:
        raise ValueError(
            f"SequenceConfig.attributes is {config.attributes}, but with 'cloze' the encoder sees the next item, whose"
            " attributes it would tell; use 'next'."
        )
    if context is not None and len(context) != num_users:
        raise ValueError(f"context has {len(context)} rows for {num_users} users; give one for each.")
    if similar is not None and len(similar) != items.num_items:
        raise ValueError(f"similar has {len(similar)} rows for {items.num_items} items; give one for each.")


Examples = Callable[[Array, Observation], tuple[Observation, Array]]
"""``(key, window [B, L + 1]) -> (what is read, the targets of its positions)``; ``PAD_ID`` is no target."""


def _next(config: SequenceConfig) -> Examples:
    def examples(key: Array, window: Observation) -> tuple[Observation, Array]:
        """The history without its last event, and what follows each of its positions."""
        seen = each_event(lambda events: events[:, :-1], window)
        return seen, jnp.where(_is_target(config, window.behaviour), window.history, PAD_ID)[:, 1:]

    return examples


def _cloze(config: SequenceConfig, num_items: int) -> Examples:
    def examples(key: Array, window: Observation) -> tuple[Observation, Array]:
        """The window with gaps, and what stood in them."""
        candidates = jnp.where(_is_target(config, window.behaviour), window.history, PAD_ID)
        gaps = masked_positions(key, candidates, config.mask_share, last_only_share=config.last_only_share)
        opened = dataclasses.replace(
            window,
            history=jnp.where(gaps, num_items, window.history),
            behaviour=jnp.where(gaps, PAD_ID, window.behaviour),
        )
        return opened, jnp.where(gaps, window.history, PAD_ID)

    return examples


def _is_target(config: SequenceConfig, behaviours: Any) -> Any:
    """Which events may be predicted, ``bool`` of the shape of ``behaviours``."""
    if not config.target_behaviours:
        return behaviours >= 0
    xp = jnp if isinstance(behaviours, jax.Array) else np
    return xp.isin(behaviours, xp.array([int(behaviour) for behaviour in config.target_behaviours]))


def _cut(sequences: Sequences, length: int) -> tuple[Sequences, np.ndarray]:
    """Sequences cut from their ends into windows of ``length`` events and the one before, and whose each window is."""
    starts = np.asarray(sequences.starts)
    windows = np.maximum(1, -(-np.diff(starts) // length))
    owner = np.repeat(np.arange(len(windows)), windows)
    age = np.arange(len(owner)) - np.repeat(np.cumsum(windows) - windows, windows)
    end = starts[1:][owner] - age * length
    begin = np.maximum(starts[:-1][owner], end - length - 1)
    cut_starts = np.concatenate([[0], np.cumsum(end - begin)])
    at = np.arange(cut_starts[-1]) + np.repeat(begin - cut_starts[:-1], end - begin)
    times = None if sequences.times is None else sequences.times[at]
    cut = Sequences(sequences.items[at], sequences.behaviours[at], jnp.asarray(cut_starts, jnp.int32), times)
    return cut, owner


def _arrange(
    sequences: Sequences, items: Items | PyTree, config: SequenceConfig
) -> tuple[_Log, tuple[int, ...], float]:
    """The users with something to predict, the lengths to compute them at, and how many targets one has on average."""
    starts, ids = np.asarray(sequences.starts), np.asarray(sequences.items)
    is_target = (ids < items.num_items) & _is_target(config, np.asarray(sequences.behaviours))
    known = np.concatenate([[0], np.cumsum(is_target)])
    read = config.history_length + (config.objective == "cloze")
    targets = known[starts[1:]] - known[np.maximum(starts[:-1], starts[1:] - read)]
    users = np.flatnonzero(targets).astype(np.int32)
    if not len(users):
        kinds = ", ".join(behaviour.name for behaviour in config.target_behaviours) or "any behaviour"
        raise ValueError(f"The sequences have no event of a known item with {kinds}; there is nothing to learn from.")
    length = np.minimum(np.diff(starts)[users], config.history_length)
    # Lengths that cut the users into parts of like size, rounded up to whole vectors of a processor.
    cuts = np.quantile(length, np.linspace(0, 1, config.lengths + 1)[1:], method="higher")
    lengths = np.unique(np.minimum(-(-cuts // 8) * 8, config.history_length)).astype(np.int32)
    bucket = np.searchsorted(lengths, length).astype(np.int32)
    log = _Log(*jax.tree.map(jnp.asarray, (sequences, users, bucket, items)))
    if config.objective == "cloze":
        drawn = config.mask_share * targets + (1 - config.mask_share) ** targets
        targets = (1 - config.last_only_share) * drawn + config.last_only_share
    return log, tuple(lengths.tolist()), float(targets[users].mean())


def _optimizer(config: SequenceConfig, num_items: int, steps: int, rates: Rates | None, *, whole: bool) -> Optimizer:
    rate = learning_rates.make(config.schedule, config.learning_rate, steps, config.warmup_steps)
    options = {"weight_decay": config.weight_decay, "max_grad_norm": config.max_grad_norm}
    dense = optimizers.make(config.optimizer, rate, **options)
    if config.l2:
        dense = optax.chain(optax.add_decayed_weights(config.l2), dense)
    dense = dense if rates is None else path_wise(dense, rates)
    if whole or config.loss_for(num_items) == "softmax" or num_items <= WHOLE_CATALOGUE:
        return dense
    if config.l2:
        raise ValueError(
            f"SequenceConfig.l2 is {config.l2}, which reads whole tables; with {num_items:,} items and a sampled loss"
            " use weight_decay."
        )
    return RowWise(row_adam(rate, weight_decay=config.weight_decay), dense, max_grad_norm=config.max_grad_norm)
