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
from recjax.fit.digests import optimizer_digest, tree_digest
from recjax.fit.hooks import Hooks
from recjax.fit.progress import Progress
from recjax.fit.step import LossFn, TrainState, gradient_step
from recjax.types import Array, PyTree

Gather = Callable[[PyTree, Array], PyTree]
"""``(data, indices i32[B]) -> batch``."""


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


def bucketed(sort_key: Array, batch_size: int) -> Batches:
    """Like :func:`shuffled`, but each batch is sorted, so that the parts it is cut into hold examples of like length.

    Args:
      sort_key: ``i32[n]`` of each example, such as its length.
      batch_size: examples in a batch.

    Raises:
      ValueError: ``batch_size`` is not in ``1 .. n``.
    """
    unsorted = shuffled(len(sort_key), batch_size)

    def batches(key: Array) -> Array:
        indices = unsorted(key)
        return jnp.take_along_axis(indices, jnp.argsort(sort_key[indices], axis=-1), axis=-1)

    return batches


def take(data: PyTree, indices: Array) -> PyTree:
    """The rows ``indices`` of every leaf of ``data``."""
    return jax.tree.map(lambda leaf: leaf[indices], data)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPlan:
    """How many epochs there are, and how examples become batches.

    Attributes:
      epochs: passes over all examples, at most.
      batch_size: examples in a batch.
      num_examples: examples in the data; the leading axis of its leaves by default.
      gather: makes a batch from the data and example indices; takes rows by default.
      sort_key: ``i32[n]``, the order of examples within batches, see :func:`bucketed`; none by default.
      accumulate: into how many parts each batch is cut, one computed after the other, for less memory.
      name: what a progress bar calls the training.
    """

    epochs: int
    batch_size: int
    num_examples: int | None = None
    gather: Gather = take
    sort_key: Array | None = None
    accumulate: int = 1
    name: str = "fit"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs} trains nothing; use at least 1.")

    def count(self, data: PyTree) -> int:
        """How many examples ``data`` has."""
        return jax.tree.leaves(data)[0].shape[0] if self.num_examples is None else self.num_examples

    def batches(self, num_examples: int) -> Batches:
        """Which examples make up each batch of an epoch."""
        if self.sort_key is None:
            return shuffled(num_examples, self.batch_size)
        return bucketed(self.sort_key, self.batch_size)


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
      RuntimeError: the loss became infinite or NaN.
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
    identity: dict[str, Any] = {}
    if checkpoints is not None:
        identity = _identity(optimizer, params, data, plan, key, config)
        state, history = _resumed(checkpoints, state, identity)
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
            checkpoints.save(len(history), state, {"history": history, "training": identity})
        task.update(num_examples, **history[-1])
    task.finish()
    if stopping is None:
        return Fitted(state.train.params, history, len(history))
    return Fitted(state.best_params, history, stopping.best_epoch(history))


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def _identity(
    optimizer: Optimizer, params: PyTree, data: PyTree, plan: TrainingPlan, key: Array, config: Any
) -> dict[str, Any]:
    """The properties that a training shares with the one it continues, as JSON; large ones by their digests."""
    return {
        "config": None if config is None else repr(dataclasses.replace(config, epochs=1)),
        "batch_size": plan.batch_size,
        "num_examples": plan.count(data),
        "accumulate": plan.accumulate,
        "sort_key": None if plan.sort_key is None else tree_digest(plan.sort_key),
        "key": np.ravel(jax.random.key_data(key)).tolist(),
        "start": tree_digest(params),
        "data": tree_digest(data),
        "optimizer": optimizer_digest(optimizer, params),
    }


_DIGESTS = {
    "sort_key": "",
    "start": " (the digest of the parameters that training starts from)",
    "data": " (the digest of what is learned from)",
    "optimizer": " (the digest of its update: rates, schedules by the number of steps, and the versions of JAX and"
    " optax change it)",
}


def _resumed(
    checkpoints: Checkpoints, state: FitState, identity: dict[str, Any]
) -> tuple[FitState, list[dict[str, float]]]:
    """The state and the history to go on from: those of the latest checkpoint, if there is one of this training."""
    if checkpoints.latest_step() is None:
        return state, []
    saved = checkpoints.metadata().get("training", {})
    for name, value in identity.items():
        if saved.get(name) != value:
            raise ValueError(
                f"{checkpoints.directory} holds a training with {name} {saved.get(name)}, but now {name} is {value}"
                f"{_DIGESTS.get(name, '')}; go on with what it was begun with, clear() the directory, or choose"
                " another one."
            )
    state, metadata = checkpoints.restore(state)
    return state, metadata["history"]


def _epoch_means(metrics: dict[str, np.ndarray], epoch: int) -> dict[str, Any]:
    losses = metrics["loss"]
    if not np.isfinite(losses).all():
        bad = int(np.argmin(np.isfinite(losses)))
        first = epoch * len(losses)
        raise RuntimeError(
            f"The loss became {losses[bad]} at step {first + bad} (epoch {epoch + 1}, steps {first} to"
            f" {first + len(losses) - 1}). Lower the learning rate, clip gradients, or check the data."
        )
    return {name: np.mean(values) for name, values in metrics.items()}
