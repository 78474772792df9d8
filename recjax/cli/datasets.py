"""``recjax data``: which data sets there are, and what is in them."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from rich.console import Console

import recjax.data.sets  # noqa: F401 (registers them)
from recjax.data.named import NamedSet, datasets, fetch, load
from recjax.report.terminal import rich_table


def data(
    action: Annotated[Literal["list", "fetch", "describe"], tyro.conf.Positional] = "list",
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    data_dir: str | None = None,
) -> None:
    """List the named data sets, fetch their files, or describe what is in them.

    Args:
      action: What to do.
      names: Data sets; `fetch` and `describe` need at least one.
      data_dir: Where data sets lie that you bring yourself (default: the environment variable RECJAX_DATA).
    """
    console = Console()
    if action == "list":
        caption = "`recjax data fetch NAME` fetches a set, or says which files of a set to bring, and where to."
        headings = ["name", "what", "how to get it", "terms"]
        console.print(rich_table("Data sets", headings, _listing(), caption=caption, text=True))
        return
    if not names:
        raise ValueError(f"`recjax data {action}` needs a data set: {', '.join(datasets)}.")
    for name in names:
        if action == "fetch":
            for path in fetch(name, data_dir):
                console.print(f"{name}: {path}", soft_wrap=True)
        else:
            facts = load(name, data_dir=data_dir).describe()
            rows = [[key.replace("_", " "), _text(value)] for key, value in facts.items() if value not in (None, [])]
            console.print(rich_table(name, ["", ""], rows, text=True))


def _listing() -> list[list[str]]:
    rows = []
    for name in datasets:
        known = datasets[name]
        if isinstance(known, NamedSet):
            how = "fetched" if known.fetchable else f"bring it ({len(known.files)} files)"
            rows.append([name, known.summary, how, known.terms])
        else:
            rows.append([name, "registered as a function", "–", "–"])
    return rows


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {number:,}" for key, number in value.items())
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
