"""What users were shown and what they did with it, read from a log.

A log tells what was shown in one of three ways (:func:`recjax.envs.read_evidence`): whatever was rated was seen;
impressions say what was shown; and of logs of clicks, carts and purchases alone, what was passed over is presumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from recjax.data import BEHAVIOUR_WEIGHTS, Dataset, Sequences
from recjax.envs.evidence import Evidence, draw_others, rated_and_liked, read_evidence
from recjax.envs.preference_config import PreferenceConfig
from recjax.response import CLICK, Signal
from recjax.types import Behaviour

DONE = {
    Behaviour.VIEW: "was viewed",
    Behaviour.CART: "was put into the cart",
    Behaviour.PURCHASE: "was purchased",
    Behaviour.LIKE: "was liked",
    Behaviour.PLAY: "was played",
}
"""What users of a log may do, as reports say it; ratings are likes or none, and clicks are the usual signal."""

MOST_BEHAVIOURS = 6
"""Their combinations are counted one by one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Exposures:
    """Items that users were shown, user by user, oldest first.

    Attributes:
      users: ``i32[E]``.
      items: ``i32[E]``.
      answers: ``bool[E, S]`` what was done, by behaviour.
      sessions: ``i32[E]`` numbers of sessions, ascending; a user's next one has the next number.
      behaviours: ``S`` of them, the weakest first.
      num_users: ``U``.
      num_items: ``N``.
      feedback: "ratings", "impressions", or "implicit", where the log holds nothing but what was taken.
      text: how the log was read, in one sentence or two.
      presumed: ``f64[N]`` shares with which items are presumed to be shown where feedback is implicit, else None.
      negatives: items drawn as passed over for each that was taken, where feedback is implicit.
    """

    users: np.ndarray
    items: np.ndarray
    answers: np.ndarray
    sessions: np.ndarray
    behaviours: tuple[Behaviour, ...]
    num_users: int
    num_items: int
    feedback: str
    text: str
    presumed: np.ndarray | None = None
    negatives: int = 0

    def __len__(self) -> int:
        return len(self.users)

    @property
    def has_impressions(self) -> bool:
        """Whether what was shown and not taken is there, too."""
        return self.presumed is None

    @cached_property
    def starts(self) -> np.ndarray:
        """``i64[U + 1]``: those of user ``u`` stand at ``starts[u] .. starts[u + 1] - 1``."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.users, minlength=self.num_users))])

    @cached_property
    def sequences(self) -> Sequences:
        """The same as histories: items, and the strongest behaviour towards each."""
        codes = history_codes(self.behaviours)[combination(self.answers)]
        return Sequences(jnp.asarray(self.items), jnp.asarray(codes), jnp.asarray(self.starts.astype(np.int32)))

    def passed_over(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``i32[len(rows), negatives]``: items that users did not take; -1 where none was found.

        Args:
          rows: of what was taken.
          rng: of the draw.
        """
        assert self.presumed is not None
        pairs = np.unique(self.users.astype(np.int64) * self.num_items + self.items)
        drawn = draw_others(rng, np.repeat(self.users[rows], self.negatives), pairs, self.presumed)
        return drawn.reshape(len(rows), self.negatives)


def signals_of(behaviours: tuple[Behaviour, ...]) -> tuple[Signal, ...]:
    """The signals by which an environment tells of behaviours."""
    return tuple(
        CLICK if one == Behaviour.CLICK else Signal(one.name.lower(), f"1 where the slot {DONE[one]}", is_flag=True)
        for one in behaviours
    )


def combination(answers: np.ndarray) -> np.ndarray:
    """The number ``i64[...]`` of a combination of answers ``bool[..., S]``: bit ``s`` is answer ``s``."""
    return answers @ (1 << np.arange(answers.shape[-1]))


def combinations(count: int) -> np.ndarray:
    """``bool[2^S, S]``: all combinations of ``S`` answers, by number.

    >>> combinations(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return (np.arange(1 << count)[:, None] >> np.arange(count)) % 2 == 1


def history_codes(behaviours: tuple[Behaviour, ...]) -> np.ndarray:
    """``i32[2^S]``: the behaviour that a history tells of each combination, the strongest of it."""
    codes = [int(Behaviour.IMPRESSION), *map(int, behaviours)]
    answers = combinations(len(behaviours))
    return np.array([codes[0 if not row.any() else 1 + int(np.flatnonzero(row)[-1])] for row in answers], np.int32)


def read_exposures(
    dataset: Dataset,
    reading: PreferenceConfig = PreferenceConfig(),  # noqa: B008 (frozen)
    *,
    columns: Mapping[str, Behaviour] | None = None,
    session_gap: float = 1800.0,
) -> Exposures:
    """What a log tells of what users were shown and did.

    Events of one user with one item in one session are one exposure, at the time of the first; all that was done
    counts. Of ratings, those from a threshold on are likes.

    Args:
      dataset: the log. Events of users or items that it does not know are left out.
      reading: whether the log holds ratings, impressions or nothing but what was taken.
      columns: columns of ``dataset.extras`` of zeros and ones that tell of further behaviours.
      session_gap: seconds without an event after which a user's next event begins another session. Without times,
        all of a user's events are one session.

    Raises:
      ValueError: the log has nothing of the kind that ``reading`` asks for, a column is missing or has other
        numbers, or there are more than :data:`MOST_BEHAVIOURS` behaviours.
    """
    if not session_gap > 0:
        raise ValueError(f"session_gap is {session_gap}; sessions end after a time above 0 seconds.")
    evidence = read_evidence(dataset, reading)
    rows, done = _taken(dataset, evidence)
    for name, behaviour in (columns or {}).items():
        column = _flags(dataset, name)[rows]
        done[behaviour] = done[behaviour] | column if behaviour in done else column
    behaviours = tuple(sorted(done, key=lambda one: (BEHAVIOUR_WEIGHTS.get(one, 0.0), one)))
    if len(behaviours) > MOST_BEHAVIOURS or not set(behaviours) <= {*DONE, Behaviour.CLICK}:
        raise ValueError(
            f"The behaviours are {', '.join(one.name for one in behaviours)}; give at most {MOST_BEHAVIOURS} of"
            f" {', '.join(one.name for one in [Behaviour.CLICK, *DONE])}."
        )
    users, items, answers, sessions = _merged(
        dataset, rows, np.stack([done[one] for one in behaviours], 1), session_gap
    )
    return Exposures(
        users, items, answers, sessions, behaviours, dataset.num_users, dataset.num_items,
        evidence.feedback, evidence.text, evidence.exposure, evidence.negatives,
    )  # fmt: skip


def _taken(dataset: Dataset, evidence: Evidence) -> tuple[np.ndarray, dict[Behaviour, np.ndarray]]:
    """Rows of the log that are exposures, and which of them were taken how."""
    log = dataset.interactions
    known = (log.user < dataset.num_users) & (log.item < dataset.num_items)
    if evidence.feedback == "ratings":
        assert log.rating is not None
        rows, _, liked = rated_and_liked(log.rating, evidence.threshold, known)
        return rows, {Behaviour.LIKE: liked > 0}
    not_taken = {Behaviour.IMPRESSION}
    if evidence.feedback == "impressions" and Behaviour.IMPRESSION not in log.behaviour:
        not_taken = {Behaviour.VIEW}  # what was shown and not taken is logged as viewed
    elif evidence.feedback == "implicit":
        known &= log.behaviour != Behaviour.IMPRESSION
    rows = np.flatnonzero(known)
    codes = log.behaviour[rows]
    found = {Behaviour(code) for code in np.unique(codes).tolist()} - not_taken
    # A rating among what was taken says that it was taken.
    as_told = {one: Behaviour.LIKE if one == Behaviour.RATING else one for one in sorted(found)}
    done: dict[Behaviour, np.ndarray] = {}
    for one, told in as_told.items():
        done[told] = done.get(told, np.zeros(len(rows), bool)) | (codes == one)
    return rows, done


def _flags(dataset: Dataset, name: str) -> np.ndarray:
    if name not in dataset.extras:
        raise ValueError(f"columns names {name!r}; {dataset.name} has {', '.join(dataset.extras) or 'no extras'}.")
    values = np.asarray(dataset.extras[name])
    wrong = np.flatnonzero(~np.isin(values, (0, 1)))
    if len(wrong):
        raise ValueError(f"Column {name!r} has {values[wrong[0]]} in row {wrong[0]}; it must hold zeros and ones.")
    return values > 0


def _merged(
    dataset: Dataset, rows: np.ndarray, answers: np.ndarray, session_gap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Users, items, answers and sessions of exposures, user by user, oldest first."""
    log = dataset.interactions.take(rows)
    order = log.order()
    user, item, answers = log.user[order], log.item[order], answers[order]
    begins = np.ones(len(order), bool)
    begins[1:] = user[1:] != user[:-1]
    if log.time is not None:
        begins[1:] |= np.diff(log.time[order]) > session_gap
    session = np.cumsum(begins) - 1
    _, first, group = np.unique(session * dataset.num_items + item, return_index=True, return_inverse=True)
    done = np.zeros((len(first), answers.shape[1]), bool)
    np.logical_or.at(done, group, answers)
    by_time = np.argsort(first)
    first = first[by_time]
    return user[first], item[first], done[by_time], session[first].astype(np.int32)
