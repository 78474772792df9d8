"""What is recommended to many users, as arrays and as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from recjax.display import html_table

COLUMNS = ("user", "rank", "item", "title", "score")

SHOWN_ROWS = 50
"""Rows of a table in a notebook."""


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The best items of users, best first.

    Attributes:
      users: a name each.
      ids: ``i32[U, k]`` rows of items, ``PAD_ID`` where fewer than ``k`` are left.
      scores: ``f32[U, k]`` of the policy; their meaning depends on it.
      names: of all items, as in the log.
      titles: of all items.
      histories: for each user the rows of the items that the policy sees, oldest first.
      evidence: ``f32[N, D]`` unit vectors by which items of a history are near a recommended one, or None
        where the policy does not read histories.
    """

    users: tuple[str, ...]
    ids: np.ndarray
    scores: np.ndarray
    names: tuple[str, ...]
    titles: tuple[str, ...]
    histories: tuple[np.ndarray, ...]
    evidence: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        return f"Recommendations({len(self):,} users, {self.ids.shape[1]} items each)"

    def _repr_html_(self) -> str:
        rows = [
            [row["user"], row["rank"], row["title"], f"{row['score']:.4g}"] for row in islice(self.rows(), SHOWN_ROWS)
        ]
        return html_table(repr(self), rows, ["user", "rank", "item", "score"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary a recommended item: user, rank, item, title, score."""
        for user, ids, scores in zip(self.users, self.ids, self.scores, strict=True):
            for rank, (item, score) in enumerate(zip(ids, scores, strict=True), start=1):
                if item >= 0:
                    yield dict(
                        zip(COLUMNS, (user, rank, self.names[item], self.titles[item], float(score)), strict=True)
                    )

    def history(self, user: int) -> list[str]:
        """The titles of what the policy sees of a user (by place), newest first."""
        return [self.titles[item] for item in reversed(self.histories[user])]

    def follows_from(self, user: int, item: int, count: int = 3) -> list[tuple[str, float]]:
        """The items of a user's history (by place) that are most like an item (by row).

        Returns:
          Titles and cosines, most similar first, each item once; nothing where the policy does not read histories.
        """
        past = list(dict.fromkeys(self.histories[user].tolist()))
        if self.evidence is None or not past:
            return []
        cosine = self.evidence[past] @ self.evidence[item]
        return [(self.titles[past[i]], float(cosine[i])) for i in np.argsort(-cosine, kind="stable")[:count]]

    def to_json(self) -> str:
        """The rows as JSON lines."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows())

    def to_csv(self) -> str:
        """The rows as CSV with a header."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return buffer.getvalue()
