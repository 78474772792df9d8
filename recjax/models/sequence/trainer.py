"""The trainer that two towers and sequence models share: examples of any form, from any start."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from recjax.catalogue import row_adam
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
from recjax.models.sequence.config import NextItemConfig
from recjax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training starts, and what of it is trained.

    Attributes:
      params: e.g. what was trained on another log; fresh ones by default.
      adaptation: what of ``params`` is trained, :func:`recjax.fit.only` some of them or
        :func:`recjax.fit.lora`; everything by default.
      rates: what the learning rate of the parameter at a path is multiplied by, e.g. ``lambda path: 0.05 if
        "language" in path else 1.0`` for a language model that is trained along. Item tables with a row-wise
        optimiser, those of big catalogues, have the rate as it is.
    """

    params: PyTree = None
    adaptation: Adaptation | None = None
    rates: Rates | None = None

    def expand(self, base: PyTree, trained: PyTree) -> PyTree:
        """All parameters, from those at the start and what is trained."""
        return trained if self.adaptation is None else self.adaptation.expand(base, trained)


class Examples(NamedTuple):
    """What an epoch goes through.

    Attributes:
      name: of the training, where progress is shown.
      data: stays on the device.
      number: of the examples.
      gather: ``(data, indices) -> batch``.
      losses: ``(params, batch, key) -> (loss, metrics)`` of each form of a batch.
      choose: ``batch -> i32[]``, the form of a batch; None where there is one.
      sort_key: ``i32[number]``, what examples of a batch are sorted by, or None.
      sample: arguments of the module by which its parameters are made.
    """

    name: str
    data: PyTree
    number: int
    gather: Callable[[PyTree, Array], PyTree]
    losses: tuple[LossFn, ...]
    choose: Callable[[PyTree], Array] | None
    sort_key: Array | None
    sample: tuple[PyTree, ...]


def fit_examples(
    module: nn.Module,
    examples: Examples,
    optimizer: Optimizer,
    config: NextItemConfig,
    *,
    key: Array,
    start: Start = Start(),
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Trains a module on examples, by epochs.

    Args:
      module: whose parameters are trained.
      examples: what it is trained on.
      optimizer: see :func:`next_item_optimizer`.
      config: how to train.
      key: of the initial parameters, the shuffles and dropout.
      start: where to start, and what is trained.
      hooks: callback, early stopping, progress and checkpoints.

    Returns:
      The parameters and metrics of each epoch, as :func:`recjax.fit.fit_epochs` does.
    """
    init_key, fit_key = jax.random.split(key)
    params = start.params
    if params is None:
        params = jax.jit(module.init)(init_key, *examples.sample)
    base, trained = (None, params) if start.adaptation is None else (params, start.adaptation.init(init_key, params))

    def of_trained(loss_fn: LossFn) -> LossFn:
        def adapted(trained: PyTree, batch: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
            batch, base = batch
            return loss_fn(start.expand(base, trained), batch, key)

        return adapted

    losses, choose = tuple(map(of_trained, examples.losses)), examples.choose
    batch_size = batch_size_of(config, examples.number)
    fitted = fit_epochs(
        losses[0] if choose is None else Switch(lambda batch: choose(batch[0]), losses),
        optimizer,
        trained,
        (examples.data, base),
        TrainingPlan(
            config.epochs,
            batch_size,
            examples.number,
            lambda data, indices: (examples.gather(data[0], indices), data[1]),
            examples.sort_key,
            math.gcd(config.accumulate, batch_size),
            examples.name,
        ),
        key=fit_key,
        hooks=hooks.map_params(lambda trained: start.expand(params, trained)),
        config=config,
    )
    return dataclasses.replace(fitted, params=start.expand(params, fitted.params))


def batch_size_of(config: NextItemConfig, num_examples: int) -> int:
    """Examples in a batch: at most as many as there are."""
    return min(config.batch_size, num_examples)


def next_item_optimizer(
    config: NextItemConfig, num_examples: int, *, by_rows: bool, rates: Rates | None = None
) -> Optimizer:
    """The optimiser of a configuration.

    Args:
      config: the rate and its schedule, decay and clipping.
      num_examples: how many examples an epoch has.
      by_rows: whether item tables are updated by rows (:class:`recjax.fit.RowWise`), which needs a sampled loss.
      rates: see :class:`Start`.

    Raises:
      ValueError: ``config.l2`` with row-wise updates.
    """
    steps = config.epochs * -(-num_examples // batch_size_of(config, num_examples))
    rate = learning_rates.make(config.schedule, config.learning_rate, steps, config.warmup_steps)
    # Row-wise updates clip the gradient of tables and the rest together.
    clip = None if by_rows else config.max_grad_norm
    dense: Any = optimizers.make(config.optimizer, rate, weight_decay=config.weight_decay, max_grad_norm=clip)
    if config.l2 and by_rows:
        raise ValueError(
            f"{type(config).__name__}.l2 is {config.l2}, which reads whole tables; with a sampled loss and a big"
            " catalogue use weight_decay."
        )
    if config.l2:
        dense = optax.chain(optax.add_decayed_weights(config.l2), dense)
    dense = dense if rates is None else path_wise(dense, rates)
    if not by_rows:
        return dense
    return RowWise(row_adam(rate, weight_decay=config.weight_decay), dense, max_grad_norm=config.max_grad_norm)
