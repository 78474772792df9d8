"""Atomic checkpoints of any pytree: complete or absent, whenever the process is killed.

Orbax writes each checkpoint into a temporary directory and renames it when complete.
This module is the only one that knows of Orbax.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.interrupt import held_back_interrupt
from recjax.types import PyTree

_REMOVING = ".removing"


class Checkpoints:
    """The checkpoints of one run, ``directory/<step>``, newest last.

    A tree may hold arrays of any dtype (``bfloat16`` and typed PRNG keys included), NumPy
    arrays, Python numbers and Nones. Leaves are stored by their path in the tree, so a
    checkpoint does not depend on the classes that the tree is made of.

    One process writes to a directory at a time. A process killed at any moment, also
    while it saves or removes, leaves every checkpoint that was there readable, or gone
    as a whole if it was beyond ``keep``.

    >>> import tempfile
    >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)
    >>> for step in (10, 20, 30):
    ...     checkpoints.save(step, [np.full(3, step), 0.1], {"note": f"step {step}"})
    >>> checkpoints.steps()
    [20, 30]
    >>> checkpoints.restore([np.zeros(3, int), 0.0])
    ([array([30, 30, 30]), 0.1], {'note': 'step 30'})
    """

    def __init__(self, directory: str | Path, keep: int = 2) -> None:
        """Names a place for checkpoints; it is created by the first save.

        Args:
          directory: where checkpoints go.
          keep: how many checkpoints stay; older ones are removed after each save.

        Raises:
          ValueError: ``keep`` is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep={keep} would leave no checkpoint; it must be at least 1.")
        self.directory = Path(directory).absolute()
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, ascending."""
        if not self.directory.is_dir():
            return []
        complete = [path for path in self.directory.iterdir() if (path / "_CHECKPOINT_METADATA").is_file()]
        return sorted(int(path.name) for path in complete if path.name.isdecimal())

    def latest_step(self) -> int | None:
        """The newest step that has a complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, tree: PyTree, metadata: dict[str, Any] | None = None) -> None:
        """Writes a checkpoint and removes those beyond ``keep``; returns when it is on disk.

        Args:
          step: a number larger than that of every checkpoint in the directory.
          tree: the pytree to save.
          metadata: anything JSON can hold, saved beside the tree.

        Raises:
          ValueError: ``step`` is not larger than the latest step, or ``metadata`` cannot
            be written as JSON.
          OSError: the disk is full.
        """
        latest = self.latest_step()
        if step < 0 or (latest is not None and step <= latest):
            raise ValueError(
                f"Cannot save step {step}: {self.directory} already holds step {latest}. Continue from it,"
                " clear() the directory, or choose another one."
            )
        leaves = _leaves_by_path(tree)
        document = {
            "metadata": metadata or {},
            "leaves": {path: _describe(leaf) for path, leaf in leaves.items()},
            "keys": {path: str(jax.random.key_impl(leaf)) for path, leaf in leaves.items() if _is_key(leaf)},
        }
        try:
            json.dumps(document)
        except TypeError as error:
            raise ValueError(f"Metadata must be JSON (numbers, strings, lists, dictionaries): {error}.") from None
        data = {path: jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves.items()}
        # Orbax refuses arrays without elements; their shape is in the document.
        arrays = {path: np.asarray(x) for path, x in jax.device_get(data).items() if np.size(x)}
        with held_back_interrupt():
            self._write(step, document, arrays)

    def _write(self, step: int, document: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        _check_space(self.directory, sum(array.nbytes for array in arrays.values()))
        path = self.directory / str(step)
        if path.exists():  # half of a checkpoint
            self._remove(path)
        with _orbax() as ocp:
            items = {"document": ocp.args.JsonSave(document)}
            if arrays:
                items["arrays"] = ocp.args.PyTreeSave(arrays)
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
                checkpointer.save(path, args=ocp.args.Composite(**items))
        for old in self.steps()[: -self.keep]:
            self._remove(self.directory / str(old))

    def restore(self, like: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any]]:
        """Reads a checkpoint into the form of ``like``.

        Args:
          like: a tree of the same structure, shapes and dtypes: the state to be replaced,
            or one made by :func:`jax.eval_shape`. Its values are not read; JAX arrays
            come back as JAX arrays on the same devices, NumPy arrays as NumPy arrays and
            Python numbers as Python numbers. All are new buffers that may be donated.
          step: which checkpoint; the latest by default.

        Returns:
          The tree and the metadata that were saved.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          ValueError: a leaf is missing, superfluous, or of another shape or dtype.
        """
        path = self._path(step)
        leaves = _leaves_by_path(like)
        document = _read(path, "document", "JsonRestore")
        _check_same_leaves(leaves, document["leaves"], path)
        arrays = _read(path, "arrays", "PyTreeRestore") if (path / "arrays").is_dir() else {}
        keys = document["keys"]
        values = [_rebuild(arrays.get(name), leaf, keys.get(name)) for name, leaf in leaves.items()]
        return jax.tree.unflatten(jax.tree.structure(like), values), document["metadata"]

    def metadata(self, step: int | None = None) -> dict[str, Any]:
        """The metadata of a checkpoint, without its arrays.

        Args:
          step: which checkpoint; the latest by default.

        Raises:
          FileNotFoundError: there is no such checkpoint.
        """
        return _read(self._path(step), "document", "JsonRestore")["metadata"]

    def clear(self) -> None:
        """Removes all checkpoints, so that a new run may start from step 0."""
        for step in self.steps():
            self._remove(self.directory / str(step))

    def _path(self, step: int | None) -> Path:
        known = self.steps()
        if not known or (step is not None and step not in known):
            wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise FileNotFoundError(f"There is no {wanted} in {self.directory}; steps there: {known or 'none'}.")
        return self.directory / str(known[-1] if step is None else step)

    def _remove(self, path: Path) -> None:
        for leftover in self.directory.glob(f"*{_REMOVING}"):
            shutil.rmtree(leftover)
        # Renamed first: a removal that is cut short must not leave half a checkpoint under its name.
        shutil.rmtree(path.rename(path.with_name(path.name + _REMOVING)))


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """Orbax, imported on first use; it neither logs nor leaves handlers on the root logger."""
    logger = logging.getLogger("absl")
    level, handlers = logger.level, logging.root.handlers[:]
    logger.setLevel(logging.ERROR)
    try:
        import orbax.checkpoint as ocp

        yield ocp
    finally:
        logger.setLevel(level)
        logging.root.handlers[:] = handlers


def _check_space(directory: Path, needed: int) -> None:
    """Raises OSError where a disk has no room for so many bytes; Orbax would say so from threads, many times."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        text = f"No space left for a checkpoint of {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, text, str(directory))


def _read(path: Path, item: str, kind: str) -> Any:
    with _orbax() as ocp, ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restore = getattr(ocp.args, kind)()
        return checkpointer.restore(path, args=ocp.args.Composite(**{item: restore}))[item]


def _leaves_by_path(tree: PyTree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> str:
    """The shape and dtype of a leaf, e.g. ``float32[3,4]`` or ``key<fry>[]``."""
    dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
    name = str(dtype) if _is_key(leaf) else np.dtype(dtype).name
    return f"{name}[{','.join(map(str, np.shape(leaf)))}]"


def _check_same_leaves(like: dict[str, Any], saved: dict[str, str], path: Path) -> None:
    wanted = {name: _describe(leaf) for name, leaf in like.items()}
    for name in wanted.keys() | saved.keys():
        if wanted.get(name) != saved.get(name):
            raise ValueError(
                f"The checkpoint {path} does not fit: leaf {name or 'root'} is {saved.get(name, 'missing')} there"
                f" but {wanted.get(name, 'missing')} here. It was made by a run with another configuration."
            )


def _rebuild(value: Any, like: Any, key_impl: str | None) -> Any:
    """A leaf of the kind of ``like`` from what was stored, None for an array without elements."""
    if isinstance(like, bool | int | float | complex):
        return type(like)(value)
    if key_impl is None and value is None:
        value = np.zeros(like.shape, like.dtype)
    if isinstance(like, np.ndarray | np.generic):
        return value
    # A copy that JAX owns: buffers borrowed from NumPy cannot be donated.
    array = jnp.array(value, copy=True)
    if key_impl is not None:
        array = jax.random.wrap_key_data(array, impl=key_impl)
    return jax.device_put(array, like.sharding) if getattr(like, "committed", False) else array
