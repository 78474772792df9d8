"""The best items of many users, by any model."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from recjax.catalogue import dense_scorer, top_k
from recjax.data import SeenItems, Sequences, last_histories
from recjax.types import PAD_ID, Array, check_ids


def recommend(
    model: Any,
    history: Any,
    k: int,
    *,
    history_length: int | None = None,
    exclude_seen: bool = True,
    seen: Any | None = None,
    batch_size: int = 1024,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks the whole catalogue for many users, in batches, and leaves out what they had.

    ``exclude_seen`` sees no more than ``history``, unless ``seen`` is given: of an array that
    was cut to the newest 20 events, items from before the cut are recommended again.
    :class:`recjax.data.Sequences` hold all events of all users; of these the model is shown
    the newest ``history_length``, and the items of all events are left out.

    >>> from recjax.data import Interactions
    >>> from recjax.models import popularity
    >>> model = popularity(Interactions(user=[0, 1, 1, 2, 2, 2], item=[2, 2, 1, 2, 1, 0]), num_items=3)
    >>> scores, ids = recommend(model, np.array([[2, -1], [0, 1]]), k=2)
    >>> ids.tolist()
    [[1, 0], [2, -1]]

    >>> from recjax.data import sequences
    >>> log = sequences(Interactions(user=[0, 0, 1], item=[2, 1, 0]), num_users=2)
    >>> recommend(model, log, k=2, history_length=1)[1].tolist()
    [[0, -1], [2, 1]]

    Args:
      model: a pytree with ``scores(history i32[B, L]) -> f32[B, N]``.
      history: ``i32[U, L]`` what each user had, oldest first, padded with ``PAD_ID``; or the
        ``Sequences`` of all users.
      k: how many items.
      history_length: ``L``, the newest events that the model is shown of ``Sequences``; with
        an array, its own length says so.
      exclude_seen: whether items that a user had are left out.
      seen: ``i32[U, E]`` padded or a :class:`recjax.data.SeenItems`: what is left out in place
        of the items of ``history``.
      batch_size: users scored at once.

    Returns:
      ``(scores f32[U, k], ids i32[U, k])``, best first, ties by the lowest id; ``-inf``
      and ``PAD_ID`` where fewer than ``k`` items are left.

    Raises:
      ValueError: ``k`` is out of range, ids are no integers, ``seen`` has another number of
        users or contradicts ``exclude_seen``, or ``history_length`` is missing or needless.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least one user is scored at once.")
    if seen is not None and not exclude_seen:
        raise ValueError(
            "seen says which items are left out, but exclude_seen=False leaves none out; give one of them."
        )
    history, everything = _of_sequences(history, history_length)
    history = _rows_of_ids("history", history)
    if not exclude_seen:
        seen = np.full((len(history), 1), PAD_ID, np.int32)
    elif seen is None:
        seen = history if everything is None else everything
    elif not isinstance(seen, SeenItems):
        seen = _rows_of_ids("seen", seen)
    if len(seen) != len(history):
        raise ValueError(f"seen has {len(seen)} users but history has {len(history)}; they must be the same users.")
    size = min(batch_size, max(len(history), 1))
    found = [(np.zeros((0, k), np.float32), np.zeros((0, k), np.int32))] if not len(history) else []
    for start in range(0, len(history), size):
        users = np.arange(start, min(start + size, len(history)))
        had = seen.rows(users) if isinstance(seen, SeenItems) else seen[users]
        # The last batch is filled up with users without history, so that nothing compiles twice.
        best = jax.device_get(_best(model, _fill(history[users], size), _fill(had, size), k=k))
        found.append(tuple(part[: len(users)] for part in best))
    scores, ids = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return scores, ids


def _of_sequences(history: Any, history_length: int | None) -> tuple[Any, SeenItems | None]:
    """The histories that a model is shown, and of :class:`Sequences` everything that their users had."""
    if not isinstance(history, Sequences):
        if history_length is not None:
            raise ValueError(
                f"history_length={history_length} is for Sequences; a history array is shown as it is, cut it to that."
            )
        return history, None
    if history_length is None or history_length < 1:
        raise ValueError(
            f"history_length is {history_length}; of Sequences the model is shown the newest events, so say how many,"
            " e.g. 50."
        )
    everything = SeenItems(np.asarray(history.starts, np.int64), np.asarray(history.items))
    return last_histories(history, history_length)[0], everything


def _rows_of_ids(name: str, ids: Any) -> np.ndarray:
    rows = np.asarray(check_ids(name, ids))
    if rows.ndim != 2:
        raise ValueError(f"{name} has shape {rows.shape}; it must be [U, L], one row a user, padded with {PAD_ID}.")
    return rows


def _fill(ids: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(ids, ((0, rows - len(ids)), (0, 0)), constant_values=PAD_ID)


@functools.partial(jax.jit, static_argnames="k")
def _best(model: Any, history: Array, seen: Array, k: int) -> tuple[Array, Array]:
    return top_k(*dense_scorer(model.scores(history)), k, exclude=seen)
