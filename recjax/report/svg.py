"""Matplotlib figures as parts of a page: inline SVG with the page's colours, titles, and values to point at.

A figure is drawn in stand-in colours, which become CSS variables, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recjax.display import printable

COLOURS = 10
"""Colours of the page, ``--series-0`` and on; more series begin again."""

INK, MUTED = "#00fd00", "#00fd01"
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "recjax", "font.family": "sans-serif", "font.size": 9, "figure.dpi": 72,
    "text.color": INK, "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "grid.color": MUTED,
    "grid.linewidth": 0.5, "grid.alpha": 0.35, "axes.formatter.useoffset": False,
    "text.parse_math": False, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


class Spot(NamedTuple):
    """A place of a figure that says something when it is pointed at.

    Attributes:
      left: of a rectangle, in the coordinates of the axes' data.
      right: likewise.
      bottom: likewise.
      top: likewise.
      text: what is said; may have several lines.
      series: number of the series that it belongs to, or None.
    """

    left: float
    right: float
    bottom: float
    top: float
    text: str
    series: int | None = None


def colour(series: int) -> str:
    """The stand-in for the colour of a series."""
    return f"#00fe{series % COLOURS:02x}"


def series_id(series: int) -> str:
    """The ``gid`` of artists that belong to a series; a reader may hide them."""
    return f"series-{series}"


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in inches, in the style of the page."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's fonts draw the text; those that measure it here need not know every script.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height))


def inline(figure: Figure, axes: Axes, title: str, description: str, spots: Sequence[Spot] = ()) -> str:
    """The figure as an ``<svg>`` element, with every text escaped; to be called within :func:`drawing`.

    Args:
      figure: what was drawn.
      axes: whose data the spots are given in.
      title: what the figure is.
      description: what it shows, for who cannot see it.
      spots: places with values.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    drawn = drawn[drawn.index("<svg") :]
    drawn = drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")]
    prefix = "f" + hashlib.sha256(f"{title}{description}{drawn}".encode()).hexdigest()[:8]
    # Only tags are rewritten: what stands between them may be the name of a policy.
    drawn = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], prefix), drawn)
    width, height = figure.get_size_inches() * 72
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{prefix}-title {prefix}-desc"'
        ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    )
    return printable("".join([head, drawn, *(_spot(axes, height, spot) for spot in spots), "</svg>"]))


def _tag(tag: str, prefix: str) -> str:
    """A tag with the page's colours and fonts, and ids that are those of no other figure."""
    tag = re.sub(r'^<g id="series-(\d+)">', r'<g data-series="\1">', tag)
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag)
    tag = re.sub(r"#00fe([0-9a-f]{2})", lambda found: f"var(--series-{int(found[1], 16)})", tag)
    tag = tag.replace(INK, "var(--ink)").replace(MUTED, "var(--muted)")
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)


def _spot(axes: Axes, height: float, spot: Spot) -> str:
    """A transparent rectangle whose title a browser shows without a script, too."""
    (left, bottom), (right, top) = axes.transData.transform([(spot.left, spot.bottom), (spot.right, spot.top)])
    series = "" if spot.series is None else f' data-series="{spot.series}"'
    return (
        f'<rect class="spot"{series} x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}"'
        f' height="{top - bottom:.1f}"><title>{escape(spot.text)}</title></rect>'
    )
