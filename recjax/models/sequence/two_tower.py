"""Trains the two-tower recommender to predict the next item of every training sequence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data import Sequences, windows
from recjax.fit import Fitted, Hooks
from recjax.models.sequence.config import TwoTowerConfig
from recjax.models.sequence.next_item import next_item_loss
from recjax.models.sequence.trainer import Examples, fit_examples, next_item_optimizer
from recjax.nn import Recommendation
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree


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
    config: TwoTowerConfig = TwoTowerConfig(),  # noqa: B008 (frozen)
    *,
    key: Array,
    hooks: Hooks = Hooks(),
    targets: np.ndarray | None = None,
) -> Fitted:
    """Fits a recommender to the next item at every position of every sequence, or at those of what is liked.

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
      targets: ``bool[E]`` the events that are to be predicted, such as those that say an item was liked; the others
        still belong to the histories of what follows. All by default.

    Returns:
      The parameters and ``loss`` of each epoch, as :func:`recjax.fit.fit_epochs` does.

    Raises:
      ValueError: there are no positions to learn from.
      RuntimeError: the loss became infinite or NaN.
    """
    events = np.asarray(sequences.items)
    if targets is not None and targets.shape != events.shape:
        raise ValueError(f"targets has shape {targets.shape}; give one value for each of the {len(events)} events.")
    positions = np.flatnonzero((events < module.num_items) & (True if targets is None else targets))
    if not len(positions):
        what = "event" if targets is None else "target"
        raise ValueError(f"The sequences have no {what} of a known item; there is nothing to learn from.")

    def gather(data: PyTree, indices: Array) -> PyTree:
        sequences, positions, items = data
        history, behaviour = windows(sequences, positions[indices], config.history_length)
        return Observation(history, behaviour), sequences.items[positions[indices]], items

    data = jax.tree.map(jnp.asarray, (sequences, positions, items))
    observation, _, items = jax.jit(gather)(data, jnp.arange(1))
    examples = Examples(
        name="two towers",
        data=data,
        number=len(positions),
        gather=gather,
        losses=(next_item_loss(module, config, events[positions]),),
        choose=None,
        sort_key=None,
        sample=(observation, items),
    )
    return fit_examples(
        module,
        examples,
        next_item_optimizer(config, len(positions), by_rows=config.loss_for(module.num_items) != "softmax"),
        config,
        key=key,
        hooks=hooks,
    )
