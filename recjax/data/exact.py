"""Columns of a log without loss: a value that does not fit is refused with its row, never rounded or wrapped."""

from __future__ import annotations

from typing import Any

import numpy as np

EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""The first second of the year 1 and the last of the year 9999, in seconds since 1970 UTC."""

INT32_MAX = int(np.iinfo(np.int32).max)


def whole_numbers(name: str, values: Any, dtype: Any, low: int, high: int, hint: str = "") -> np.ndarray:
    """One column of whole numbers in ``low .. high``.

    Args:
      name: of the column, for errors.
      values: integers, or floats that are whole numbers.
      dtype: of the result; it holds ``low`` and ``high``.
      low: the smallest value that is allowed.
      high: the largest.
      hint: what else to say of a value that does not fit.

    Raises:
      ValueError: the values are no numbers or no single column, or one of them is missing, no whole number or not
        in the range; the message names its row, counted from 0.

    >>> whole_numbers("user", [3.0, 4.0], np.int32, 0, 9).tolist()
    [3, 4]
    """
    column = _one_column(name, values)
    kind = column.dtype.kind
    if kind == "O":
        fits = np.fromiter((_is_number(v) and low <= v <= high and v == v // 1 for v in column), bool, len(column))
    elif kind == "f":
        fits = (column >= low) & (column <= high) & (column == np.floor(column))
    elif kind in "iu":
        inside = not len(column) or (int(column.min()) >= low and int(column.max()) <= high)
        fits = np.ones(0, bool) if inside else (column >= low) & (column <= high)
    else:
        raise ValueError(f"{name} must be whole numbers, got an array of {column.dtype}.")
    if not fits.all():
        raise _refused(name, column, fits, f"a whole number in {low} .. {high}", hint)
    return np.ascontiguousarray(column, dtype=dtype)


def real_numbers(name: str, values: Any) -> np.ndarray:
    """One column of ``f32`` numbers; NaN (and None) where there is none.

    Raises:
      ValueError: the values are no numbers or no single column, or one of them is infinite or too large for
        ``f32``; the message names its row, counted from 0.

    >>> real_numbers("rating", [3, None, 2.5]).tolist()
    [3.0, nan, 2.5]
    """
    column = _one_column(name, values)
    if column.dtype.kind == "O":
        known = np.array([not _is_missing(value) for value in column], bool)
        fits = np.array([not k or _is_number(v) for k, v in zip(known, column, strict=True)], bool)
        if not fits.all():
            raise _refused(name, column, fits, "a number")
        column = np.array([float(v) if k else np.nan for k, v in zip(known, column, strict=True)])
    elif column.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers, got an array of {column.dtype}.")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(column, dtype=np.float32)
    fits = ~np.isinf(single)
    if not fits.all():
        raise _refused(name, column, fits, "a finite number within the range of f32, or NaN where there is none")
    return single


def seconds(name: str, values: Any) -> np.ndarray:
    """One column of ``i64`` seconds since 1970 UTC, of whole numbers or of ``datetime64`` with any unit.

    Parts of a second are cut off from ``datetime64``, towards the past.

    Raises:
      ValueError: a time is missing, no whole number, or not in the years 1 to 9999; the message names its row,
        counted from 0.

    >>> seconds("time", np.array(["1970-01-02T00:00:00.900"], "datetime64[ms]")).tolist()
    [86400]
    """
    column = _one_column(name, values)
    if column.dtype.kind == "M":
        whole = column.astype("datetime64[s]")
        unit = np.datetime_data(column.dtype)[0]
        fits = ~np.isnat(column)
        if unit in "YMWDhm":  # from a coarser unit the cast can overflow
            fits &= whole.astype(column.dtype) == column
        if not fits.all():
            raise _refused(name, column, fits, "a time in the years 1 to 9999")
        column = whole.astype(np.int64)
    hint = " Times are seconds since 1970: divide milliseconds by 1,000 and microseconds by 1,000,000."
    return whole_numbers(name, column, np.int64, EARLIEST, LATEST, hint)


def _one_column(name: str, values: Any) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError(f"{name} must be one column, got shape {column.shape}.")
    return column


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def _refused(name: str, column: np.ndarray, fits: np.ndarray, allowed: str, hint: str = "") -> ValueError:
    row = int(np.argmin(fits))
    value = column[row].item() if hasattr(column[row], "item") and column.dtype.kind != "M" else column[row]
    others = int((~fits).sum()) - 1
    more = f" (and {others:,} more)" if others else ""
    return ValueError(f"{name}: row {row} holds {value!s}{more}; it must be {allowed}.{hint}")
