"""Times of a log as microseconds since 1970-01-01 UTC, as polars expressions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from operator import or_

import polars as pl

from recjax.data.exact import EARLIEST, LATEST

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds in one unit of a numeric time."""

_PLAUSIBLE = (631_152_000, 4_102_444_800)  # 1990-01-01 and 2100-01-01, in seconds
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
# The fast forms come first; the others are tried on what is left, with a T before the time, a full stop before
# fractions, and capital letters.
_ISO_FAST = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")
_ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M%#z")


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, as times are written.

    >>> is_number("881250949"), is_number("8.8e8"), is_number("1997-12-04"), is_number("")
    (True, True, False, False)
    """
    return bool(pl.select(pl.lit(text).str.contains(_NUMBER)).item())


def detect(first: str) -> str:
    """The format of a time that looks like ``first``: a key of :data:`UNITS`, or ``"iso"``.

    A number is taken in the unit that puts it between the years 1990 and 2100.

    >>> detect("881250949"), detect("881250949000"), detect("1997-12-04T15:55:49Z")
    ('s', 'ms', 'iso')

    Raises:
      ValueError: nothing fits.
    """
    if is_number(first):
        for unit, nanoseconds in UNITS.items():
            if _PLAUSIBLE[0] <= float(first) * nanoseconds / UNITS["s"] < _PLAUSIBLE[1]:
                return unit
    elif pl.select(parse(pl.lit(first), "iso")).item() is not None:
        return "iso"
    raise ValueError(
        f"Cannot tell what the time {first[:80]!r} means: it is neither ISO 8601 nor unix seconds, milliseconds,"
        " microseconds or nanoseconds of the years 1990 to 2100. Say it with time_format='s', 'ms', 'us', 'ns', 'iso'"
        " or a pattern such as '%m/%d/%Y'."
    )


def parse(text: pl.Expr, time_format: str) -> pl.Expr:
    """``i64`` microseconds since 1970 UTC; null where ``text`` is not a time of the years 1 to 9999.

    Times without a zone are read as UTC; what is finer than a microsecond is cut off.

    Args:
      text: an expression of strings.
      time_format: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, ``"iso"`` (ISO 8601 date or date and
        time, ``T`` or a space between them, with or without seconds, fractions and a zone), or a
        ``strftime``-like pattern, recognised by its ``%``.

    Raises:
      ValueError: the format is none of these.
    """
    text = text.str.strip_chars()
    if time_format in UNITS:
        of_numbers = partial(_of_numbers, nanoseconds=UNITS[time_format])
        return _in_range(text.map_batches(of_numbers, return_dtype=pl.Int64, is_elementwise=True))
    if time_format == "iso":
        return _in_range(text.map_batches(_of_iso, return_dtype=pl.Int64, is_elementwise=True))
    if "%" in time_format:
        return _in_range(text.str.to_datetime(time_format, time_unit="us", strict=False).dt.epoch("us"))
    raise ValueError(
        f"Unknown time_format {time_format!r}; use 's', 'ms', 'us', 'ns', 'iso', 'auto' or a pattern such as"
        " '%m/%d/%Y'."
    )


def in_another_unit(text: pl.Expr, microseconds: pl.Expr, unit: str) -> pl.Expr:
    """Whether a number is a time of the years 1990 to 2100 in another unit than ``unit``, in which it is none.

    The numbers of those years in one unit are none of those years in any other.

    Args:
      text: an expression of strings.
      microseconds: what :func:`parse` makes of them.
      unit: a key of :data:`UNITS`.
    """
    bounds = [[end * UNITS["s"] / UNITS[other] for end in _PLAUSIBLE] for other in UNITS if other != unit]

    def mixed(columns: Sequence[pl.Series]) -> pl.Series:
        text, found = columns
        low, high = (end * 1_000_000 for end in _PLAUSIBLE)
        if found.is_between(low, high, closed="left").fill_null(False).all():
            return pl.repeat(False, len(text), eager=True)
        number = text.str.strip_chars().cast(pl.Float64, strict=False)
        others = (number.is_between(start, end, closed="left") for start, end in bounds)
        return reduce(or_, others).fill_null(False)

    return pl.map_batches([text, microseconds], mixed, return_dtype=pl.Boolean, is_elementwise=True)


def _in_range(microseconds: pl.Expr) -> pl.Expr:
    return pl.when(microseconds.is_between(EARLIEST * 1_000_000, LATEST * 1_000_000 + 999_999)).then(microseconds)


def _of_numbers(text: pl.Series, nanoseconds: int) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False)
    # A product that overflows would be a time, and a wrong one.
    largest = (LATEST * UNITS["s"] // nanoseconds) if nanoseconds > 1 else 2**63 - 1
    if not (fits := whole.is_between(-largest, largest)).all():
        whole = whole.set(~fits, None)
    found = whole * (nanoseconds // 1_000) if nanoseconds >= 1_000 else whole // 1_000
    if found.null_count() > text.null_count():
        fraction = (text.cast(pl.Float64, strict=False) * (nanoseconds / 1_000)).round().cast(pl.Int64, strict=False)
        found = found.zip_with(found.is_not_null(), fraction)
    return found


def _of_iso(text: pl.Series) -> pl.Series:
    found = pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    found = _fill(found, text, _ISO_FAST)
    if found.null_count() > text.null_count():
        even = text.str.to_uppercase().str.replace(" ", "T", literal=True).str.replace(",", ".", literal=True)
        found = _fill(found, even, _ISO)
    return found


def _fill(found: pl.Series, text: pl.Series, patterns: tuple[str, ...]) -> pl.Series:
    """Parses what is not yet found by one pattern after another; that which fits the first of them goes first."""
    left = (found.is_null() & text.is_not_null()).arg_true()
    first = text.gather(left[:1])
    for pattern in sorted(patterns, key=lambda each: _microseconds(first, each).null_count()):
        found = found.scatter(left, _microseconds(text.gather(left), pattern))
        left = left.filter(found.gather(left).is_null())
        if not len(left):
            break
    return found


def _microseconds(text: pl.Series, pattern: str) -> pl.Series:
    return text.str.to_datetime(pattern, time_unit="us", strict=False).dt.epoch("us")
