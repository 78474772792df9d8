"""The files of an artifact: written whole or not at all, and read with a check of every byte.

An artifact is a folder with ``manifest.json``, which names every other file with its SHA-256.
Arrays are raw bytes in ``.npz`` files, with dtype and shape in the manifest, so that nothing is
unpickled and every dtype of JAX can be held.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

MANIFEST = "manifest.json"


def write(path: str | os.PathLike[str], manifest: dict[str, Any], files: Mapping[str, bytes]) -> str:
    """Writes an artifact, in place of one that is there.

    Args:
      path: the folder.
      manifest: what describes it, ready for JSON.
      files: contents by name, which may have folders.

    Returns:
      The hash of everything: the SHA-256 of the manifest, which holds those of all files.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    text = json.dumps(manifest | {"files": hashes}, indent=1) + "\n"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        whole = Path(folder) / "whole"
        for name, content in [*files.items(), (MANIFEST, text.encode())]:
            place = whole / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        if target.exists():
            target.rename(Path(folder) / "old")
        whole.rename(target)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The manifest of an artifact, and the hash of everything.

    Raises:
      ValueError: there is no artifact, or its manifest is damaged.
    """
    file = Path(path) / MANIFEST
    try:
        content = file.read_bytes()
        manifest = json.loads(content)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ValueError("it names no files")
    except OSError as error:
        raise ValueError(f"There is no artifact in {path}: {file.name} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise ValueError(f"The manifest {file} is damaged: {error}.") from None
    return manifest, hashlib.sha256(content).hexdigest()


def read(path: str | os.PathLike[str], manifest: dict[str, Any], name: str) -> bytes:
    """The content of a file of an artifact.

    Raises:
      ValueError: the file is missing, or is not the one that the manifest names.
    """
    file = Path(path) / name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"The artifact {path} lacks {name} ({error.strerror}); write it anew.") from None
    if hashlib.sha256(content).hexdigest() != manifest["files"].get(name):
        raise ValueError(f"{file} is damaged: its SHA-256 is not that of the manifest; write the artifact anew.")
    return content


def pack(arrays: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Arrays as the bytes of an ``.npz`` file, and what the manifest says of each."""
    host = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: array.reshape(-1).view(np.uint8) for name, array in host.items()})
    return buffer.getvalue(), {name: [array.dtype.name, list(array.shape)] for name, array in host.items()}


def unpack(content: bytes, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of :func:`pack`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name].view(jnp.dtype(dtype)).reshape(shape) for name, (dtype, shape) in described.items()}
