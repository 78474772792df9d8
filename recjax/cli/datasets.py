"""``recjax data``: which data sets there are, and what is in them or in your own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

import recjax.data.sets  # noqa: F401 (registers them)
from recjax.cli.terminal import Terminal
from recjax.data.log_schema import LogSchema, read_schema
from recjax.data.named import NamedSet, datasets, fetch
from recjax.report.terminal import rich_table

if TYPE_CHECKING:
    from recjax.data import Dataset


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
    console = Terminal()
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
            _describe(console, name, data_dir, schema, items, columns)


def _describe(
    console: Terminal, name: str, data_dir: str | None, schema: Path | None, items: Path | None, columns: LogSchema
) -> None:
    from recjax.cli import describe  # Only here, as below: the list is shown without JAX.
    from recjax.data import is_log_file, load

    if name in datasets or not is_log_file(name):
        describe.show(console, load(name, data_dir=data_dir))
    else:
        describe.show(console, _own(console, name, schema, items, columns))


def _own(console: Terminal, name: str, schema: Path | None, items: Path | None, columns: LogSchema) -> Dataset:
    from recjax.cli import own_data
    from recjax.data import read_log

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
