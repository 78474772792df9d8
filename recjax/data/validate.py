"""Rows of a log that cannot be used: what is wrong with them, how many there are and where they stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from recjax.data.schema import Interactions

KINDS: Mapping[str, str] = {
    "missing_user": "no user id",
    "missing_item": "no item id",
    "doubtful_user": "a user id that is a word for a missing value, such as NaN or null, or holds a line break",
    "doubtful_item": "an item id that is a word for a missing value, such as NaN or null, or holds a line break",
    "bad_time": "a time that is missing or cannot be parsed",
    "mixed_time": "a time in another unit than the first time of the file",
    "bad_rating": "a rating that is not a finite number (or is missing where the behaviour is RATING)",
    "negative_rating": "a rating below 0",
    "bad_behaviour": "a behaviour that has no meaning assigned",
    "duplicate": "the same user, item, behaviour and time (where there is one) as an earlier row",
}
"""What can be wrong with a row."""

ALLOWABLE = ("doubtful_user", "doubtful_item", "negative_rating", "duplicate")
"""Kinds whose rows can be kept as they are, for logs in which they are meant."""

MENDINGS: Mapping[str, str] = {"blanks": "blanks around an id, taken off"}
"""What is mended in a row without asking."""


@dataclass(frozen=True)
class Report:
    """What reading a log found.

    Attributes:
      source: the file.
      rows: rows of the file, blank lines not counted.
      kept: rows in the result.
      counts: rows of each kind of :data:`KINDS` that occurred. A row can be of several;
        duplicates are counted among rows that are otherwise used.
      lines: the first lines of each kind and of each mending, numbered from 1 as an editor does (header and
        blank lines included; rows for Parquet and frames).
      dropped: kinds whose rows are not in the result.
      allowed: kinds whose rows were kept because the caller said so.
      time_format: how times were read, None without a time column.
      mended: rows of each of :data:`MENDINGS` that occurred; they are used.
      unknown_behaviours: the most frequent words that no behaviour has, with their rows.
    """

    source: str
    rows: int
    kept: int
    counts: Mapping[str, int]
    lines: Mapping[str, tuple[int, ...]]
    dropped: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    time_format: str | None = None
    mended: Mapping[str, int] = field(default_factory=dict)
    unknown_behaviours: Mapping[str, int] = field(default_factory=dict)

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Kinds that occurred and were neither dropped nor allowed."""
        return tuple(kind for kind in self.counts if kind not in self.dropped | self.allowed)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows:,} rows, {self.kept:,} kept"]
        for kind, count in self.counts.items():
            fate = "dropped" if kind in self.dropped else "kept" if kind in self.allowed else "not settled"
            words = self._words() if kind == "bad_behaviour" else ""
            lines.append(f"  {kind}: {count:,} ({KINDS[kind]}{words}; {fate}); {self._where(kind, count)}")
        lines += [f"  {kind}: {n:,} ({MENDINGS[kind]}); {self._where(kind, n)}" for kind, n in self.mended.items()]
        return "\n".join(lines)

    def _where(self, kind: str, count: int) -> str:
        more = ", ..." if count > len(self.lines[kind]) else ""
        return f"line {', '.join(map(str, self.lines[kind]))}{more}"

    def _words(self) -> str:
        return ": " + ", ".join(f"{_short(word)} {count:,}" for word, count in self.unknown_behaviours.items())


def _short(word: str) -> str:
    return repr(word) if len(word) <= 40 else f"{word[:40]!r}..."


class BadRowsError(ValueError):
    """A log has rows that cannot be used; ``report`` says which."""

    def __init__(self, report: Report) -> None:
        self.report = report
        fix = f"Drop them with on_bad='drop' or on_bad={{{', '.join(map(repr, report.unsettled))}}}"
        allowable = [kind for kind in report.unsettled if kind in ALLOWABLE]
        if allowable:
            fix += f", or keep them with allow={{{', '.join(map(repr, allowable))}}}"
        if "bad_behaviour" in report.unsettled:
            word = next((word for word in report.unknown_behaviours if word), "word")
            meaning = f"{_short(word)}: data.Behaviour.CART"
            fix += f", or say what the words mean with behaviours={{**data.BEHAVIOURS, {meaning}, ...}}"
        if "mixed_time" in report.unsettled:
            fix += f", or say the unit of all times (the first was taken for {report.time_format!r}): time_format=..."
        super().__init__(f"{report}\n{fix}.")


def kinds_to_drop(on_bad: str | Collection[str], allow: Collection[str]) -> frozenset[str]:
    """The kinds that ``on_bad`` says to drop.

    Raises:
      ValueError: ``on_bad`` or ``allow`` names no kind, or they contradict each other.
    """
    named = {"raise": (), "drop": tuple(KINDS)}.get(on_bad) if isinstance(on_bad, str) else tuple(on_bad)
    if named is None or not set(named) <= set(KINDS):
        raise ValueError(f"on_bad must be 'raise', 'drop' or a set of {tuple(KINDS)}; got {on_bad!r}.")
    if isinstance(allow, str) or not set(allow) <= set(ALLOWABLE):
        raise ValueError(f"allow must be a set of {ALLOWABLE}, the kinds that can be kept; got {allow!r}.")
    if not isinstance(on_bad, str) and set(named) & set(allow):
        raise ValueError(f"{sorted(set(named) & set(allow))} cannot be dropped and allowed at once.")
    return frozenset(named) - frozenset(allow)


def repeats(log: Interactions, microseconds: np.ndarray | None) -> np.ndarray:
    """``bool[E]``: events that repeat the user, item, behaviour and time of an earlier row.

    >>> repeats(Interactions([0, 0, 0], [7, 8, 7]), None).tolist()
    [False, False, True]
    """
    repeated = np.zeros(len(log), bool)
    if len(log):
        key = log.user.astype(np.int64)
        for column in (log.item, log.behaviour):
            key = key * (int(column.max()) + 1) + column
        keys = [key] if microseconds is None else [microseconds, key]
        order = np.lexsort(keys)
        same = np.logical_and.reduce([np.diff(column[order]) == 0 for column in keys])
        repeated[order[1:]] = same
    return repeated
