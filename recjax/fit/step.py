"""One step of gradient descent as a pure function of a state, a batch and a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.fit.descent import Optimizer, Switch, descend
from recjax.registry import Registry
from recjax.types import Array, PyTree

LossFn = Callable[[PyTree, PyTree, Array], tuple[Array, dict[str, Array]]]
"""``(params, batch, key) -> (loss, metrics)`` with scalar loss and metrics."""


@struct.dataclass
class TrainState:
    """Parameters and the state of their optimiser.

    Attributes:
      params: the parameters.
      opt_state: the optimiser's state.
      step: ``i32[]`` updates done.
    """

    params: PyTree
    opt_state: optax.OptState
    step: Array

    @classmethod
    def create(cls, params: PyTree, optimizer: Optimizer) -> TrainState:
        """The state before the first update."""
        return cls(params=params, opt_state=jax.jit(optimizer.init)(params), step=jnp.zeros((), jnp.int32))


Update = Callable[[TrainState, PyTree, Array], tuple[TrainState, dict[str, Array]]]
"""``(state, batch, key) -> (state, metrics)``."""


def gradient_step(
    loss_fn: LossFn | Switch, optimizer: Optimizer, axis_name: str | None = None, *, accumulate: int = 1
) -> Update:
    """An update that is not compiled yet, to be used inside ``jit``, ``scan`` or ``vmap``.

    Args:
      loss_fn: ``(params, batch, key) -> (loss, metrics)``, or a :class:`~recjax.fit.Switch` of
        such functions by ``which(batch)``.
      optimizer: an optax transformation or :class:`~recjax.fit.RowWise`.
      axis_name: a mapped axis over which gradients and metrics are averaged.
      accumulate: into how many parts the batch is cut, see :func:`~recjax.fit.descend`; each
        has a key of its own.

    Returns:
      ``(state, batch, key) -> (state, metrics)``; metrics are those of the loss and
      ``loss`` and ``grad_norm``, the global norm of the gradient before any clipping.
    """

    def of_part(loss_fn: LossFn) -> LossFn:
        return lambda params, batch, keys: loss_fn(params, batch, keys[0])

    part_loss: LossFn | Switch
    if isinstance(loss_fn, Switch):
        part_loss = Switch(lambda batch, keys: loss_fn.which(batch), tuple(map(of_part, loss_fn.branches)))
    else:
        part_loss = of_part(loss_fn)

    def update(state: TrainState, batch: PyTree, key: Array) -> tuple[TrainState, dict[str, Array]]:
        keys = key[None] if accumulate == 1 else jax.random.split(key, accumulate)
        done = descend(
            part_loss, optimizer, state.params, state.opt_state, batch, keys,
            axis_name=axis_name, accumulate=accumulate,
        )  # fmt: skip
        metrics = {"loss": done.loss, **done.aux, "grad_norm": done.grad_norm}
        return TrainState(params=done.params, opt_state=done.opt_state, step=state.step + 1), metrics

    return update


def make_update(loss_fn: LossFn | Switch, optimizer: Optimizer, *, accumulate: int = 1) -> Update:
    """A compiled update that reuses the memory of the state it is given.

    The state passed in is donated: use the one that is returned.

    >>> def loss_fn(params, batch, key):
    ...     error = params - batch
    ...     return jnp.mean(error**2), {}
    >>> optimizer = optax.sgd(0.5)
    >>> update = make_update(loss_fn, optimizer)
    >>> state, metrics = update(TrainState.create(jnp.zeros(()), optimizer), jnp.ones(4), jax.random.key(0))
    >>> float(state.params), float(metrics["loss"])
    (1.0, 1.0)

    Args:
      loss_fn: ``(params, batch, key) -> (loss, metrics)``.
      optimizer: an optax transformation or :class:`~recjax.fit.RowWise`.
      accumulate: into how many parts the batch is cut, see :func:`gradient_step`.

    Returns:
      ``(state, batch, key) -> (state, metrics)``, as :func:`gradient_step`.
    """
    return jax.jit(gradient_step(loss_fn, optimizer, accumulate=accumulate), donate_argnums=0)


optimizers: Registry = Registry("optimizer")
"""Names of optimisers; each is made by ``(learning_rate, *, weight_decay=0.0, max_grad_norm=None)``."""


@optimizers.register("adamw")
def adamw(
    learning_rate: Any, *, weight_decay: float = 0.0, max_grad_norm: float | None = None
) -> optax.GradientTransformation:
    """AdamW whose gradient is first clipped to a global norm.

    Args:
      learning_rate: a float or a schedule.
      weight_decay: decoupled weight decay.
      max_grad_norm: the largest global norm of a gradient; None does not clip.

    References:
      Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """
    optimizer = optax.adamw(learning_rate, weight_decay=weight_decay)
    return optimizer if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)


@optimizers.register("adafactor")
def adafactor(
    learning_rate: Any, *, weight_decay: float = 0.0, max_grad_norm: float | None = None
) -> optax.GradientTransformation:
    """Adafactor, whose state is a row and a column for each matrix, behind the same clipping as :func:`adamw`.

    Args:
      learning_rate: a float or a schedule, relative to the size of each parameter.
      weight_decay: the share of each parameter that an update takes away.
      max_grad_norm: the largest global norm of a gradient; None does not clip.

    References:
      Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, 2018.
    """
    optimizer = optax.adafactor(learning_rate, weight_decay_rate=weight_decay or None, min_dim_size_to_factor=32)
    return optimizer if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)
