"""Splits of a log into what to learn from, what to tune on and what to report on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from recjax.data.schema import Interactions


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint parts of a log, each in file order, that together are the log.

    ``str(split)`` states the protocol in one line; print it with every number.

    Attributes:
      train: to learn from.
      validation: to tune on.
      test: to report on.
      protocol: how the parts were made.
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    protocol: str

    def __str__(self) -> str:
        sizes = f"train {len(self.train):,}, validation {len(self.validation):,}, test {len(self.test):,} events"
        return f"{self.protocol}; {sizes}"

    def describe(self) -> str:
        """The protocol and the sizes in one line; the same as ``str``."""
        return str(self)


def _split(log: Interactions, part: np.ndarray, protocol: str) -> Split:
    """``part: i8[E]``, 0 for train, 1 for validation, 2 for test."""
    train, validation, test = (log.take(np.flatnonzero(part == p)) for p in range(3))
    return Split(train, validation, test, protocol)


def leave_one_out(interactions: Interactions) -> Split:
    """Each user's last event is test, the one before it validation, the rest train.

    Users with fewer than three events stay in train whole. Events of equal time keep
    file order, which decides which of them is last.

    >>> log = Interactions([0, 0, 0, 1], [5, 6, 7, 5], time=[30, 10, 30, 20])
    >>> split = leave_one_out(log)
    >>> split.train.item.tolist(), split.validation.item.tolist(), split.test.item.tolist()
    ([6, 5], [5], [7])
    """
    order = interactions.order()
    user = interactions.user[order]
    per_user = np.bincount(user)
    from_end = np.cumsum(per_user)[user] - np.arange(len(user))  # 1 for a user's last event
    part = np.zeros(len(user), np.int8)
    enough = per_user[user] >= 3
    part[order[enough & (from_end == 1)]] = 2
    part[order[enough & (from_end == 2)]] = 1
    clock = "time, ties in file order" if interactions.time is not None else "file order"
    return _split(interactions, part, f"leave-one-out by {clock}, users with >= 3 events")


def global_time(
    interactions: Interactions,
    validation_at: int | str | None = None,
    test_at: int | str | None = None,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
) -> Split:
    """One point in time for everybody: no model sees the future of anybody.

    Args:
      interactions: a log with times.
      validation_at: the first second of validation, unix seconds or ISO 8601 (UTC).
      test_at: the first second of test. Both are given, or neither.
      fractions: without them, the shares of train, validation and test. The cuts are put at the
        times of the events there, so events of the same second stay together, in the later
        part, and the shares hold only nearly. A part whose share is 0 is empty.

    Raises:
      ValueError: the log has no times or no events, only one cut is given, or the cuts are not in order.

    >>> log = Interactions([0] * 10, range(10), time=range(10))
    >>> print(global_time(log, fractions=(0.7, 0.1, 0.2)))
    global time: validation from 1970-01-01T00:00:07Z, test from 1970-01-01T00:00:08Z; train 7, validation 1,
    test 2 events
    """
    if interactions.time is None:
        raise ValueError("A split by time needs times; this log knows only an order. Use leave_one_out or by_user.")
    if (validation_at is None) != (test_at is None):
        raise ValueError("Give both validation_at and test_at, or neither.")
    if validation_at is None or test_at is None:
        _cuts(fractions)
        if not len(interactions):
            raise ValueError("Cannot find cuts by fractions in a log without events.")
        at = _times_at(np.sort(interactions.time), fractions)
    else:
        at = [_seconds(validation_at), _seconds(test_at)]
    if at[0] > at[1]:
        raise ValueError(f"Validation must start before test; got {_iso(at[0])} and {_iso(at[1])}.")
    part = np.searchsorted(np.array(at), interactions.time, side="right").astype(np.int8)
    return _split(interactions, part, f"global time: validation from {_iso(at[0])}, test from {_iso(at[1])}")


def by_user(interactions: Interactions, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Split:
    """Every user is whole in one part, drawn at random; test users are unseen in training.

    Args:
      interactions: the log.
      fractions: shares of the users with events.
      seed: of the draw; the same seed gives the same split.
    """
    cuts = _cuts(fractions)
    users = np.flatnonzero(np.bincount(interactions.user))
    shuffled = np.random.default_rng(seed).permutation(users)
    part_of = np.zeros(int(users.max(initial=-1)) + 1, np.int8)
    for part, cut in enumerate(cuts, start=1):
        part_of[shuffled[round(cut * len(users)) :]] = part
    shares = "/".join(f"{share:g}" for share in fractions)
    return _split(interactions, part_of[interactions.user], f"by user: {shares} of {len(users):,} users, seed {seed}")


def _times_at(ordered: np.ndarray, fractions: Sequence[float]) -> list[int]:
    """The first second of validation and of test."""
    events = len(ordered)
    # 0.7 + 0.1 is below 0.8, and 10 events have 8 before the second cut all the same.
    first = math.floor(fractions[0] * events + 1e-6)
    second = math.floor((fractions[0] + fractions[1]) * events + 1e-6)
    second = events if not fractions[2] else second
    first = second if not fractions[1] else first
    return [int(ordered[cut]) if cut < events else int(ordered[-1]) + 1 for cut in (first, second)]


def _cuts(fractions: Sequence[float]) -> tuple[float, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise ValueError(
            f"fractions must be three shares (train, validation, test) that sum to 1; got {tuple(fractions)}."
        )
    return fractions[0], fractions[0] + fractions[1]


def _seconds(at: int | str) -> int:
    if not isinstance(at, str):
        return int(at)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise ValueError(f"{at!r} is not a time; give unix seconds or ISO 8601 such as '1998-03-01'.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _iso(seconds: int) -> str:
    return f"{np.datetime64(seconds, 's')}Z"
