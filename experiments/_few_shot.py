"""The examples of few-shot preference, what is shown of them to models, and how answers are measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.stats import rankdata

from recjax import data, language
from recjax.data import Dataset, Interactions
from recjax.eval import Interval

HISTORY = 10
"""Rated items that are known of a user."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """What users rated, and whether they liked the next item.

    Attributes:
      history: ``i32[n, 10]`` items, the oldest first.
      rated_high: ``bool[n, 10]`` which of them were liked.
      candidate: ``i32[n]`` the next item.
      liked: ``bool[n]`` whether it was liked.
    """

    history: np.ndarray
    rated_high: np.ndarray
    candidate: np.ndarray
    liked: np.ndarray

    def __len__(self) -> int:
        return len(self.candidate)

    def take(self, rows: np.ndarray) -> Examples:
        return Examples(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def examples(log: Interactions) -> Examples:
    """Every rating with ten before it by the same user, in the order of time; above 3 is liked."""
    order = log.order()
    user, item, high = log.user[order], log.item[order], log.rating[order] > 3
    last = np.flatnonzero(user[HISTORY:] == user[:-HISTORY]) + HISTORY
    last = last[np.argsort(log.time[order][last], kind="stable")]
    before = last[:, None] - np.arange(HISTORY, 0, -1)
    return Examples(item[before].astype(np.int32), high[before], item[last].astype(np.int32), high[last])


@dataclasses.dataclass(frozen=True)
class Problem:
    """Examples in the order of time, 8 : 1 : 1; of the last two parts a random sample.

    Attributes:
      train: of which shots are drawn.
      validation: by which the best epoch is chosen.
      test: what is measured.
      titles: of the items.
    """

    train: Examples
    validation: Examples
    test: Examples
    titles: tuple[str, ...]

    def shots(self, count: int, seed: int) -> Examples:
        """Training examples at random; more of them contain those of fewer."""
        return self.train.take(np.random.default_rng(seed).permutation(len(self.train))[:count])

    def prompts(self, of: Examples) -> list[str]:
        return [
            language.preference_prompt(
                [self.titles[item] for item in history[high]], [self.titles[item] for item in history[~high]],
                self.titles[candidate],
            )
            for history, high, candidate in zip(of.history, of.rated_high, of.candidate, strict=True)
        ]  # fmt: skip


def problem(dataset: Dataset, validation: int, test: int) -> Problem:
    made = examples(dataset.interactions)
    cuts = [len(made) * 8 // 10, len(made) * 9 // 10]
    train, held_out, last = (made.take(rows) for rows in np.split(np.arange(len(made)), cuts))
    assert dataset.titles is not None

    def some(of: Examples, count: int) -> Examples:
        return of.take(np.random.default_rng(0).permutation(len(of))[:count])

    return Problem(train, some(held_out, validation), some(last, test), tuple(map(spoken, dataset.titles)))


def spoken(title: str) -> str:
    """A title without remarks, its article in front: what is short is read fast.

    >>> spoken("Postman, The (Postino, Il)")
    'The Postman'
    """
    title = re.sub(r"\s*\(.*?\)", "", title)
    return re.sub(r"^(.*), (The|A|An)$", r"\2 \1", title)


def generated() -> Dataset:
    """Users who like every second item."""
    rng = np.random.default_rng(0)
    user, step = np.divmod(np.arange(40 * 14), 14)
    item = np.concatenate([rng.permutation(20)[:14] for _ in range(40)])
    frame = pl.DataFrame({"user": user, "item": item, "rating": np.where(item % 2, 5.0, 2.0), "timestamp": step})
    dataset, _ = data.from_frame(
        frame, data.Columns(rating="rating", time="timestamp"), time_format="s", name="generated"
    )
    return dataclasses.replace(dataset, titles=tuple(f"film {name}" for name in dataset.items.names))


def auc(liked: np.ndarray, score: np.ndarray) -> float:
    """How often what was liked has the higher score than what was not, ties by half; NaN where one is missing."""
    high, low = liked.sum(), (~liked).sum()
    if not (high and low):
        return float("nan")
    return float((rankdata(score)[liked].sum() - high * (high + 1) / 2) / (high * low))


def interval(liked: np.ndarray, scores: Sequence[np.ndarray], resamples: int = 1000) -> Interval:
    """The mean AUC of several trainings, and its bootstrap interval over test examples."""
    rng = np.random.default_rng(0)

    def mean(rows: np.ndarray) -> float:
        return float(np.mean([auc(liked[rows], score[rows]) for score in scores]))

    found = [mean(rng.integers(len(liked), size=len(liked))) for _ in range(resamples)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(mean(np.arange(len(liked))), float(low), float(high), 0.95, len(liked))
