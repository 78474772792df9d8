"""``recjax data``: which data sets there are, and what is in them or in your own files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from recjax import report
from recjax.cli import describe, own_data
from recjax.data import Dataset, LogSchema, NamedSet, datasets, fetch, is_log_file, load, read_log, read_schema


def data(
    action: Annotated[Literal["list", "fetch", "describe"], tyro.conf.Positional] = "list",
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    data_dir: str | None = None,
    schema: Path | None = None,
    items: Path | None = None,
    columns: Annotated[LogSchema, tyro.conf.arg(name="")] = LogSchema(),  # noqa: B008 (frozen)
) -> None:
    """List the named data sets, fetch their files, or describe what is in them or in your own files.

    Args:
      action: What to do.
      names: Data sets; `fetch` and `describe` need at least one. `describe` takes your own files too.
      data_dir: Where data sets lie that you bring yourself (default: the environment variable RECJAX_DATA).
      schema: Read from this file, JSON or TOML, which columns of your own file hold what.
      items: Your own file with a row for each item of your own file.
      columns: Which columns of your own file hold what.
    """
    console = Console()
    if action == "list":
        caption = "`recjax data fetch NAME` fetches a set, or says which files of a set to bring, and where to."
        headings = ["name", "what", "how to get it", "terms"]
        console.print(report.rich_table("Data sets", headings, _listing(), caption=caption, text=True))
        return
    if not names:
        raise ValueError(f"`recjax data {action}` needs a data set: {', '.join(datasets)}.")
    for name in names:
        if action == "fetch":
            for path in fetch(name, data_dir):
                console.print(f"{name}: {path}", soft_wrap=True)
        elif name in datasets or not is_log_file(name):
            describe.show(console, load(name, data_dir=data_dir))
        else:
            describe.show(console, _own(console, name, schema, items, columns))


def _own(console: Console, name: str, schema: Path | None, items: Path | None, columns: LogSchema) -> Dataset:
    of_file, items_of_file = (LogSchema(), None) if schema is None else read_schema(schema)
    with own_data.in_one_line():
        file = read_log(name, columns.over(of_file), items_of_file if items is None else items)
    own_data.print_facts(console, file)
    return file.dataset


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
