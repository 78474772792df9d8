"""An on-disk cache of text embeddings, addressed by the content that they follow from.

A folder holds one folder for each encoder (weights, tokenizer, options), and that one files of rows with the hashes of
their texts. Files are written beside their place and renamed, so a run that is killed leaves whole files only.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recjax.fit import tree_digest
from recjax.language.model import LanguageModel

FLUSH_SECONDS = 10.0
"""The longest time between writes: what a run that is killed may have to recompute."""

_KEY_BYTES = 16


def text_key(text: str) -> bytes:
    """The cache key of a text, a hash; two texts share one with probability 2^-128."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:_KEY_BYTES]


def encoder_key(model: LanguageModel, *options: object) -> str:
    """The cache key of an encoder, a hash of its config, weights, tokenizer and options."""
    tokenizer = model.tokenizer
    described = (
        model.config,
        np.dtype(model.module.dtype).name,
        tokenizer and (tokenizer.to_json(), tokenizer.max_length, tokenizer.parse_special),
        tree_digest(model.params),
        options,
    )
    return hashlib.sha256(repr(described).encode()).hexdigest()[:32]


class EmbeddingCache:
    """Embeddings by the key of their text, in memory and, with a folder, on disk."""

    def __init__(self, cache: str | os.PathLike[str] | None, model: LanguageModel, *options: object) -> None:
        """Reads the cached embeddings of an encoder.

        Args:
          cache: the folder, or None for a cache in memory alone.
          model: the encoder.
          *options: what else embeddings depend on.

        Raises:
          ValueError: a file is damaged.
        """
        self._folder = None if cache is None else Path(cache).expanduser() / encoder_key(model, *options)
        self._rows: dict[bytes, np.ndarray] = {}
        self._unsaved: list[bytes] = []
        self._saved_at = time.monotonic()
        if self._folder is not None:
            for path in sorted(self._folder.glob("*.npz")):
                self._rows |= _read(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Adds rows ``f32[n, D]``, and writes what is unsaved when some seconds have passed."""
        self._rows |= dict(zip(keys, vectors, strict=True))
        self._unsaved += keys
        if time.monotonic() - self._saved_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last write."""
        if self._folder is not None and self._unsaved:
            self._folder.mkdir(parents=True, exist_ok=True)
            keys = np.frombuffer(b"".join(self._unsaved), np.uint8).reshape(-1, _KEY_BYTES)
            handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, keys=keys, vectors=self.read(self._unsaved, 0))
                os.replace(temporary, self._folder / f"{uuid.uuid4().hex}.npz")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        self._unsaved, self._saved_at = [], time.monotonic()

    def read(self, keys: Sequence[bytes], dim: int) -> np.ndarray:
        """The rows ``f32[len(keys), D]``; without keys ``f32[0, dim]``."""
        return np.stack([self._rows[key] for key in keys]) if keys else np.zeros((0, dim), np.float32)


def _read(path: Path) -> dict[bytes, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            keys, vectors = saved["keys"], saved["vectors"]
            return {key.tobytes(): row for key, row in zip(keys, vectors, strict=True)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"The cached embeddings in {path} are damaged ({error}); delete the file.") from None
