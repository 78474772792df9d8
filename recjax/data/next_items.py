"""What is known of users when their next item is asked for, and what it was."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.histories import Sequences, last_histories, last_times, sequences
from recjax.data.schema import Interactions
from recjax.types import PAD_ID, Array, Observation


def observations(
    sequences: Sequences, length: int, users: Array | None = None, *, context: Array | None = None
) -> Observation:
    """The newest ``length`` events of users, as a policy or a model sees them.

    Args:
      sequences: the log.
      length: ``L``, a Python int.
      users: ``i32[B]``; all users, in their order, when None.
      context: ``f32[U, C]`` what else is known of all users, or None.

    Returns:
      Leaves ``[B, L]``, padded on the left; ``time`` where the log has times.

    Raises:
      ValueError: a user is not in the log, or ``context`` is not of its users. While JAX
        traces, users are not known; those outside then have padding and a context of zeros.
    """
    if context is not None and context.shape[0] != sequences.num_users:
        raise ValueError(f"context has {context.shape[0]} rows, but the log has {sequences.num_users} users.")
    history, behaviour = last_histories(sequences, length, users)
    time = None if sequences.times is None else last_times(sequences, length, users)
    if context is not None and users is not None:
        rows = jnp.asarray(users)
        rows = jnp.where(rows < 0, sequences.num_users, rows)  # negative ones would count from the end
        context = jnp.asarray(context).at[rows].get(mode="fill", fill_value=0)
    return Observation(history, behaviour, context, time)


@dataclass(frozen=True, eq=False)
class SeenItems:
    """The different items that each user has met, held on the host in as much memory as there are of them.

    The items of user ``u`` stand at ``starts[u] .. starts[u + 1] - 1``, ascending.

    >>> seen = SeenItems.of(Interactions([0, 0, 0, 2], [7, 5, 7, 9]), num_users=3)
    >>> seen.rows(np.array([2, 0])).tolist()
    [[-1, 9], [5, 7]]

    Attributes:
      starts: ``i64[U + 1]``, ascending from 0.
      items: ``i32[starts[U]]``.
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, interactions: Interactions, num_users: int) -> SeenItems:
        """The items of a log.

        Args:
          interactions: the log.
          num_users: ``U``.

        Raises:
          ValueError: a user is not in ``0 .. U - 1``.
        """
        _check_users("The log", interactions, num_users)
        order = np.lexsort((interactions.item, interactions.user))
        user, item = interactions.user[order], interactions.item[order]
        first = np.ones(len(order), bool)
        first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
        counts = np.bincount(user[first], minlength=num_users)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), item[first])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def width(self) -> int:
        """``S``, the width of :meth:`rows` for all users."""
        return _width(np.diff(self.starts))

    def rows(self, users: np.ndarray) -> np.ndarray:
        """The items of some users, side by side.

        Args:
          users: ``i[B]``.

        Returns:
          ``i32[B, S]``, padded on the left with ``PAD_ID``. ``S`` is the number of items of the one who met the
          most, rounded up to a power of two, so that programs which take the rows compile for few shapes.

        Raises:
          ValueError: a user is not in ``0 .. U - 1``.
        """
        taken = self.take(users)
        counts = np.diff(taken.starts)
        width = _width(counts)
        padded = np.full((len(counts), width), PAD_ID, np.int32)
        # Item j of a row with n items stands at column width - n + j.
        row = np.repeat(np.arange(len(counts)), counts)
        padded[row, width - taken.starts[row + 1] + np.arange(len(row))] = taken.items
        return padded

    def take(self, users: np.ndarray) -> SeenItems:
        """The items of some users, who are numbered anew in their order.

        Args:
          users: ``i[B]``.

        Raises:
          ValueError: a user is not in ``0 .. U - 1``.
        """
        users = np.asarray(users)
        if users.ndim != 1 or (users.size and users.dtype.kind not in "iu"):
            raise ValueError(f"users must be one column of integers, got {users.dtype}{list(users.shape)}.")
        outside = (users < 0) | (users >= len(self))
        if outside.any():
            row = int(outside.argmax())
            raise ValueError(f"users[{row}] is {users[row]}; there are {len(self)} users, numbered from 0.")
        users = users.astype(np.int64)
        begin, counts = self.starts[users], self.starts[users + 1] - self.starts[users]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return SeenItems(starts, self.items[np.arange(starts[-1]) + np.repeat(begin - starts[:-1], counts)])


def _width(counts: np.ndarray) -> int:
    return 1 << max(0, int(counts.max(initial=1)) - 1).bit_length()


@dataclass(frozen=True, eq=False)
class NextItems:
    """Users, what they had met, and what they took next: what :func:`recjax.eval.evaluate` asks for.

    Attributes:
      observation: what is shown of every user, leaves ``[U, L]``.
      seen: the items that each of the ``U`` users has met before; :meth:`SeenItems.rows` gives them as an array.
      targets: ``i32[U]`` what they took next, ``PAD_ID`` for those who took nothing.
    """

    observation: Observation
    seen: SeenItems
    targets: Array

    def take(self, users: np.ndarray) -> NextItems:
        """The task of some users ``i[B]``, in their order.

        Raises:
          ValueError: a user is not in ``0 .. U - 1``.
        """
        seen = self.seen.take(users)
        return NextItems(jax.tree.map(lambda leaf: leaf[users], self.observation), seen, self.targets[users])


def next_items(
    known: Interactions,
    held_out: Interactions,
    num_users: int,
    length: int,
    *,
    seen: Interactions | None = None,
    context: Array | None = None,
) -> NextItems:
    """What a log shows of every user, and the event that follows it.

    Args:
      known: what happened before.
      held_out: what is asked for, at most one event of a user, as of :func:`leave_one_out`.
      num_users: ``U``.
      length: ``L``, the newest events that are shown.
      seen: the events whose items are no answer any more; all of ``known`` by default.
      context: see :func:`observations`.

    Raises:
      ValueError: a user has several held-out events, or there are more users than ``num_users``.

    >>> log = Interactions([0, 0, 1], [5, 6, 7], time=[1, 2, 3])
    >>> task = next_items(log, Interactions([0], [8]), num_users=2, length=1)
    >>> task.observation.history.tolist(), task.targets.tolist()
    ([[6], [7]], [8, -1])
    >>> task.seen.rows(np.array([0, 1])).tolist()
    [[5, 6], [-1, 7]]
    """
    repeated = np.flatnonzero(np.bincount(held_out.user, minlength=1) > 1)
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} users have several held-out events, first user {repeated[0]}; keep one event a user."
        )
    met = known if seen is None else seen
    for name, log in (("known", known), ("held_out", held_out), ("seen", met)):
        _check_users(name, log, num_users)
    targets = np.full(num_users, PAD_ID, np.int32)
    targets[held_out.user] = held_out.item
    return NextItems(
        observation=observations(sequences(known, num_users), length, context=context),
        seen=SeenItems.of(met, num_users),
        targets=jnp.asarray(targets),
    )


def _check_users(name: str, log: Interactions, num_users: int) -> None:
    if len(log) and int(log.user.max()) >= num_users:
        raise ValueError(f"{name} has a user {log.user.max()}, but num_users is {num_users}; users are 0 to that - 1.")
