"""Tables of other libraries as polars frames, column by column, without importing those libraries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from recjax.data.ids import as_names

Frame = Any
"""A polars, pandas or pyarrow table, a mapping of columns, a NumPy structured array, or what speaks Arrow."""


def as_lazy(frame: Frame) -> pl.LazyFrame:
    """A table as a lazy polars frame, whose columns have its names, as text.

    Args:
      frame: a polars frame; a pandas frame; a mapping from names to columns (arrays or lists); a NumPy structured or
        record array; a pyarrow table, or anything else with ``__arrow_c_stream__``.

    Raises:
      ValueError: it is none of these, or its columns differ in length.
    """
    if hasattr(frame, "to_native"):  # narwhals
        frame = frame.to_native()
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame.lazy()
    if isinstance(frame, Mapping):
        columns = {str(name): values for name, values in frame.items()}
    elif isinstance(frame, np.ndarray) and frame.dtype.names:
        columns = {name: frame[name] for name in frame.dtype.names}
    elif hasattr(frame, "iloc"):  # pandas, whose own export to Arrow needs pyarrow
        columns = {str(name): frame[name] for name in frame.columns}
    elif hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame).lazy()
    else:
        raise ValueError(
            f"Cannot read a log from {type(frame).__name__}; give a polars, pandas or pyarrow table, a mapping of"
            " columns, or a NumPy structured array."
        )
    series = {name: _series(values) for name, values in columns.items()}
    lengths = {name: len(column) for name, column in series.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns of a log must have one length, got {lengths}.")
    return pl.DataFrame(series).lazy()


def _series(values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values
    if getattr(getattr(values, "dtype", None), "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if hasattr(values, "to_numpy"):
        # Columns that may hold NA would become floats, in which big ids are others.
        is_plain = isinstance(values.dtype, np.dtype)
        values = values.to_numpy() if is_plain else values.to_numpy(dtype=object)
    if not isinstance(values, np.ndarray):
        return _objects(list(values))
    if values.dtype.kind == "M":
        return pl.Series(values.astype("datetime64[us]"))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind in "biu":
        return pl.Series(np.ascontiguousarray(values))
    if values.dtype.kind == "f":
        return pl.Series(np.ascontiguousarray(values, np.float32 if values.itemsize <= 4 else np.float64))
    return _objects(values.tolist())


def _objects(values: list[Any]) -> pl.Series:
    """Objects of any kind: times as such, everything else as names are."""
    is_time = [isinstance(value, date) and value == value for value in values]  # pandas' NaT is a date too
    if any(is_time):
        return pl.Series([value if known else None for value, known in zip(values, is_time, strict=True)])
    return as_names(values)
