"""Encoders of categories, numbers and text: fit once, then the same columns for whatever comes later."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recjax.types import PAD_ID


def _index(names: Sequence[str]) -> dict[str, int]:
    return {name: column for column, name in enumerate(names)}


@dataclass(frozen=True)
class OneHot:
    """One column for each category; a category that was not fitted, or None, is a row of zeros.

    >>> gender = OneHot.fit(["F", "M", "F"])
    >>> gender.categories, gender.encode(["M", "?", None]).tolist()
    (('F', 'M'), [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])

    Attributes:
      categories: names of the columns.
    """

    categories: tuple[str, ...]

    @classmethod
    def fit(cls, values: Iterable[str | None]) -> OneHot:
        """The distinct values, sorted; None is no category."""
        return cls(tuple(sorted({value for value in values if value is not None})))

    def encode(self, values: Iterable[str | None]) -> np.ndarray:
        """``f32[len(values), len(categories)]``."""
        return MultiHot(self.categories).encode([() if value is None else (value,) for value in values])


@dataclass(frozen=True)
class MultiHot:
    """One column for each category, any number of which a row may have.

    >>> genres = MultiHot.fit([["War", "Drama"], ["Drama"], []])
    >>> genres.categories, genres.encode([["Drama", "War"], []]).tolist()
    (('Drama', 'War'), [[1.0, 1.0], [0.0, 0.0]])

    Attributes:
      categories: names of the columns.
    """

    categories: tuple[str, ...]

    @classmethod
    def fit(cls, lists: Iterable[Iterable[str]]) -> MultiHot:
        """The distinct categories of all lists, sorted."""
        return cls(tuple(sorted({category for categories in lists for category in categories})))

    def encode(self, lists: Sequence[Iterable[str]]) -> np.ndarray:
        """``f32[len(lists), len(categories)]``; categories that were not fitted are left out."""
        column_of = _index(self.categories)
        hot = np.zeros((len(lists), len(self.categories)), np.float32)
        for row, categories in enumerate(lists):
            hot[row, [column_of[c] for c in categories if c in column_of]] = 1.0
        return hot


@dataclass(frozen=True)
class Standardiser:
    """Numbers with mean 0 and standard deviation 1; missing ones become 0, the mean.

    Numbers that are not finite count as missing: one infinite number would move the mean of
    all others to infinity.

    >>> import numpy as np
    >>> year = Standardiser.fit(np.array([[1990.0], [2000.0], [np.nan]]))
    >>> year.encode(np.array([[2000.0], [np.nan]])).tolist()
    [[1.0], [0.0]]
    >>> year.encode(np.array([[2000.0], [np.nan]]), indicate_missing=True).tolist()
    [[1.0, 0.0], [0.0, 1.0]]

    Attributes:
      mean: of each column, missing values left out; 0 where all are missing.
      std: of each column (population); 1 where it does not vary.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, values: np.ndarray) -> Standardiser:
        """From ``[N, F]`` numbers, NaN (or infinite) where missing."""
        known = np.isfinite(values)
        values = np.where(known, values, 0.0).astype(np.float64)
        n = np.maximum(known.sum(axis=0), 1)
        mean = values.sum(axis=0) / n
        std = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0, dtype=np.float64) / n)
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0.0, std, 1.0).tolist()))

    def encode(self, values: np.ndarray, indicate_missing: bool = False) -> np.ndarray:
        """Standardises ``[N, F]`` numbers.

        Args:
          values: numbers, NaN (or infinite) where missing.
          indicate_missing: append ``F`` columns that are 1 where a value is missing.

        Returns:
          ``f32[N, F]``, or ``f32[N, 2F]``.
        """
        missing = ~np.isfinite(values)
        scaled = (np.where(missing, 0.0, values) - np.array(self.mean)) / np.array(self.std)
        scaled = np.where(missing, 0.0, scaled)
        return np.concatenate([scaled, missing] if indicate_missing else [scaled], axis=1, dtype=np.float32)


def words(text: str) -> list[str]:
    """The words of a text: runs of letters, marks and digits of any script, case folded.

    Apostrophes are left out, so a possessive stays one word; scripts without spaces give
    one word for each run.

    >>> words("L'été de Kikujirō (1999): Children's café")
    ['lété', 'de', 'kikujirō', '1999', 'childrens', 'café']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded if c not in "'’")
    return "".join(spaced).split()


@dataclass(frozen=True)
class Vocabulary:
    """The words that occur often enough, most frequent first.

    >>> vocabulary = Vocabulary.fit(["Toy Story", "Toy Story 2"], min_count=2)
    >>> vocabulary.words, vocabulary.encode(["Story 2", "Toy Toy Story", ""]).tolist()
    (('story', 'toy'), [[0, -1, -1], [1, 1, 0], [-1, -1, -1]])

    Attributes:
      words: the word of each id.
    """

    words: tuple[str, ...]

    @classmethod
    def fit(cls, texts: Iterable[str], min_count: int = 1) -> Vocabulary:
        """Words that occur at least ``min_count`` times; equally frequent ones in alphabetical order."""
        counts = Counter(word for text in texts for word in words(text))
        frequent = [(-n, word) for word, n in counts.items() if n >= min_count]
        return cls(tuple(word for _, word in sorted(frequent)))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return _index(self.words)

    def encode(self, texts: Sequence[str], length: int | None = None) -> np.ndarray:
        """Word ids in the order of the text.

        Args:
          texts: what to encode; words outside the vocabulary are left out.
          length: columns of the result; later words are cut. Default: the longest text's.

        Returns:
          ``i32[len(texts), length]``, padded on the right with ``PAD_ID``.
        """
        rows = [[self._id_of[word] for word in words(text) if word in self._id_of] for text in texts]
        width = max([1, *map(len, rows)]) if length is None else length
        ids = np.full((len(rows), width), PAD_ID, np.int32)
        for row, found in zip(ids, rows, strict=True):
            row[: len(found)] = found[:width]
        return ids
