"""Where commands print."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from recjax.display import printable


class Terminal(Console):
    """A console that shows what is printed: neither markup nor escape codes in a title or a name mean anything."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text with its control characters shown."""
        return super().render_str(printable(text), **options)
