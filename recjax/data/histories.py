"""Histories of users as a flat array that lives on the device, and windows gathered from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.data.schema import Interactions
from recjax.types import PAD_ID, Array


@struct.dataclass
class Sequences:
    """All events of all users: user by user, oldest first, events of equal time in file order.

    The events of user ``u`` stand at positions ``starts[u] .. starts[u + 1] - 1``.

    Attributes:
      items: ``i32[E]``.
      behaviours: ``i32[E]`` codes of :class:`~recjax.types.Behaviour`.
      starts: ``i32[U + 1]``, ascending from 0 to ``E``.
      times: ``i32[E]`` seconds since the first event of the log, or None without times.
    """

    items: Array
    behaviours: Array
    starts: Array
    times: Array | None = None

    @property
    def num_users(self) -> int:
        """``U``, users without events included."""
        return self.starts.shape[0] - 1


def sequences(interactions: Interactions, num_users: int) -> Sequences:
    """Sorts a log into one sequence a user.

    Args:
      interactions: the log.
      num_users: ``U``; users without events have empty sequences.

    Raises:
      ValueError: a user id is not in ``0 .. num_users - 1``, or the log spans over 68 years.

    >>> log = Interactions([1, 0, 1, 1], [7, 5, 8, 9], time=[20, 10, 20, 10])
    >>> found = sequences(log, num_users=3)
    >>> found.items.tolist(), found.starts.tolist()
    ([5, 9, 7, 8], [0, 1, 4, 4])
    """
    user = interactions.user
    if len(user) and not (user.min() >= 0 and user.max() < num_users):
        raise ValueError(
            f"User ids run from {user.min()} to {user.max()}; with num_users={num_users} they must lie in"
            f" 0..{num_users - 1}."
        )
    order = interactions.order()
    starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=num_users))])
    return Sequences(
        items=jnp.asarray(interactions.item[order]),
        behaviours=jnp.asarray(interactions.behaviour[order].astype(np.int32)),
        starts=jnp.asarray(starts.astype(np.int32)),
        times=_seconds(interactions, order),
    )


def _seconds(interactions: Interactions, order: np.ndarray) -> Array | None:
    if interactions.time is None or not len(order):
        return None
    seconds = interactions.time[order] - interactions.time.min()
    if seconds.max() > np.iinfo(np.int32).max:
        raise ValueError(f"The log spans {seconds.max()} seconds, over 68 years; check its times.")
    return jnp.asarray(seconds.astype(np.int32))


def windows(sequences: Sequences, positions: Array, length: int) -> tuple[Array, Array]:
    """What happened before events: the history that a policy would have seen when each came.

    Args:
      sequences: the log.
      positions: ``i32[P]`` positions of events in ``0 .. E - 1``.
      length: ``L``, a Python int.

    Returns:
      Items and behaviours, each ``i32[P, L]``: up to ``L`` events of the same user before
      each position, oldest first, padded on the left with ``PAD_ID``.

    Raises:
      ValueError: a position is outside the log. While JAX traces, positions are not known;
        those outside then have rows of padding.

    >>> log = Interactions([0, 0, 0, 1], [5, 6, 7, 8], time=[1, 2, 3, 4])
    >>> windows(sequences(log, 2), jnp.array([2, 3]), length=3)[0].tolist()
    [[-1, 5, 6], [-1, -1, -1]]
    """
    positions = _checked("positions", "event", positions, sequences.items.shape[0])
    user = jnp.searchsorted(sequences.starts, positions, side="right") - 1
    return _before(sequences, sequences.starts[user], positions, length)


def last_histories(sequences: Sequences, length: int, users: Array | None = None) -> tuple[Array, Array]:
    """The newest ``length`` events of users.

    Args:
      sequences: the log.
      length: ``L``, a Python int.
      users: ``i32[B]``; all users, in their order, when None.

    Returns:
      Items and behaviours, each ``i32[B, L]``, oldest first, padded on the left with
      ``PAD_ID``; a user without events has a row of padding.

    Raises:
      ValueError: a user is not in ``0 .. U - 1``. While JAX traces, users are not known;
        those outside then have rows of padding.

    >>> log = Interactions([0, 0, 0], [5, 6, 7], time=[1, 2, 3])
    >>> last_histories(sequences(log, 2), length=2)[0].tolist()
    [[6, 7], [-1, -1]]
    """
    return _newest(sequences, length, _checked("users", "user", users, sequences.num_users))


def last_times(sequences: Sequences, length: int, users: Array | None = None) -> Array:
    """When the events of :func:`last_histories` were: ``i32[B, L]``, 0 where there is none.

    Raises:
      ValueError: the log has no times, or a user is not in it.

    >>> log = Interactions([0, 0, 0], [5, 6, 7], time=[10, 20, 40])
    >>> last_times(sequences(log, 1), length=4).tolist()
    [[0, 0, 10, 30]]
    """
    if sequences.times is None:
        raise ValueError("These sequences have no times; make them of interactions that have.")
    return _newest_times(sequences, length, _checked("users", "user", users, sequences.num_users))


def _checked(name: str, what: str, ids: Any, size: int) -> Any:
    """Ids of a log, refused where one is outside ``0 .. size - 1`` and its value is known."""
    if ids is None:
        return None
    known = None if isinstance(ids, jax.core.Tracer) else np.asarray(ids)
    given = ids if known is None else known
    if given.ndim != 1 or not (jnp.issubdtype(given.dtype, jnp.integer) or not given.size):
        raise ValueError(f"{name} must be one column of integers, got {given.dtype}{list(given.shape)}.")
    if known is not None and known.size and not 0 <= known.min() <= known.max() < size:
        row = int(np.argmax((known < 0) | (known >= size)))
        raise ValueError(f"{name}[{row}] is {known[row]}; the log has {size} {what}s, numbered from 0.")
    return ids if known is None else jnp.asarray(ids, jnp.int32)


@partial(jax.jit, static_argnames="length")
def _newest(sequences: Sequences, length: int, users: Array | None) -> tuple[Array, Array]:
    return _before(sequences, *_bounds(sequences, users), length)


@partial(jax.jit, static_argnames="length")
def _newest_times(sequences: Sequences, length: int, users: Array | None) -> Array:
    assert sequences.times is not None
    at = _positions(sequences, *_bounds(sequences, users), length)
    return sequences.times.at[at].get(mode="fill", fill_value=0)


def _bounds(sequences: Sequences, users: Array | None) -> tuple[Array, Array]:
    """Where the events of users begin and end; nothing for users outside the log."""
    starts = sequences.starts
    if users is None:
        return starts[:-1], starts[1:]
    inside = (users >= 0) & (users < sequences.num_users)
    first = jnp.where(inside, users, 0)
    return starts[first], starts[jnp.where(inside, users + 1, first)]


def _positions(sequences: Sequences, begin: Array, end: Array, length: int) -> Array:
    """The ``length`` positions before ``end``; beyond the log for those before ``begin``."""
    at = end[:, None] - length + jnp.arange(length, dtype=jnp.int32)[None, :]
    return jnp.where(at >= begin[:, None], at, sequences.items.shape[0])


def _before(sequences: Sequences, begin: Array, end: Array, length: int) -> tuple[Array, Array]:
    """Events at the ``length`` positions before ``end`` that are not before ``begin``."""
    if sequences.items.shape[0] == 0:  # JAX gathers nothing from an empty array, not even a fill value
        padding = jnp.full((end.shape[0], length), PAD_ID, jnp.int32)
        return padding, padding
    at = _positions(sequences, begin, end, length)
    return (
        sequences.items.at[at].get(mode="fill", fill_value=PAD_ID),
        sequences.behaviours.at[at].get(mode="fill", fill_value=PAD_ID),
    )
