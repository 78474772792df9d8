"""Tables on a terminal."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.table import Table


def rich_table(
    title: str, headings: list[str], rows: list[list[str]], caption: str | None = None, *, text: bool = False
) -> Table:
    """A table for the terminal: numbers to the right of a first column of names, or text throughout."""
    table = Table(
        title=title, caption=caption, title_justify="left", caption_justify="left",
        show_header=any(headings), box=box.SIMPLE_HEAD, padding=(0, 1 if text else 0), show_edge=False,
    )  # fmt: skip
    for i, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if text or i == 0 else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*row)
    return table
