"""Text and small tables for people to read, in which nothing is taken for an instruction.

Titles, names and paths come from outside: an escape code in one must not reach a terminal, nor a tag a notebook.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_CONTROLS = (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: repr(chr(code))[1:-1] for code in _CONTROLS}


def printable(text: object) -> str:
    r"""Text whose control characters are shown instead of obeyed; line breaks stay.

    Controls are those of ASCII and Latin-1 (escape codes begin with one) and those that turn the direction of writing.

    >>> print(printable("Alien\x1b[31m (1979)"))
    Alien\x1b[31m (1979)
    """
    return str(text).translate(_SHOWN)


def words(value: object) -> str:
    """A value in print: numbers with separators, lists and dictionaries without brackets.

    >>> words({"click": 12345, "cart": [0.25, True]})
    'click: 12,345, cart: 0.25, yes'
    """
    if isinstance(value, dict):
        return ", ".join(f"{name}: {words(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def html_table(title: str, rows: Iterable[Sequence[object]], headings: Sequence[str] = ()) -> str:
    """A title and a table, as a notebook shows an object: the first column is of names, everything is escaped.

    Args:
      title: a line above the table.
      rows: cells of each row.
      headings: of the columns, if there are any.

    >>> html_table("<b>", [["items", 3]])
    '<div><strong>&lt;b&gt;</strong><table><tbody><tr><th style="text-align:left">items</th><td>3</td></tr>...
    """

    def cell(tag: str, value: object, style: str = "") -> str:
        return f"<{tag}{style}>{html.escape(str(value))}</{tag}>"

    left = ' style="text-align:left"'
    head = "".join(cell("th", heading, "" if i else left) for i, heading in enumerate(headings))
    body = "".join(
        "<tr>" + "".join(cell("td" if i else "th", value, "" if i else left) for i, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return (
        f"<div>{cell('strong', title)}<table>"
        + (f"<thead><tr>{head}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )
