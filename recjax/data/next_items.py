"""What is known of users when their next item is asked for, and what it was."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import struct

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
    """
    history, behaviour = last_histories(sequences, length, users)
    time = None if sequences.times is None else last_times(sequences, length, users)
    if context is not None and users is not None:
        context = context[users]
    return Observation(history, behaviour, context, time)


@dataclasses.dataclass(frozen=True, eq=False)
class SeenItems:
    """The items that each user has met before, one row of its own length a user, on the host.

    Attributes:
      starts: ``i64[U + 1]``, where the items of each user begin.
      items: ``i32[E]``.
    """

    starts: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, users: np.ndarray) -> np.ndarray:
        """``i32[B, S]`` items of users ``i32[B]``, padded with ``PAD_ID``; ``S`` is a power of two.

        >>> SeenItems(np.array([0, 3, 3]), np.array([5, 6, 7])).rows(np.array([1, 0])).tolist()
        [[-1, -1, -1, -1], [-1, 5, 6, 7]]
        """
        end, length = self.starts[1:][users], np.diff(self.starts)[users]
        width = 1 << int(max(int(length.max(initial=0)), 1) - 1).bit_length()
        at = end[:, None] - width + np.arange(width)
        inside = at >= (end - length)[:, None]
        return np.where(inside, np.append(self.items, PAD_ID)[np.where(inside, at, -1)], PAD_ID).astype(np.int32)


@struct.dataclass
class NextItems:
    """Users, what they had met, and what they took next: what :func:`recjax.eval.evaluate` asks for.

    Attributes:
      observation: what is shown of every user, leaves ``[U, L]``.
      seen: ``i32[U, S]`` the items that each has met before, padded with ``PAD_ID``.
      targets: ``i32[U]`` what they took next, ``PAD_ID`` for those who took nothing.
    """

    observation: Observation
    seen: Array
    targets: Array


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
    >>> task.observation.history.tolist(), task.seen.tolist(), task.targets.tolist()
    ([[6], [7]], [[5, 6], [-1, 7]], [8, -1])
    """
    repeated = np.flatnonzero(np.bincount(held_out.user, minlength=1) > 1)
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} users have several held-out events, first user {repeated[0]}; keep one event a user."
        )
    for name, log in (("known", known), ("held_out", held_out)):
        if len(log) and int(log.user.max()) >= num_users:
            raise ValueError(
                f"{name} has a user {log.user.max()}, but num_users is {num_users}; users are 0 to that - 1."
            )
    targets = np.full(num_users, PAD_ID, np.int32)
    targets[held_out.user] = held_out.item
    met = known if seen is None else seen
    longest = max(1, int(np.bincount(met.user, minlength=1).max()))
    return NextItems(
        observation=observations(sequences(known, num_users), length, context=context),
        seen=last_histories(sequences(met, num_users), longest)[0],
        targets=jnp.asarray(targets),
    )
