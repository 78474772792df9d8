"""Resuming a training from its checkpoints, and refusing to resume another one."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from recjax.fit.checkpoints import Checkpoints
from recjax.fit.descent import Optimizer
from recjax.fit.plan import TrainingPlan
from recjax.fit.row_wise import RowWise
from recjax.types import Array, PyTree

State = TypeVar("State")

_LENGTH = 32


def tree_digest(tree: PyTree) -> str:
    """SHA-256 of the paths, shapes, dtypes and bytes of all leaves, the first 32 hexadecimal digits.

    >>> tree_digest({"a": jnp.zeros(2)}) == tree_digest({"a": np.zeros(2, np.float32)})
    True
    >>> tree_digest({"a": jnp.zeros(2)}) == tree_digest({"b": jnp.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:_LENGTH]


def optimizer_digest(optimizer: Optimizer, params: PyTree) -> str:
    """SHA-256 of the program of one update, learning rates and schedules included; nothing is computed.

    It differs between versions of JAX and optax where they write the same update in another way.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), params)
    step: Callable
    if isinstance(optimizer, RowWise):
        # Its update of whole tables, whose gradients have the shapes of the parameters, has the same rates.
        step, kind = dataclasses.replace(optimizer, whole=True).step, f"rows, whole={optimizer.whole}"
    else:
        step, kind = optimizer.update, "optax"
    program = jax.make_jaxpr(step)(shapes, jax.eval_shape(optimizer.init, shapes), shapes)
    text = re.sub(r"0x[0-9a-f]+", "", program.pretty_print(use_color=False))  # Without addresses of functions.
    digest = hashlib.sha256(f"{kind} {text}".encode())
    for constant in program.consts:
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()[:_LENGTH]


def identity(
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
    "environment": " (the digest of its parameters and items)",
    "hyper-parameters": " (their digest)",
    "parameters": " (the digest of those that the agent starts from)",
    "start": " (the digest of the parameters that training starts from)",
    "data": " (the digest of what is learned from)",
    "optimizer": " (the digest of its update: rates, schedules by the number of steps, and the versions of JAX and"
    " optax change it)",
}


def resumed(checkpoints: Checkpoints, state: State, shared: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """The state and the metadata of the latest checkpoint; ``state`` and no metadata where there is none.

    Args:
      checkpoints: of a run that saved ``shared`` as "identity" in the metadata.
      state: gives the structure, and is where a new run starts.
      shared: the properties that the run has in common with the one it continues, as JSON.

    Raises:
      ValueError: the checkpoint is that of another run; its arrays were not read.
    """
    if checkpoints.latest_step() is None:
        return state, {}
    saved = checkpoints.metadata().get("identity", {})
    for name, value in shared.items():
        if saved.get(name) != value:
            raise ValueError(
                f"{checkpoints.directory} holds a run with {name} {saved.get(name)}, but now {name} is {value}"
                f"{_DIGESTS.get(name, '')}; go on with what it was begun with, clear() the directory, or choose"
                " another one."
            )
    return checkpoints.restore(state)
