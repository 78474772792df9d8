"""Training by epochs over data that stays on the device: one compiled scan an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.fit.checkpoints import Checkpoints
from recjax.fit.descent import Optimizer, Switch
from recjax.fit.diverged import Diverged
from recjax.fit.progress import Progress
from recjax.fit.step import LossFn, TrainState, gradient_step
from recjax.types import Array, PyTree

Gather = Callable[[PyTree, Array], PyTree]
"""``(data, indices i32[B]) -> batch``."""

Callback = Callable[[int, PyTree], dict[str, float] | None]
"""``(epoch, params) -> metrics or None``, called on the host after each epoch; epochs count from 1."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops when a metric of the callback has not improved, and returns the best parameters.

    Attributes:
      metric: which of the epoch's metrics to watch.
      patience: epochs without improvement before training stops.
      maximise: whether larger is better.
    """

    metric: str
    patience: int = 3
    maximise: bool = True

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience={self.patience} would stop before any epoch could improve; use at least 1.")

    def best_epoch(self, history: list[dict[str, float]]) -> int:
        """The first epoch with the best metric, counted from 1."""
        if self.metric not in history[-1]:
            known = ", ".join(map(repr, history[-1]))
            raise ValueError(f"Early stopping watches {self.metric!r}, but an epoch has only {known}.")
        values = np.array([row[self.metric] for row in history])
        if np.isnan(values).all():
            raise ValueError(f"Early stopping watches {self.metric!r}, which is NaN in every epoch.")
        return int(np.nanargmax(values if self.maximise else -values)) + 1


@struct.dataclass
class FitState:
    """What an epoch changes; a pytree, so that a checkpoint of it resumes training exactly.

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


Batches = Callable[[Array], Array]
"""``key -> i32[steps, B]``: the examples of every batch of an epoch."""


def shuffled(num_examples: int, batch_size: int) -> Batches:
    """Every example once, in random order.

    The last batch is filled up with the first examples of the epoch's order, so all
    batches have one size, every example is seen, and fewer than ``batch_size`` are seen
    twice.

    Raises:
      ValueError: ``batch_size`` is not in ``1 .. num_examples``.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size={batch_size} must lie in 1 .. {num_examples}, the number of examples.")
    steps = -(-num_examples // batch_size)
    return lambda key: jnp.resize(jax.random.permutation(key, num_examples), (steps, batch_size))


def shuffled_in_order(ranks: Array, batch_size: int) -> Batches:
    """Like :func:`shuffled`, but each batch is in the order of ``ranks``, so that parts of it are alike.

    Args:
      ranks: ``i32[n]`` what each example is sorted by within its batch, such as its length.
      batch_size: examples in a batch.

    Raises:
      ValueError: ``batch_size`` is not in ``1 .. n``.
    """
    any_order = shuffled(len(ranks), batch_size)

    def batches(key: Array) -> Array:
        indices = any_order(key)
        return jnp.take_along_axis(indices, jnp.argsort(ranks[indices], axis=-1), axis=-1)

    return batches


def take(data: PyTree, indices: Array) -> PyTree:
    """The rows ``indices`` of every leaf of ``data``."""
    return jax.tree.map(lambda leaf: leaf[indices], data)


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
    *,
    key: Array,
    epochs: int,
    batch_size: int,
    num_examples: int | None = None,
    gather: Gather = take,
    ranks: Array | None = None,
    accumulate: int = 1,
    callback: Callback | None = None,
    early_stopping: EarlyStopping | None = None,
    progress: Progress | None = None,
    name: str = "fit",
    checkpoints: Checkpoints | None = None,
    recipe: Any = None,
) -> Fitted:
    """Trains ``params`` by epochs.

    >>> import optax
    >>> def loss_fn(params, batch, key):
    ...     return jnp.mean((params - batch) ** 2), {}
    >>> fitted = fit_epochs(
    ...     loss_fn, optax.sgd(0.5), jnp.zeros(()), jnp.full(10, 3.0), key=jax.random.key(0), epochs=2, batch_size=4
    ... )
    >>> float(fitted.params), len(fitted.history)
    (3.0, 2)

    Args:
      loss_fn: ``(params, batch, key) -> (loss, metrics)``, or a :class:`~recjax.fit.Switch`.
      optimizer: an optax transformation, see :func:`~recjax.fit.adamw` for clipping, or
        :class:`~recjax.fit.RowWise`.
      params: where to start; left untouched.
      data: pytree that stays on the device.
      key: all shuffles and losses follow from it.
      epochs: how many at most.
      batch_size: examples in a batch.
      num_examples: examples in ``data``; the leading axis of its leaves by default.
      gather: makes a batch from the data and example indices; takes rows by default.
      ranks: ``i32[n]``, the order of examples within batches, see :func:`shuffled_in_order`.
      accumulate: into how many parts each batch is cut, one after the other, for less memory.
      callback: called after each epoch; the metrics that it returns join the epoch's. It
        must not keep the parameters, whose memory the next epoch reuses.
      early_stopping: when to stop before ``epochs``.
      progress: where to show progress.
      name: what the progress bar calls this.
      checkpoints: where to save after each epoch. If it holds a checkpoint, training
        continues from there, to results that are bit-identical with those of training
        that was never cut short.
      recipe: the config, a dataclass with ``epochs``; checkpoints of another recipe, key, batch size
        or number of examples are refused. More epochs may be asked for than before.

    Returns:
      Parameters and metrics.

    Raises:
      ValueError: ``epochs`` or ``batch_size`` is out of range, early stopping watches
        a metric that no epoch has, or the checkpoints are of another training.
      Diverged: the loss became infinite or NaN.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs} trains nothing; use at least 1.")
    if num_examples is None:
        num_examples = jax.tree.leaves(data)[0].shape[0]
    batches = shuffled(num_examples, batch_size) if ranks is None else shuffled_in_order(ranks, batch_size)
    run_epoch = make_epoch(loss_fn, optimizer, batches, gather=gather, accumulate=accumulate)
    params = _copied(params)
    state = FitState(
        train=TrainState.create(params, optimizer),
        key=key,
        best_params=None if early_stopping is None else _copied(params),
    )
    history: list[dict[str, float]] = []
    said = None if recipe is None else repr(dataclasses.replace(recipe, epochs=1))
    same = {"batch_size": batch_size, "num_examples": num_examples, "accumulate": accumulate, "recipe": said}
    if checkpoints is not None and checkpoints.latest_step() is not None:
        state, metadata = checkpoints.restore(state)
        history = metadata["history"]
        _check_same(same | {"key": _bits(key)}, metadata["training"] | {"key": _bits(state.key)}, checkpoints)
    data = jax.tree.map(jnp.asarray, data)
    task = (progress or Progress(enabled=False)).task(name, total=epochs * num_examples, unit="examples")
    task.update(len(history) * num_examples)

    while len(history) < epochs and not _stalled(early_stopping, history):
        epoch_key = jax.random.fold_in(state.key, len(history))
        train, metrics = run_epoch(state.train, data, epoch_key)
        state = dataclasses.replace(state, train=train)
        row = _epoch_means(jax.device_get(metrics), len(history))
        if callback is not None:
            row |= callback(len(history) + 1, train.params) or {}
        history.append({name: float(value) for name, value in row.items()})
        if early_stopping is not None and early_stopping.best_epoch(history) == len(history):
            state = dataclasses.replace(state, best_params=_copied(train.params))
        if checkpoints is not None:
            checkpoints.save(len(history), state, {"history": history, "training": same})
        task.update(num_examples, **history[-1])
    task.finish()
    if early_stopping is None:
        return Fitted(state.train.params, history, len(history))
    return Fitted(state.best_params, history, early_stopping.best_epoch(history))


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def _bits(key: Array) -> list[int]:
    return np.ravel(jax.random.key_data(key)).tolist()


def _check_same(given: dict[str, Any], kept: dict[str, Any], checkpoints: Checkpoints) -> None:
    for name, value in given.items():
        if value != kept[name]:
            raise ValueError(
                f"{checkpoints.directory} holds a training with {name} {kept[name]}, but now {name} is {value};"
                " go on with what it was begun with, clear() the directory, or choose another one."
            )


def _stalled(early_stopping: EarlyStopping | None, history: list[dict[str, float]]) -> bool:
    if early_stopping is None or not history:
        return False
    return len(history) - early_stopping.best_epoch(history) >= early_stopping.patience


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
