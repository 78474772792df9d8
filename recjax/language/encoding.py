"""Embeddings of texts by a language model: sorted by length, padded to few shapes, cached on disk."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from recjax import catalogue
from recjax.fit.progress import Progress
from recjax.language.embedding_cache import EmbeddingCache, text_key
from recjax.language.model import LanguageModel
from recjax.language.pooling import Pooling, pooled
from recjax.language.tokens import check_texts
from recjax.language.transformer import Transformer
from recjax.types import Array, PyTree

_In = TypeVar("_In")
_Out = TypeVar("_Out")

AT_ONCE = 2
"""Batches that are computed at the same time, so that cores which one leaves idle work for the other."""


def encode(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    pooling: Pooling = "mean",
    normalize: bool = False,
    batch_size: int = 32,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Embeds texts: one vector a text, in the order of the texts.

    Texts are sorted by length and padded to few lengths, so little padding is computed and little is
    compiled; two batches are computed at a time. Texts that occur several times are encoded once. A
    text without tokens, as an empty one is to a decoder, has the vector zero; one with more tokens
    than the tokenizer's ``max_length`` is cut at the end, inside its special tokens. A default device and a precision
    of matrix products that the caller has set by ``with`` hold here.

    Args:
      model: with a tokenizer.
      texts: ``N`` of them.
      pooling: see :func:`pool`.
      normalize: whether vectors have length 1 (but for those that are zero).
      batch_size: texts at once; on a CPU 32 are faster than many more.
      cache: a folder of cached vectors. They are found by the content of the text, the weights, the tokenizer and the
        options, so one folder serves many models; it is written every few seconds, so a run that was killed goes on.
      progress: shows how many texts are done.

    Returns:
      ``f32[N, D]``.

    Raises:
      ValueError: the model has no tokenizer; something is not a text or has no UTF-8; there is no such ``pooling``;
        ``batch_size`` is below 1; a file of the cache is damaged.
    """
    tokenizer = model.need_tokenizer()
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    check_texts(texts)
    # Threads do not inherit what the caller has set by a ``with``.
    settings: Any = jax.config
    device, precision = settings.jax_default_device, settings.jax_default_matmul_precision
    cached = EmbeddingCache(cache, model, pooling, normalize, *([precision] if precision else []))
    keys = [text_key(text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in cached}
    task = (progress or Progress(enabled=False)).task("encode", total=len(missing), unit="texts")
    tokens, missing_keys = tokenizer(list(missing.values())) if missing else [], list(missing)

    def made(batch: tuple[list[int], np.ndarray, np.ndarray]) -> tuple[list[bytes], np.ndarray]:
        rows, ids, mask = batch
        with jax.default_device(device), jax.default_matmul_precision(precision):
            vectors = _vectors(model.module, model.params, ids, mask, pooling, normalize)
        return [missing_keys[row] for row in rows], np.asarray(vectors)[: len(rows)]

    for done, vectors in _at_once(made, padded_batches(tokens, batch_size, model.config.max_length)):
        cached.add(done, vectors)
        task.update(len(done))
    cached.flush()
    task.finish()
    return cached.read(keys, model.config.dim)


def padded_batches(
    tokens: list[np.ndarray], batch_size: int, max_length: int
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Batches of texts in few shapes, the longest first.

    Yields:
      Which texts, ``ids i32[B, T]`` and ``mask bool[B, T]``; the last batch is filled up with padding.
    """
    order = sorted(range(len(tokens)), key=lambda index: -len(tokens[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        length = _padded(len(tokens[chosen[0]]), max_length)
        yield chosen, *padded([tokens[index] for index in chosen], batch_size, length)


def padded(tokens: list[np.ndarray], rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """``ids i32[rows, length], mask bool[rows, length]`` of at most ``rows`` texts."""
    lengths = np.zeros(rows, np.int32)
    lengths[: len(tokens)] = [len(ids) for ids in tokens]
    ids = np.zeros((rows, length), np.int32)
    for row, found in enumerate(tokens):
        ids[row, : len(found)] = found
    return ids, np.arange(length) < lengths[:, None]


def _padded(length: int, max_length: int) -> int:
    """A multiple of an eighth of the next power of two, so that few lengths occur, but no longer than the positions."""
    length = max(length, 1)
    step = max(2, (1 << (length - 1).bit_length()) // 8)
    return min(-(-length // step) * step, max_length)


def _at_once(function: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[_Out]:
    """``map(function, values)`` in threads, a few values ahead of what is read."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running: collections.deque[concurrent.futures.Future[_Out]] = collections.deque()
        for value in values:
            running.append(pool.submit(function, value))
            if len(running) > AT_ONCE:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@functools.partial(jax.jit, static_argnames=("module", "pooling", "normalize"))
def _vectors(module: Transformer, params: PyTree, ids: Array, mask: Array, pooling: Pooling, normalize: bool) -> Array:
    vectors = pooled(module, params, ids, mask, pooling)
    return catalogue.normalize(vectors) if normalize else vectors
