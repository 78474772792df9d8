"""Policies that a log of shown items can be evaluated for, as probabilities of each of its rows."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import polars as pl

from recjax.data.frames import Frame, as_lazy
from recjax.ope.logs import Shown, column, numbers
from recjax.ope.reward_model import ItemRewards


@dataclasses.dataclass(frozen=True)
class Probabilities:
    """A policy whose probability of what was shown stands in the log.

    Attributes:
      column: of probabilities.
      expected: column of what ``LogColumns.predicted`` is on average over what the policy would show; None without.
    """

    column: str
    expected: str | None = None


@dataclasses.dataclass(frozen=True)
class Uniform:
    """A policy that shows every item of the log equally often."""


@dataclasses.dataclass(frozen=True)
class ByItem:
    """A policy that shows items with fixed probabilities, whatever the context.

    Attributes:
      table: a polars, pandas or pyarrow table, or a mapping of columns: ``item`` and ``probability``, and ``position``
        where probabilities differ by slot. Items that are not in it are never shown.
    """

    table: Frame


Policy = Probabilities | Uniform | ByItem
"""What :func:`evaluate` evaluates."""


class OfRows(NamedTuple):
    """A policy on the rows of a log.

    Attributes:
      probability: ``f64[n]`` of what was shown.
      expected: ``f64[n]`` of predicted rewards over what would be shown, None where it is not known.
    """

    probability: np.ndarray
    expected: np.ndarray | None


def of_rows(policy: Policy, log: pl.DataFrame, shown: Shown | None, model: ItemRewards | None) -> OfRows:
    """A policy on the rows of a log.

    Raises:
      ValueError: it needs columns that are missing, or its table is none.
    """
    if isinstance(policy, Probabilities):
        expected = None if policy.expected is None else numbers(log, policy.expected)
        return OfRows(numbers(log, policy.column), expected)
    if shown is None:
        raise ValueError(f"{type(policy).__name__} gives probabilities of items; name the column of items of the log.")
    shape = len(shown.positions), len(shown.items)
    table = np.full(shape, 1 / shape[1]) if isinstance(policy, Uniform) else _table(policy, shown)
    expected = None if model is None else model.expected(table)
    return OfRows(table[shown.position, shown.item], expected)


def _table(policy: ByItem, shown: Shown) -> np.ndarray:
    """``f64[positions, items]``: probabilities of the items of a log in each slot."""
    frame = as_lazy(policy.table).collect()
    by_slot = "position" in frame.columns
    probability, item = numbers(frame, "probability"), column(frame, "item").cast(pl.String)
    slot = column(frame, "position").cast(pl.String) if by_slot else pl.Series([""] * len(frame))
    sums = pl.DataFrame({"slot": slot, "share": probability}).group_by("slot", maintain_order=True).sum().rows()
    if wrong := {name: round(share, 4) for name, share in sums if abs(share - 1) > 1e-3}:
        raise ValueError(f"Probabilities of a policy must sum to 1 in each position; they sum to {wrong}.")
    rows = {name: i for i, name in enumerate(shown.positions if by_slot else [""])}
    columns = {name: i for i, name in enumerate(shown.items)}
    table = np.zeros((len(rows), len(columns)))
    for name, where, share in zip(item, slot, probability, strict=True):
        if name in columns and where in rows:
            table[rows[where], columns[name]] += share
    return np.broadcast_to(table, (len(shown.positions), len(columns)))
