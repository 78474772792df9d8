"""Which columns of a file make a log, and how their text becomes numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from recjax.data import times
from recjax.data.scan import ROW
from recjax.types import Behaviour

BEHAVIOURS: Mapping[str, Behaviour] = {
    **{behaviour.name.lower(): behaviour for behaviour in Behaviour},
    "pv": Behaviour.VIEW,
    "addtocart": Behaviour.CART,
    "buy": Behaviour.PURCHASE,
    "transaction": Behaviour.PURCHASE,
    "rate": Behaviour.RATING,
    "fav": Behaviour.LIKE,
    "watch": Behaviour.PLAY,
}
"""What the words in a behaviour column mean unless told otherwise; case does not matter."""

Key = str | int


@dataclass(frozen=True)
class Columns:
    """Which column of a file holds what: a name, or a position counted from 0.

    Attributes:
      user: ids of users.
      item: ids of items.
      time: when it happened, or None.
      rating: the value of the event (stars, seconds, 1 or 0), or None.
      behaviour: words such as ``view`` or ``buy``, or None.
      extras: further numeric columns to keep beside the log, as ``f32``, NaN where there
        is no number.
    """

    user: Key = "user"
    item: Key = "item"
    time: Key | None = None
    rating: Key | None = None
    behaviour: Key | None = None
    extras: tuple[Key, ...] = ()


def extra(key: Key) -> str:
    """The name of an extra column while it is read, out of the way of the log's own columns."""
    return f"extra {key}"


def as_text(frame: pl.LazyFrame, columns: Columns) -> pl.LazyFrame:
    """The wanted columns under their own names, as text; times of a temporal type as microseconds."""
    schema = frame.collect_schema()
    names = [name for name in schema.names() if name != ROW]

    def find(key: Key) -> str:
        if isinstance(key, int) and 0 <= key < len(names):
            return names[key]
        if key in names:
            return str(key)
        close = difflib.get_close_matches(str(key), names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no column {key!r}; the columns are {names}.{hint}")

    def text(key: Key, alias: str) -> pl.Expr:
        column, dtype = pl.col(find(key)), schema[find(key)]
        if dtype.is_temporal():
            column = column.dt.epoch("us")
        elif dtype.is_float():
            column = column.fill_nan(None)
        return column.cast(pl.String).alias(alias)

    wanted = {"user": columns.user, "item": columns.item, "time": columns.time}
    wanted |= {"rating": columns.rating, "behaviour": columns.behaviour} | {extra(key): key for key in columns.extras}
    return frame.select(ROW, *(text(key, alias) for alias, key in wanted.items() if key is not None))


def resolve_time_format(text: pl.LazyFrame, frame: pl.LazyFrame, key: Key, time_format: str) -> str:
    """The format that ``"auto"`` stands for, from the first time in the file; temporal columns are microseconds."""
    schema = frame.collect_schema()
    name = key if isinstance(key, str) else [name for name in schema.names() if name != ROW][key]
    if schema[name].is_temporal():
        return "us"
    if time_format != "auto":
        return time_format
    given = text.select(pl.col("time").str.strip_chars()).filter(pl.col("time") != "").head(100).collect()
    for time in given["time"]:
        try:
            return times.detect(time)
        except ValueError:
            continue  # a bad row may come first
    return times.detect(given["time"][0]) if given.height else "s"


def parse(
    text: pl.LazyFrame,
    columns: Columns,
    time_format: str | None,
    behaviours: Mapping[str, Behaviour],
    behaviour: Behaviour,
) -> pl.LazyFrame:
    """Typed columns, and one boolean column for each kind of problem."""

    def blank(name: str) -> pl.Expr:
        return pl.col(name).str.strip_chars().fill_null("") == ""

    values = [pl.lit(int(behaviour), pl.Int8).alias("behaviour")]
    problems = [blank("user").alias("missing_user"), blank("item").alias("missing_item")]
    if columns.behaviour is not None:
        codes = {word.lower(): int(meaning) for word, meaning in behaviours.items()}
        word = pl.col("behaviour").str.strip_chars().str.to_lowercase()
        values = [word.replace_strict(codes, default=None, return_dtype=pl.Int8).alias("behaviour")]
        problems.append(values[0].is_null().alias("bad_behaviour"))
    if time_format is not None:
        values.append(times.parse(pl.col("time"), time_format).alias("time"))
        problems.append(values[-1].is_null().alias("bad_time"))
    if columns.rating is not None:
        rating = pl.col("rating").str.strip_chars().cast(pl.Float32, strict=False)
        required = values[0].fill_null(-1) == int(Behaviour.RATING)
        unusable = pl.when(blank("rating")).then(required).otherwise(~rating.is_finite().fill_null(False))
        values.append(rating.fill_null(float("nan")).alias("rating"))
        problems += [unusable.alias("bad_rating"), (rating < 0).fill_null(False).alias("negative_rating")]
    for name in map(extra, columns.extras):
        number = pl.col(name).str.strip_chars().cast(pl.Float32, strict=False)
        values.append(number.fill_null(float("nan")).alias(name))
    return text.with_columns(*values, *problems)
