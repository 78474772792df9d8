"""Tables on a terminal or in a pipe: nothing is cut off, and names are shown as they are."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from recjax.display import printable

NARROWEST = 16
"""Characters that a column of sentences gets at least."""


def rich_table(
    title: str, headings: list[str], rows: list[list[str]], caption: str | None = None, *, text: bool = False
) -> TerminalTable:
    """A table for the terminal: numbers to the right of a first column of names, or text throughout."""
    return TerminalTable(title, headings, rows, caption, text)


class TerminalTable:
    """A table for a console of any width: columns that do not fit go below, beside the first column again."""

    def __init__(self, title: str, headings: list[str], rows: list[list[str]], caption: str | None, text: bool) -> None:
        self._title, self._caption, self._text = printable(title), printable(caption or ""), text
        self._gap = 2 if text else 1
        self._rows = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
        # A word a line, so that numbers decide how wide a column is.
        self._headings = [
            printable(heading).replace(" ", "\n") if i and not text else printable(heading)
            for i, heading in enumerate(headings)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Table]:
        """What rich calls to draw the table."""
        if self._title:
            yield Text(f"\n{self._title}", style="bold")
        for columns in self._parts(options.max_width):
            yield self._part(columns, options.max_width)
        if self._caption:
            yield Text(self._caption, style="dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """What rich calls to place the table: it takes any width."""
        return Measurement(NARROWEST, options.max_width)

    def _parts(self, width: int) -> Iterator[list[int]]:
        """The columns of each part: as many as fit beside the first."""
        widths = [self._width(column) for column in range(len(self._headings))]
        if self._text:
            widths[1:] = [min(each, NARROWEST) for each in widths[1:]]
        part: list[int] = []
        for column in range(1, len(widths)):
            if part and widths[0] + sum(self._gap + widths[i] for i in [*part, column]) > width:
                yield [0, *part]
                part = []
            part.append(column)
        yield [0, *part]

    def _width(self, column: int) -> int:
        """Characters of the longest line of a column."""
        cells = (self._headings[column], *(row[column] for row in self._rows))
        return max(cell_len(line) for cell in cells for line in cell.split("\n"))

    def _part(self, columns: list[int], width: int) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD, padding=(0, self._gap - 1, 0, 0), show_edge=False, show_header=any(self._headings)
        )
        for column in columns:
            table.add_column(
                Text(self._headings[column]),
                justify="left" if self._text or column == 0 else "right",
                vertical="top" if self._text else "bottom",
                overflow="fold",
                # Sentences give way to names, unless these are long.
                no_wrap=column == 0 and self._width(0) <= width - NARROWEST - self._gap,
            )
        for row in self._rows:
            table.add_row(*(Text(row[column]) for column in columns))
        return table
