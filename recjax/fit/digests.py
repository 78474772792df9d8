"""Digests by which a resumed training recognises its data, its start and its optimiser."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from recjax.fit.descent import Optimizer
from recjax.fit.row_wise import RowWise
from recjax.types import PyTree

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
    # An optimiser by rows has the rates of its update of whole tables, whose gradients have the parameters' shapes.
    by_rows = isinstance(optimizer, RowWise)
    step = dataclasses.replace(optimizer, whole=True).step if isinstance(optimizer, RowWise) else optimizer.update
    program = jax.make_jaxpr(step)(shapes, jax.eval_shape(optimizer.init, shapes), shapes)
    text = program.pretty_print(use_color=False)
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())  # Without addresses of functions.
    digest.update(f"{by_rows} {by_rows and optimizer.whole}".encode())  # type: ignore[union-attr]
    for constant in program.consts:
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()[:_LENGTH]
