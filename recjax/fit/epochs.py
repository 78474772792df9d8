"""Training by epochs over data that stays on the device: one compiled scan an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.fit.descent import Optimizer, Switch
from recjax.fit.diverged import Diverged
from recjax.fit.hooks import Hooks
from recjax.fit.plan import Batches, Gather, TrainingPlan, take
from recjax.fit.progress import Progress
from recjax.fit.resume import identity, resumed
from recjax.fit.step import LossFn, TrainState, gradient_step
from recjax.types import Array, PyTree


@struct.dataclass
class FitState:
    """The state of a training between epochs; a pytree, so that a checkpoint of it resumes training exactly.

    Attributes:
      train: parameters, optimiser state and step.
      key: the key that all epochs' keys are folded from.
      best_params: parameters of the best epoch so far, or None without early stopping.
    """

    train: TrainState
    key: Array
    best_params: PyTree = None


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The outcome of training.

    Attributes:
      params: parameters of the best epoch with early stopping, else of the last.
      history: the metrics of each epoch: means over its steps, and the callback's.
      best_epoch: which epoch ``params`` are from, counted from 1.
    """

    params: PyTree
    history: list[dict[str, float]]
    best_epoch: int


def make_epoch(
    loss_fn: LossFn | Switch,
    optimizer: Optimizer,
    batches: Batches,
    *,
    gather: Gather = take,
    accumulate: int = 1,
) -> Callable[[TrainState, PyTree, Array], tuple[TrainState, dict[str, Array]]]:
    """A compiled epoch.

    Args:
      loss_fn: see :func:`~recjax.fit.gradient_step`.
      optimizer: an optax transformation or :class:`~recjax.fit.RowWise`.
      batches: which examples make up each batch, such as :func:`shuffled`.
      gather: makes a batch from the data and example indices.
      accumulate: into how many parts each batch is cut, see :func:`~recjax.fit.gradient_step`.

    Returns:
      ``(state, data, key) -> (state, metrics)`` with metrics ``f32[steps]`` as
      :func:`~recjax.fit.gradient_step` has them. The state is donated.
    """

    def epoch(state: TrainState, data: PyTree, key: Array) -> tuple[TrainState, dict[str, Array]]:
        def gathered(loss_fn: LossFn) -> LossFn:
            return lambda params, indices, key: loss_fn(params, gather(data, indices), key)

        # Indices are what an update is given, so that accumulation cuts them and not what all examples share.
        of_indices: LossFn | Switch
        if isinstance(loss_fn, Switch):
            which = lambda indices: loss_fn.which(gather(data, indices))  # noqa: E731
            of_indices = Switch(which, tuple(map(gathered, loss_fn.branches)))
        else:
            of_indices = gathered(loss_fn)
        step = gradient_step(of_indices, optimizer, accumulate=accumulate)
        order_key, step_key = jax.random.split(key)
        indices = batches(order_key)
        return jax.lax.scan(
            lambda state, batch: step(state, *batch), state, (indices, jax.random.split(step_key, len(indices)))
        )

    return jax.jit(epoch, donate_argnums=0)


def fit_epochs(
    loss_fn: LossFn | Switch,
    optimizer: Optimizer,
    params: PyTree,
    data: PyTree,
    plan: TrainingPlan,
    *,
    key: Array,
    hooks: Hooks = Hooks(),
    config: Any = None,
) -> Fitted:
    """Trains ``params`` by epochs.

    >>> import optax
    >>> def loss_fn(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> plan = TrainingPlan(epochs=2, batch_size=4)
    >>> fitted = fit_epochs(loss_fn, optax.sgd(0.5), jnp.zeros(()), jnp.full(10, 3.0), plan, key=jax.random.key(0))
    >>> float(fitted.params), len(fitted.history)
    (3.0, 2)

    Args:
      loss_fn: ``(params, batch, key) -> (loss, metrics)``, or a :class:`~recjax.fit.Switch`.
      optimizer: an optax transformation, see :func:`~recjax.fit.adamw` for clipping, or
        :class:`~recjax.fit.RowWise`.
      params: where to start; left untouched.
      data: pytree that stays on the device.
      plan: epochs and batches.
      key: all shuffles and losses follow from it.
      hooks: callback, early stopping, progress and checkpoints. Checkpoints of another training are refused: of other
        data, start, optimiser, key, plan or config. More epochs may be asked for than before, provided that
        the learning rate does not depend on their number.
      config: of the trainer, a dataclass with ``epochs``: the other options that results depend on.

    Returns:
      Parameters and metrics.

    Raises:
      ValueError: ``batch_size`` is out of range, early stopping watches a metric that no epoch has, or the
        checkpoints are of another training.
      Diverged: the loss became infinite or NaN.
    """
    num_examples = plan.count(data)
    batches = plan.batches(num_examples)
    run_epoch = make_epoch(loss_fn, optimizer, batches, gather=plan.gather, accumulate=plan.accumulate)
    stopping, checkpoints = hooks.early_stopping, hooks.checkpoints
    state = FitState(
        train=TrainState.create(_copied(params), optimizer),
        key=key,
        best_params=None if stopping is None else _copied(params),
    )
    history: list[dict[str, float]] = []
    shared: dict[str, Any] = {}
    if checkpoints is not None:
        shared = identity(optimizer, params, data, plan, key, config)
        state, metadata = resumed(checkpoints, state, shared)
        history = metadata.get("history", history)
    data = jax.tree.map(jnp.asarray, data)
    task = (hooks.progress or Progress(enabled=False)).task(plan.name, plan.epochs * num_examples, unit="examples")
    task.update(len(history) * num_examples)

    while len(history) < plan.epochs and not (stopping is not None and stopping.is_due(history)):
        epoch_key = jax.random.fold_in(state.key, len(history))
        train, metrics = run_epoch(state.train, data, epoch_key)
        state = dataclasses.replace(state, train=train)
        row = _epoch_means(jax.device_get(metrics), len(history))
        if hooks.callback is not None:
            row |= hooks.callback(len(history) + 1, train.params) or {}
        history.append({name: float(value) for name, value in row.items()})
        if stopping is not None and stopping.best_epoch(history) == len(history):
            state = dataclasses.replace(state, best_params=_copied(train.params))
        if checkpoints is not None:
            checkpoints.save(len(history), state, {"history": history, "identity": shared})
        task.update(num_examples, **history[-1])
    task.finish()
    if stopping is None:
        return Fitted(state.train.params, history, len(history))
    return Fitted(state.best_params, history, stopping.best_epoch(history))


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def _epoch_means(metrics: dict[str, np.ndarray], epoch: int) -> dict[str, Any]:
    losses = metrics["loss"]
    if not np.isfinite(losses).all():
        bad = int(np.argmin(np.isfinite(losses)))
        first = epoch * len(losses)
        raise Diverged(
            f"The loss became {losses[bad]} at step {first + bad} (epoch {epoch + 1}, steps {first} to"
            f" {first + len(losses) - 1}). Lower the learning rate, clip gradients, or check the data."
        )
    return {name: np.mean(values) for name, values in metrics.items()}
