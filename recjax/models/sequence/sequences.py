"""Trains sequence models on whole histories: every position predicts the next item, or masked items are predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Sequences, observations
from recjax.fit import Fitted, Hooks, LossFn
from recjax.models.sequence.auxiliary import Auxiliary, auxiliary_losses
from recjax.models.sequence.cloze import masked_positions
from recjax.models.sequence.config import FULL_SOFTMAX_LIMIT, NextItemConfig
from recjax.models.sequence.next_item import each_event, is_item, next_item_loss
from recjax.models.sequence.trainer import Examples, Start, fit_examples, next_item_optimizer
from recjax.nn import LikelihoodModel, SequenceModel
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree


@dataclasses.dataclass(frozen=True)
class SequenceConfig(NextItemConfig):
    """How to train on whole histories.

    Examples are windows of the histories of users; see :class:`NextItemConfig` for the fields that are not below.

    Attributes:
      windows: of a longer sequence, what is learned from: its "newest" events, as published models do, or
        "all", cut into windows that are examples like any other.
      accumulate: see :class:`NextItemConfig`; here parts also save padding, as a part holds users of like length.
        The other views of a contrastive loss are those of one part.
      objective: "next" predicts what follows each position; "cloze" predicts items that were
        masked, for bidirectional encoders (:class:`recjax.nn.BidirectionalEncoder`).
      target_behaviours: what is predicted: events of these behaviours; of any when empty. All are read.
      mask_share: of the events that "cloze" masks.
      last_only_share: of the histories of which "cloze" masks only the last event, which is
        what is predicted in use.
      contrastive: weight of the contrastive loss of two views of a history
        (:func:`recjax.losses.info_nce`); 0 leaves it out.
      contrastive_temperature: of that loss.
      views: the augmentations that views are drawn from, see
        :func:`recjax.models.sequence.two_views`; "insert" and "substitute" need ``similar``.
      attributes: weight of the loss of predicting the attributes (``items.content``) of the next
        item (:func:`recjax.models.sequence.attribute_loss`); 0 leaves it out.
      num_buckets: how many lengths parts are computed at, each compiled for itself; 1 pads all alike.
    """

    epochs: int = 100
    batch_size: int = 128
    history_length: int = 200
    learning_rate: float = 1e-3
    schedule: str = "constant"
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    accumulate: int = 4
    windows: str = "newest"
    objective: str = "next"
    target_behaviours: tuple[Behaviour, ...] = ()
    mask_share: float = 0.2
    last_only_share: float = 0.0
    contrastive: float = 0.0
    contrastive_temperature: float = 1.0
    views: tuple[str, ...] = ("crop", "mask", "reorder")
    attributes: float = 0.0
    num_buckets: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_one("num_buckets")
        self.check_choices(windows=("newest", "all"), objective=("next", "cloze"))
        self.check_not_negative("contrastive", "attributes")
        if isinstance(self.target_behaviours, int):
            raise ValueError(f"SequenceConfig.target_behaviours is {self.target_behaviours!r}; give a tuple of them.")
        for name in ("mask_share", "last_only_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"SequenceConfig.{name} is {getattr(self, name)}; it must lie in [0, 1].")


@struct.dataclass
class _Log:
    """The training log and the features of items, on the device.

    Attributes:
      sequences: the training log.
      users: ``i32[n]`` those with a target.
      bucket: ``i32[n]`` the shortest of the bucket lengths that holds each of them.
      items: features of all items.
      context: what else is known of every user, or None.
    """

    sequences: Sequences
    users: Array
    bucket: Array
    items: Items | PyTree
    context: Array | None = None


def fit_sequences(
    module: SequenceModel,
    sequences: Sequences,
    items: Items | PyTree,
    config: SequenceConfig = SequenceConfig(),
    *,
    key: Array,
    start: Start = Start(),  # noqa: B008 (frozen)
    context: Array | None = None,
    similar: Array | None = None,
    auxiliary: Sequence[Auxiliary] = (),
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Fits a recommender to the next item at every position of the newest window, or of all windows, of every user.

    A user's window is ``history_length + 1`` events: all but the last are read, all but the
    first are predicted. The first is predicted too, by the cold-start vector, where the window
    is not full. All events of a batch count the same. Users are drawn at random into batches and
    sorted by length into their parts, so that little padding is computed.

    Args:
      module: a :class:`recjax.nn.Recommendation`, or a module with a loss of its own, a
        :class:`recjax.nn.LikelihoodModel` such as :class:`recjax.models.semantic_ids.GenerativeRetriever`.
      sequences: the training log.
      items: features of all items, or what else the module reads of them.
      config: how to train.
      key: of the initial parameters, the shuffles and dropout.
      start: where to start and what of it is trained; fresh parameters and all of them by default.
      context: ``f32[U, C]`` what else is known of every user, as ``Observation.context``.
      similar: ``i32[N, n]`` items like each, for the views "insert" and "substitute".
      auxiliary: losses beside those of ``config``, such as :func:`recjax.models.sequence.self_supervised_q`. They are
        functions, which checkpoints do not tell apart: to go on from one, give the same.
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

    def gather(log: _Log, indices: Array) -> PyTree:
        window = observations(log.sequences, config.history_length + 1, log.users[indices], context=log.context)
        return window, log.bucket[indices], log.items

    beside = (*auxiliary_losses(module, config, items, similar), *auxiliary)
    loss_of = _losses(module, sequences, items, config, beside, targets_per_user)
    window, *_ = jax.jit(gather)(log, jnp.arange(1))
    examples = Examples(
        name="sequences",
        data=log,
        number=len(log.users),
        gather=gather,
        losses=tuple(map(loss_of, lengths)),
        choose=lambda batch: batch[1].max(),
        sort_key=log.bucket,
        sample=(each_event(lambda events: events[:, 1:], window), items),
    )
    # A module with a loss of its own, or the changes that an adaptation trains, have no tables to update by rows.
    dense = isinstance(module, LikelihoodModel) or start.adaptation is not None
    sampled = config.loss_for(items.num_items) != "softmax" and items.num_items > FULL_SOFTMAX_LIMIT
    return fit_examples(
        module,
        examples,
        next_item_optimizer(config, len(log.users), by_rows=sampled and not dense, rates=start.rates),
        config,
        key=key,
        start=start,
        hooks=hooks,
    )


def _losses(
    module: SequenceModel,
    sequences: Sequences,
    items: Items | PyTree,
    config: SequenceConfig,
    auxiliary: Sequence[Auxiliary],
    targets_per_user: float,
) -> Callable[[int], LossFn]:
    """From a length of histories to the loss of batches ``(window, bucket, items)`` at that length."""
    events, behaviours = np.asarray(sequences.items), np.asarray(sequences.behaviours)
    targets = events[(events < items.num_items) & _is_target(config, behaviours)]
    predict = next_item_loss(module, config, targets, every_position=True)
    examples = _cloze(config, items.num_items) if config.objective == "cloze" else _next(config)

    def of_length(length: int) -> LossFn:
        def loss_fn(params: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
            window, _, items = batch
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

    return of_length


def _check(
    module: SequenceModel,
    sequences: Sequences,
    items: Any,
    config: SequenceConfig,
    context: Array | None,
    similar: Array | None,
) -> None:
    """Raises ValueError for combinations that would train something else than was meant."""
    num_users = len(sequences.starts) - 1
    if not isinstance(module, SequenceModel):
        raise ValueError(f"{type(module).__name__} is no nn.SequenceModel; use nn.Recommendation, or derive from it.")
    wanted = "cloze" if module.is_bidirectional else "next"
    if config.objective != wanted:
        kind = "bidirectional" if module.is_bidirectional else "causal"
        raise ValueError(
            f"SequenceConfig.objective is {config.objective!r}, but the history encoder of {type(module).__name__} is"
            f" {kind}, which is trained by {wanted!r}."
        )
    if config.objective == "cloze" and config.attributes:
        raise ValueError(
            f"SequenceConfig.attributes is {config.attributes}, but with 'cloze' the encoder reads the next item, whose"
            " attributes it would predict; use 'next'."
        )
    if context is not None and len(context) != num_users:
        raise ValueError(f"context has {len(context)} rows for {num_users} users; give one for each.")
    if similar is not None and len(similar) != items.num_items:
        raise ValueError(f"similar has {len(similar)} rows for {items.num_items} items; give one for each.")


Targets = Callable[[Array, Observation], tuple[Observation, Array]]
"""``(key, window [B, L + 1]) -> (what is read, the targets of its positions)``; ``PAD_ID`` is no target."""


def _next(config: SequenceConfig) -> Targets:
    def examples(key: Array, window: Observation) -> tuple[Observation, Array]:
        """The history without its last event, and what follows each of its positions."""
        seen = each_event(lambda events: events[:, :-1], window)
        return seen, jnp.where(_is_target(config, window.behaviour), window.history, PAD_ID)[:, 1:]

    return examples


def _cloze(config: SequenceConfig, num_items: int) -> Targets:
    def examples(key: Array, window: Observation) -> tuple[Observation, Array]:
        """The window with masked items, and these items."""
        candidates = jnp.where(_is_target(config, window.behaviour), window.history, PAD_ID)
        masked = masked_positions(key, candidates, config.mask_share, last_only_share=config.last_only_share)
        seen = dataclasses.replace(
            window,
            history=jnp.where(masked, num_items, window.history),
            behaviour=jnp.where(masked, PAD_ID, window.behaviour),
        )
        return seen, jnp.where(masked, window.history, PAD_ID)

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
    """The users with a target, the lengths that they are computed at, and the mean number of targets of one."""
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
    cuts = np.quantile(length, np.linspace(0, 1, config.num_buckets + 1)[1:], method="higher")
    lengths = np.unique(np.minimum(-(-cuts // 8) * 8, config.history_length)).astype(np.int32)
    bucket = np.searchsorted(lengths, length).astype(np.int32)
    log = _Log(*jax.tree.map(jnp.asarray, (sequences, users, bucket, items)))
    if config.objective == "cloze":
        drawn = config.mask_share * targets + (1 - config.mask_share) ** targets
        targets = (1 - config.last_only_share) * drawn + config.last_only_share
    return log, tuple(lengths.tolist()), float(targets[users].mean())
