"""Times of a log as microseconds since 1970-01-01 UTC, as polars expressions."""

from __future__ import annotations

import polars as pl

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds in one unit of a numeric time."""

_PLAUSIBLE = (631_152_000, 4_102_444_800)  # 1990-01-01 and 2100-01-01, in seconds
_NUMBER = r"^\s*[+-]?\d+(\.\d+)?\s*$"
_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def detect(first: str) -> str:
    """The format of a time that looks like ``first``: a key of :data:`UNITS`, or ``"iso"``.

    A number is taken in the unit that puts it between the years 1990 and 2100.

    >>> detect("881250949"), detect("881250949000"), detect("1997-12-04T15:55:49Z")
    ('s', 'ms', 'iso')

    Raises:
      ValueError: nothing fits.
    """
    if pl.select(pl.lit(first).str.contains(_NUMBER)).item():
        for unit, scale in UNITS.items():
            if _PLAUSIBLE[0] <= float(first) * scale / 1_000_000 < _PLAUSIBLE[1]:
                return unit
    elif pl.select(parse(pl.lit(first), "iso")).item() is not None:
        return "iso"
    raise ValueError(
        f"Cannot tell what the time {first!r} means: it is neither ISO 8601 nor unix seconds, milliseconds or"
        " microseconds of the years 1990 to 2100. Say it with time_format='s', 'ms', 'us', 'iso' or a pattern"
        " such as '%m/%d/%Y'."
    )


def parse(text: pl.Expr, time_format: str) -> pl.Expr:
    """``i64`` microseconds since 1970 UTC; null where ``text`` is not a time.

    Times without a zone are read as UTC.

    Args:
      text: an expression of strings.
      time_format: ``"s"``, ``"ms"``, ``"us"``, ``"iso"`` (ISO 8601 date or date and
        time, ``T`` or a space between them, with or without a zone), or a
        ``strftime``-like pattern, recognised by its ``%``.

    Raises:
      ValueError: the format is none of these.
    """
    text = text.str.strip_chars()
    if time_format in UNITS:
        scale = UNITS[time_format]
        whole = text.cast(pl.Int64, strict=False) * scale
        fraction = (text.cast(pl.Float64, strict=False) * scale).round()
        return pl.coalesce(whole, pl.when(fraction.is_finite()).then(fraction).cast(pl.Int64, strict=False))
    if time_format == "iso":
        naive = text.str.replace("T", " ", literal=True)
        zoned = text.str.to_datetime("%+", time_unit="us", strict=False).dt.epoch("us")
        plain = [naive.str.to_datetime(pattern, time_unit="us", strict=False).dt.epoch("us") for pattern in _ISO]
        return pl.coalesce(*plain, zoned)
    if "%" in time_format:
        return text.str.to_datetime(time_format, time_unit="us", strict=False).dt.epoch("us")
    raise ValueError(
        f"Unknown time_format {time_format!r}; use 's', 'ms', 'us', 'iso', 'auto' or a pattern such as '%m/%d/%Y'."
    )
