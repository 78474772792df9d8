"""``recjax recommend``: what a trained policy would show, to users of the log and to any others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.table import Table

from recjax.cache import enable_compilation_cache
from recjax.cli.terminal import Terminal

if TYPE_CHECKING:
    from recjax.serve import Recommendations

ARTIFACT = "artifact"
"""Where `recjax loop` leaves its policies, below the folder of a run."""


def recommend(
    run: Path,
    user: tuple[str, ...] = (),
    users: Path | None = None,
    history: tuple[str, ...] = (),
    histories: Path | None = None,
    policy: str | None = None,
    k: int = 10,
    format: Literal["table", "json", "csv"] = "table",
    compilation_cache: bool = True,
) -> None:
    """Recommend items to users, with scores and the items of their history that each follows from.

    Args:
      run: Directory that `recjax loop --out` has written, or an artifact.
      user: Names of users, as in the data set.
      users: File with the name of one user a line.
      history: Items that one further user had, oldest first, by name or title.
      histories: File with such a history a line, each a JSON list.
      policy: Which policy of the run; by default the last that rates items.
      k: How many items.
      format: A table to read, JSON lines, or CSV.
      compilation_cache: Keep compiled programs for the next time, in the user's cache directory.
    """
    names = (*user, *(_lines(users) if users else ()))
    given = [*([history] if history else []), *(_histories(histories) if histories else ())]
    if not names and not given:
        raise ValueError("Nobody to recommend to: give --user, --users, --history or --histories.")
    from recjax.serve import load  # Only here: the options are shown without JAX.

    if compilation_cache:
        enable_compilation_cache()
    artifact = load(run / ARTIFACT if (run / ARTIFACT).is_dir() else run, policy)
    found = artifact.recommend(names, histories=given, k=k)
    if format == "json":
        print(found.to_json(), end="")
    elif format == "csv":
        print(found.to_csv(), end="")
    else:
        _print(found, artifact.policy)


def _print(found: Recommendations, policy: str) -> None:
    console = Terminal()
    for place, user in enumerate(found.users):
        shown = "; ".join(found.history(place)) or "no items"
        console.print(f"{user} had, newest first: {shown}")
        table = Table("", "item", "score", "follows from", box=box.SIMPLE_HEAD, show_edge=False)
        console.print(f"For user {user}, by {policy}", style="bold")
        for rank, (item, score) in enumerate(zip(found.ids[place], found.scores[place], strict=True), start=1):
            if item >= 0:
                near = ", ".join(f"{title} ({cosine:.2f})" for title, cosine in found.follows_from(place, int(item)))
                table.add_row(str(rank), found.titles[item], f"{score:.3f}", near or "–")
        console.print(table)
    console.print(
        f"Scores are what {policy} ranks items by. An item follows from the items of the history that are most like"
        " it (cosine of the supervised model's item vectors).",
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _histories(path: Path) -> list[list[str]]:
    found = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            items = json.loads(line)
        except ValueError:
            items = None
        if not isinstance(items, list):
            raise ValueError(f'{path}, line {number}: {line[:80]!r} is no JSON list of items, such as ["50", "172"].')
        found.append([str(item) for item in items])
    return found
