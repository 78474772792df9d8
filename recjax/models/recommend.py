"""The best items of many users, by any model."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recjax.catalogue import BlockScorer, top_k
from recjax.types import PAD_ID, Array


def recommend(
    model: Any,
    history: Any,
    k: int,
    *,
    exclude_seen: bool = True,
    seen: Any | None = None,
    batch_size: int = 1024,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks the whole catalogue for many users, in batches.

    >>> from recjax.data import Interactions
    >>> from recjax.models import popularity
    >>> model = popularity(Interactions(user=[0, 1, 1, 2, 2, 2], item=[2, 2, 1, 2, 1, 0]), num_items=3)
    >>> scores, ids = recommend(model, np.array([[2, -1], [0, 1]]), k=2)
    >>> ids.tolist()
    [[1, 0], [2, -1]]

    Args:
      model: a pytree with ``scores(history i32[B, L]) -> f32[B, N]``.
      history: ``i32[U, L]`` what each user had, oldest first, padded with ``PAD_ID``.
      k: how many items.
      exclude_seen: whether items that a user had are left out.
      seen: ``i32[U, E]`` what each user had, where that is more than the history.
      batch_size: users scored at once.

    Returns:
      ``(scores f32[U, k], ids i32[U, k])``, best first, ties by the lowest id; ``-inf``
      and ``PAD_ID`` where fewer than ``k`` items are left.

    Raises:
      ValueError: ``k`` is out of range, or ``seen`` has another number of users.
    """
    history = np.asarray(history, np.int32)
    seen = history if seen is None else np.asarray(seen, np.int32)
    if not exclude_seen:
        seen = np.full((len(history), 1), PAD_ID, np.int32)
    if len(seen) != len(history):
        raise ValueError(f"seen has {len(seen)} users but history has {len(history)}; they must be the same users.")
    size = min(batch_size, max(len(history), 1))
    scores, ids = np.zeros((len(history), k), np.float32), np.zeros((len(history), k), np.int32)
    for start in range(0, len(history), size):
        rows = slice(start, start + size)
        # The last batch is filled up with users without history, so that nothing compiles twice.
        batch = (_fill(part[rows], size) for part in (history, seen))
        best = jax.device_get(_best(model, *batch, k=k))
        scores[rows], ids[rows] = (part[: len(history) - start] for part in best)
    return scores, ids


def _fill(ids: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(ids, ((0, rows - len(ids)), (0, 0)), constant_values=PAD_ID)


@functools.partial(jax.jit, static_argnames="k")
def _best(model: Any, history: Array, seen: Array, k: int) -> tuple[Array, Array]:
    scores = model.scores(history)
    dense = BlockScorer(
        lambda rows, start, size: lax.dynamic_slice_in_dim(rows, start, size, axis=1),
        num_items=scores.shape[1],
        block_size=scores.shape[1],
    )
    return top_k(scores, dense, k, exclude=jnp.asarray(seen))
