"""Several devices: seeds in parallel, or one batch divided (data parallelism)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from recjax.fit.descent import Optimizer
from recjax.fit.step import LossFn, Update, gradient_step
from recjax.types import PyTree


def shard_seeds(tree: PyTree, axes: PyTree, devices: int | None = None) -> PyTree:
    """Lays the seeds of a run out over devices.

    Computations that ``jax.vmap`` maps over seeds then run on all devices without
    communication, under plain ``jax.jit``. Results are those of one device up to rounding:
    XLA may order sums differently for the smaller arrays.

    >>> from recjax.types import seed_axes
    >>> state = {"w": np.zeros((4, 3))}
    >>> shard_seeds(state, seed_axes(state), devices=1) is state
    True

    Args:
      tree: what the seeds hold.
      axes: :func:`recjax.types.seed_axes` of ``tree``: 0 where a leaf has a leading seed
        axis, None where all seeds share it; shared leaves are copied to every device.
      devices: how many devices; all by default. One device leaves ``tree`` as it is.

    Returns:
      The tree, on the devices.

    Raises:
      ValueError: there are fewer devices, or the seeds cannot be divided evenly.
    """
    available = jax.devices()
    devices = len(available) if devices is None else devices
    if not 1 <= devices <= len(available):
        raise ValueError(f"devices={devices} but JAX sees {len(available)}; choose 1 to {len(available)}.")
    if devices == 1:
        return tree
    mesh = jax.make_mesh((devices,), ("seeds",), (jax.sharding.AxisType.Auto,), devices=available[:devices])

    def place(axis: int | None, leaves: PyTree) -> PyTree:
        if axis is None:
            return jax.device_put(leaves, jax.NamedSharding(mesh, jax.P()))
        if np.shape(leaves)[0] % devices:
            raise ValueError(
                f"{np.shape(leaves)[0]} seeds cannot be divided among {devices} devices; use a multiple of {devices}."
            )
        return jax.device_put(leaves, jax.NamedSharding(mesh, jax.P("seeds")))

    return jax.tree.map(place, axes, tree, is_leaf=lambda axis: axis is None)


def pmap_update(loss_fn: LossFn, optimizer: Optimizer, devices: Sequence[jax.Device] | None = None) -> Update:
    """The update of :func:`~recjax.fit.make_update` with its batch divided among devices by ``jax.pmap``.

    Each device computes the gradient of its share of the batch; gradients, loss and
    metrics are averaged over devices. For a loss that is a mean over examples and draws
    no random numbers this is the single-device update of the whole batch. JAX keeps
    ``pmap`` in maintenance; it is offered for one host with a few devices and small models.

    Args:
      loss_fn: ``(params, batch, key) -> (loss, metrics)``.
      optimizer: an optax transformation or :class:`~recjax.fit.RowWise`.
      devices: all local devices by default.

    Returns:
      ``(state, batch, key) -> (state, metrics)`` with the leading axis of every leaf of
      ``batch`` a multiple of the number of devices, else ValueError.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    step = gradient_step(loss_fn, optimizer, axis_name="devices")
    # The state enters and leaves as one copy; pmap replicates it.
    mapped = jax.pmap(step, axis_name="devices", in_axes=(None, 0, 0), out_axes=None, devices=devices)

    def split(leaf: Any) -> Any:
        if leaf.shape[0] % len(devices):
            raise ValueError(
                f"A batch of {leaf.shape[0]} cannot be divided among {len(devices)} devices;"
                f" use a multiple of {len(devices)}."
            )
        return leaf.reshape(len(devices), -1, *leaf.shape[1:])

    return lambda state, batch, key: mapped(state, jax.tree.map(split, batch), jax.random.split(key, len(devices)))
