"""Trains the two-tower recommender to predict the next item of every training sequence."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.catalogue import row_adam
from recjax.data import Sequences, windows
from recjax.fit import Fitted, Hooks, Optimizer, RowWise, TrainingPlan, adamw, fit_epochs, learning_rates
from recjax.models.sequence.next_item import NextItemConfig, next_item_loss
from recjax.nn import Recommendation
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig(NextItemConfig):
    """How to train.

    The defaults were chosen on the validation split of MovieLens-100K (leave one out,
    the whole catalogue ranked, seen items left out), with ``Recommendation(dim=32,
    encoder="attention", temperature=0.1)``.

    Attributes:
      epochs: passes over all positions of the training sequences.
      batch_size: positions in a batch; at most as many as there are.
      history_length: events before a position that the model sees.
      learning_rate: the peak of the learning rate.
      schedule: how it changes, a name in ``recjax.fit.learning_rates``.
      weight_decay: decoupled, on all parameters; with a sampled loss, item rows that a batch
        does not read are not decayed.
      max_grad_norm: the largest global norm of a gradient.
      loss: "softmax" over the whole catalogue; or a name in ``recjax.losses.losses``
        ("sampled_softmax", "gbce", "bce", "bpr"), by which an update costs the same for any
        catalogue: item rows are then updated by :class:`recjax.fit.RowWise` with ``row_adam``.
        By default the softmax for up to 20,000 items, "sampled_softmax" for more.
      negatives: items that the positions of a batch share as negatives of a sampled loss.
      sampler: how they are drawn: "uniform", "popularity", "in_batch" (the other positions'
        items, and ``negatives`` does not matter) or "mixed" (those and uniform ones).
    """

    epochs: int = 6
    batch_size: int = 512
    history_length: int = 20
    learning_rate: float = 1e-2
    schedule: str = "cosine"
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    loss: str | None = None
    negatives: int = 1024
    sampler: str = "uniform"

    def __post_init__(self) -> None:
        self.check("epochs", "batch_size", "history_length", "negatives")


@struct.dataclass
class TwoTower:
    """A trained recommender with the scores that all models have, for users without context.

    Attributes:
      params: as :func:`fit_recommendation` returns them.
      items: features of all items.
      module: the recommender.
      behaviour: what users are taken to have done to the items of their history.
    """

    params: PyTree
    items: Items
    module: Recommendation = struct.field(pytree_node=False)
    behaviour: Behaviour = struct.field(pytree_node=False, default=Behaviour.CLICK)

    def scores(self, history: Array) -> Array:
        """``i32[B, L]`` oldest first, padded on the left with ``PAD_ID`` -> logits ``f32[B, N]``."""
        behaviour = jnp.where(history == PAD_ID, PAD_ID, self.behaviour)
        logits = self.module.apply(self.params, Observation(history, behaviour), self.items)
        return jnp.asarray(logits)


def fit_recommendation(
    module: Recommendation,
    sequences: Sequences,
    items: Items,
    config: TwoTowerConfig = TwoTowerConfig(),
    *,
    key: Array,
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Fits a recommender to the next item at every position of every sequence.

    The loss is that of ``config``. Sequences and items stay on the device, where the history of
    a position is gathered when its turn comes. A position without history trains the cold-start
    vector; a position whose item is unknown (``N``) is no target.

    Args:
      module: the recommender.
      sequences: the training log.
      items: features of all items.
      config: how to train.
      key: of the initial parameters and the shuffles.
      hooks: callback, early stopping, progress and checkpoints.

    Returns:
      The parameters and ``loss`` of each epoch, as :func:`recjax.fit.fit_epochs` does.

    Raises:
      ValueError: there are no positions to learn from.
      RuntimeError: the loss became infinite or NaN.
    """
    positions = np.flatnonzero(np.asarray(sequences.items) < module.num_items)
    if not len(positions):
        raise ValueError("The sequences have no event of a known item; there is nothing to learn from.")
    batch_size = min(config.batch_size, len(positions))
    steps = config.epochs * -(-len(positions) // batch_size)
    rate = learning_rates.make(config.schedule, config.learning_rate, steps)
    optimizer: Optimizer = adamw(rate, weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm)
    if config.loss_for(module.num_items) != "softmax":
        optimizer = RowWise(
            row_adam(rate, weight_decay=config.weight_decay),
            adamw(rate, weight_decay=config.weight_decay),
            max_grad_norm=config.max_grad_norm,
        )
    loss_fn = next_item_loss(module, config, np.asarray(sequences.items)[positions])

    def gather(data: PyTree, indices: Array) -> PyTree:
        sequences, positions, items = data
        history, behaviour = windows(sequences, positions[indices], config.history_length)
        return Observation(history, behaviour), sequences.items[positions[indices]], items

    init_key, fit_key = jax.random.split(key)
    data = jax.tree.map(jnp.asarray, (sequences, positions, items))
    observation, _, items = jax.jit(gather)(data, jnp.arange(1))
    return fit_epochs(
        loss_fn,
        optimizer,
        jax.jit(module.init)(init_key, observation, items),
        data,
        TrainingPlan(config.epochs, batch_size, len(positions), gather, name="two towers"),
        key=fit_key,
        hooks=hooks,
        config=config,
    )
