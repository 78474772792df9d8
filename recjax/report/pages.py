"""Self-contained pages: one file with its styles, drawings and a small script, in which all text is escaped."""

from __future__ import annotations

from typing import Any

import jinja2

from recjax.display import printable

LIGHT = ("#0066b3", "#c44d00", "#008060", "#a8448a", "#8a6d00", "#2b9cc9", "#222222", "#7a7a1f", "#882255", "#2f8f82")
DARK = ("#5aa9ff", "#ff8f52", "#3fd0a0", "#e695cf", "#e8bd3f", "#8fdcff", "#f0f0f0", "#cfcf66", "#f07fae", "#7fded0")
"""Colours of the series on light and on dark pages: told apart with colour-vision deficiencies, 3:1 from the ground."""

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("recjax.report", "."),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    finalize=lambda value: printable(value) if type(value) is str else value,
)
_environment.globals.update(light=LIGHT, dark=DARK)


def page(template: str, context: dict[str, Any]) -> str:
    """The page that a template makes of what it is given; it refers to no other file.

    Args:
      template: ``"study"`` or ``"comparison"``.
      context: names of the template to plain data and drawings; ``title``, ``subtitle`` and ``series``, the names of
        the policies in the order of their colours, always.
    """
    return _environment.get_template(f"{template}.html.jinja").render(context)
