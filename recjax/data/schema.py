"""A log of interactions as columns, and the data set around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from recjax.data.exact import INT32_MAX, real_numbers, seconds, whole_numbers
from recjax.data.ids import IdMap
from recjax.display import html_table, words
from recjax.types import Behaviour

BEHAVIOUR_WEIGHTS: Mapping[Behaviour, float] = {
    Behaviour.VIEW: 1.0,
    Behaviour.CLICK: 1.0,
    Behaviour.PLAY: 1.0,
    Behaviour.LIKE: 2.0,
    Behaviour.RATING: 2.0,
    Behaviour.CART: 3.0,
    Behaviour.PURCHASE: 5.0,
}
"""How much one event of each behaviour counts as evidence of preference. A declared default, not an estimate:
passive < deliberate < costly. Pass another table to :func:`behaviour_weights`."""


def _behaviours(name: str, values: Any) -> np.ndarray:
    known = ", ".join(f"{b.name}={b.value}" for b in Behaviour)
    return whole_numbers(name, values, np.int8, min(Behaviour), max(Behaviour), f" Known behaviours: {known}.")


def _ids(name: str, values: Any) -> np.ndarray:
    return whole_numbers(name, values, np.int32, 0, INT32_MAX)


_COLUMNS = {"user": _ids, "item": _ids, "time": seconds, "rating": real_numbers, "behaviour": _behaviours}


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events of a log, one row each, in file order.

    File order decides between events of one user that carry the same time: everything
    that orders events by time sorts stably.

    >>> log = Interactions([0, 0, 1], [5, 6, 5], time=[30, 10, 20])
    >>> len(log), log.order().tolist()
    (3, [1, 0, 2])

    Attributes:
      user: ``i32[E]`` rows of the user map.
      item: ``i32[E]`` rows of the item map; ``N`` for items that the map has not seen.
      time: ``i64[E]`` seconds since 1970-01-01 UTC, or None when only the order is known.
        ``datetime64`` of any unit is converted; parts of a second are cut off.
      rating: ``f32[E]`` the value of an event: stars for RATING, 1 or 0 for LIKE (liked,
        disliked), seconds for PLAY, NaN where a behaviour has none; or None.
      behaviour: ``i8[E]`` codes of :class:`~recjax.types.Behaviour`. Default: RATING where
        ratings are given, else CLICK.

    Raises:
      ValueError: columns differ in length, or hold something other than the above: negative ids, numbers that
        the types cannot hold or that are not whole, missing values, infinite ratings, times outside the years
        1 to 9999, unknown behaviours. The message names the row, counted from 0, and the value.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None
    rating: np.ndarray | None = None
    behaviour: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.behaviour is None:
            default = Behaviour.CLICK if self.rating is None else Behaviour.RATING
            object.__setattr__(self, "behaviour", np.full(len(self.user), default, np.int8))
        for name, column_of in _COLUMNS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, column_of(f"Interactions.{name}", value))
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS if getattr(self, name) is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of a log must have one length, got {lengths}.")

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        columns = ", ".join(name for name in _COLUMNS if getattr(self, name) is not None)
        return f"Interactions({len(self):,} events: {columns})"

    def take(self, rows: np.ndarray) -> Interactions:
        """The rows of an index or a boolean mask, in that order."""
        return Interactions(*(None if column is None else column[rows] for column in self._columns()))  # type: ignore[arg-type]

    def order(self) -> np.ndarray:
        """``i64[E]`` rows sorted by user, then time, then file order."""
        keys = (self.user,) if self.time is None else (self.time, self.user)
        return np.lexsort(keys)

    def _columns(self) -> tuple[np.ndarray | None, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


def concatenate(*logs: Interactions) -> Interactions:
    """Logs one after another; a column is kept only if every log has it.

    >>> len(concatenate(Interactions([0], [1]), Interactions([1], [1])))
    2
    """
    if not logs:
        raise ValueError("concatenate needs at least one log.")
    columns = zip(*(log._columns() for log in logs), strict=True)
    return Interactions(*(None if any(c is None for c in parts) else np.concatenate(parts) for parts in columns))  # type: ignore[arg-type]


def behaviour_weights(interactions: Interactions, weights: Mapping[Behaviour, float] = BEHAVIOUR_WEIGHTS) -> np.ndarray:
    """``f32[E]``: the weight of each event's behaviour.

    >>> behaviour_weights(Interactions([0, 0], [1, 2], behaviour=[Behaviour.VIEW, Behaviour.PURCHASE])).tolist()
    [1.0, 5.0]

    Raises:
      ValueError: the log has a behaviour that the table does not weigh.
    """
    present = [Behaviour(code) for code in np.unique(interactions.behaviour).tolist()]
    missing = [b.name for b in present if b not in weights]
    if missing:
        raise ValueError(f"The table of weights lacks {missing}; it has {[Behaviour(b).name for b in weights]}.")
    table = np.zeros(len(Behaviour), np.float32)
    for behaviour, weight in weights.items():
        table[behaviour] = weight
    return table[interactions.behaviour]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A log with the names of its users and items and what is known of them.

    Attributes:
      name: of the data set.
      interactions: the log, in file order.
      users: names of the users.
      items: names of the items.
      titles: a title of each item for people to read, or None.
      genres: names of the columns of ``multi_hot``.
      multi_hot: ``f32[N, G]`` zeros and ones, or None.
      numeric_names: names of the columns of ``numeric``.
      numeric: ``f32[N, F]`` as given (not standardised), NaN where unknown; or None.
      context_names: names of the columns of ``context``.
      context: ``f32[U, C]`` what is known of each user, ready for ``Observation.context``; or None.
      test: interactions that the owner of the data held out, or None.
      extras: further columns, each ``[E, ...]`` in the order of ``interactions``.
      item_extras: further columns of the items, each ``[N, ...]``.

    Raises:
      ValueError: the log has a user or an item that the maps do not have (``N``, an item that the map has not
        seen, is allowed), or columns have another number of rows than what they describe.
    """

    name: str
    interactions: Interactions
    users: IdMap
    items: IdMap
    titles: tuple[str, ...] | None = None
    genres: tuple[str, ...] = ()
    multi_hot: np.ndarray | None = None
    numeric_names: tuple[str, ...] = ()
    numeric: np.ndarray | None = None
    context_names: tuple[str, ...] = ()
    context: np.ndarray | None = None
    test: Interactions | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    item_extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, log in (("interactions", self.interactions), ("test", self.test)):
            if log is not None:
                _check_ids(f"{self.name}: {part}", log, self.num_users, self.num_items)
        items = {"titles": self.titles, "multi_hot": self.multi_hot, "numeric": self.numeric, **self.item_extras}
        described = [(name, values, self.num_items, "items") for name, values in items.items()]
        described += [(name, values, len(self.interactions), "events") for name, values in self.extras.items()]
        for name, values, size, what in [*described, ("context", self.context, self.num_users, "users")]:
            if values is not None and len(values) != size:
                raise ValueError(f"{self.name}: {name} has {len(values)} rows for {size} {what}.")

    @property
    def num_users(self) -> int:
        """``U``."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """``N``."""
        return len(self.items)

    def __repr__(self) -> str:
        sizes = f"{self.num_users:,} users, {self.num_items:,} items, {len(self.interactions):,} events"
        held = {"titles": self.titles, "genres": self.multi_hot, "numeric": self.numeric, "context": self.context}
        known = [name for name, value in held.items() if value is not None] + [*self.item_extras, *self.extras]
        return f"Dataset({self.name!r}: {sizes}{'; ' + ', '.join(known) if known else ''})"

    def _repr_html_(self) -> str:
        rows = [[name.replace("_", " "), value] for name, value in self.describe().items() if value not in (None, [])]
        return html_table(f"Dataset {self.name}", [[name, words(value)] for name, value in rows if name != "name"])

    def title(self, item: int) -> str:
        """What to call an item in print: its title, else its name; ``?`` for unseen items and padding."""
        if not 0 <= item < self.num_items:
            return "?"
        return self.titles[item] if self.titles is not None else self.items.names[item]

    def describe(self) -> dict[str, Any]:
        """Counts of the data set, of types that JSON knows.

        Returns:
          A dictionary with ``users``, ``items``, ``events``, ``density`` (distinct
          user-item pairs over all pairs), ``events_per_user`` (min, median, max),
          ``behaviours`` (events of each), ``ratings`` (a histogram), ``time_span`` (first
          and last day, ISO 8601), ``time_ties`` (share of events that share their second
          with another event of the same user), ``titles`` (whether there are any),
          ``item_categories`` and ``user_features`` (how many), ``item_numbers`` (names) and
          ``test_events``; None where a data set has no such thing.
        """
        log = self.interactions
        per_user = np.bincount(log.user, minlength=self.num_users)
        pairs = pl.Series(log.user.astype(np.int64) * (self.num_items + 1) + log.item).n_unique()
        codes, counts = np.unique(log.behaviour, return_counts=True)
        return {
            "name": self.name,
            "users": self.num_users,
            "items": self.num_items,
            "events": len(log),
            "density": pairs / max(self.num_users * self.num_items, 1),
            "events_per_user": [int(per_user.min()), float(np.median(per_user)), int(per_user.max())]
            if len(log)
            else None,
            "behaviours": {Behaviour(c).name.lower(): n for c, n in zip(codes.tolist(), counts.tolist(), strict=True)},
            "ratings": None if log.rating is None else _histogram(log.rating),
            "time_span": None
            if log.time is None or not len(log)
            else [iso_date(log.time.min()), iso_date(log.time.max())],
            "time_ties": None if log.time is None else _tied_share(log),
            "titles": self.titles is not None,
            "item_categories": len(self.genres),
            "item_numbers": list(self.numeric_names),
            "user_features": len(self.context_names),
            "test_events": None if self.test is None else len(self.test),
        }


def _check_ids(where: str, log: Interactions, num_users: int, num_items: int) -> None:
    for kind, ids, size, most in (
        ("user", log.user, num_users, num_users - 1),
        ("item", log.item, num_items, num_items),
    ):
        if len(ids) and ids.max() > most:
            row = int(ids.argmax())
            raise ValueError(f"{where} has the {kind} {ids[row]} in row {row}, but there are {size} names of {kind}s.")


def iso_date(seconds: int) -> str:
    """The day of a time in seconds since 1970, in UTC.

    >>> iso_date(880_000_000)
    '1997-11-20'
    """
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))


def _histogram(rating: np.ndarray, exact: int = 24) -> dict[str, int]:
    """Counts of each value, or of ten bins where there are more than ``exact`` values."""
    known = rating[~np.isnan(rating)]
    values, counts = np.unique(known, return_counts=True)
    if len(values) <= exact:
        return {f"{value:g}": n for value, n in zip(values.tolist(), counts.tolist(), strict=True)}
    counts, edges = np.histogram(known, bins=10)
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return dict(zip(labels, counts.tolist(), strict=True))


def _tied_share(log: Interactions) -> float:
    assert log.time is not None
    order = log.order()
    same = (np.diff(log.user[order]) == 0) & (np.diff(log.time[order]) == 0)
    tied = np.zeros(len(log), bool)
    tied[1:] |= same
    tied[:-1] |= same
    return float(tied.mean()) if len(log) else 0.0
