"""Which columns of a file make a log, and how their text becomes numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from recjax.data import times
from recjax.data.ids import EXACT, inexact_id, plain_floats
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

UNKNOWN = "unknown word"
"""Name of the column of words without a meaning, null where a word has one."""

_PARSED = "parsed time"

Key = str | int
_LISTED = 20


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
        is no finite number.
    """

    user: Key = "user"
    item: Key = "item"
    time: Key | None = None
    rating: Key | None = None
    behaviour: Key | None = None
    extras: tuple[Key, ...] = ()

    def keys(self) -> dict[str, Key]:
        """The columns that are wanted, under the names that they have while they are read."""
        wanted = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        wanted |= {"behaviour": self.behaviour} | {extra(key): key for key in self.extras}
        return {alias: key for alias, key in wanted.items() if key is not None}


NULL_WORDS = (
    *("NaN", "nan", "-NaN", "-nan", "NaT", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA"),
    *("NULL", "null", "None", r"\N", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Words that programs write for a missing value."""


def extra(key: Key) -> str:
    """The name of an extra column while it is read, out of the way of the log's own columns."""
    return f"extra {key}"


def no_column(key: Key, names: Sequence[str], source: str = "", hint: str = "") -> ValueError:
    """What to say of a column that is not there.

    Args:
      key: of the column.
      names: of those that are.
      source: the file, where one is known.
      hint: what else to say.
    """
    close = difflib.get_close_matches(str(key), names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    listed = f"{list(names[:_LISTED])}" + (f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")
    where = f"{source}: there" if source else "There"
    return ValueError(f"{where} is no column {key!r}; the columns are {listed}.{guess}{hint}")


def as_text(frame: pl.LazyFrame, columns: Columns) -> pl.LazyFrame:
    """The wanted columns under their own names, as text; times of a temporal type as microseconds."""
    schema = frame.collect_schema()
    names = [name for name in schema.names() if name != ROW]

    def find(key: Key) -> str:
        if isinstance(key, int) and 0 <= key < len(names):
            return names[key]
        if key in names:
            return str(key)
        raise no_column(key, names)

    def text(key: Key, alias: str) -> pl.Expr:
        column, dtype = pl.col(find(key)), schema[find(key)]
        if dtype.is_temporal():
            column = column.dt.epoch("us")
        elif dtype.is_float():
            column = plain_floats(column) if alias in ("user", "item") else column.fill_nan(None)
        return column.cast(pl.String).alias(alias)

    for kind in ("user", "item"):
        _check_floats(frame, find(columns.keys()[kind]))
    return frame.select(ROW, *(text(key, alias) for alias, key in columns.keys().items()))


def _check_floats(frame: pl.LazyFrame, name: str) -> None:
    """Refuses ids that are floats of which several whole numbers may have been one."""
    if frame.collect_schema()[name].is_float():
        inexact = frame.filter(pl.col(name).fill_nan(None).abs() >= EXACT).select(ROW, name).head(1).collect()
        if inexact.height:
            raise ValueError(f"Column {name!r}: {inexact_id(*inexact.row(0))}")


def is_doubtful(ids: pl.Series) -> pl.Series:
    """Whether an id is a word for a missing value, or a text of several lines."""
    return ids.is_in(NULL_WORDS) | ids.str.contains("\n", literal=True)


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
    guessed: bool,
    behaviours: Mapping[str, Behaviour],
    behaviour: Behaviour,
) -> pl.LazyFrame:
    """Typed columns beside ids as they are written, one boolean column for each kind of problem that a row shows by
    itself, and words without a meaning.

    Args:
      text: the wanted columns, see :func:`as_text`.
      columns: which there are.
      time_format: of the times, None without them.
      guessed: whether the first time told the format, so that the others may be in another unit.
      behaviours: what words mean.
      behaviour: of every event where there are no words.
    """

    def blank(name: str) -> pl.Expr:
        return pl.col(name).str.strip_chars().fill_null("") == ""

    values = [pl.lit(int(behaviour), pl.Int8).alias("behaviour")]
    problems = [blank("user").alias("missing_user"), blank("item").alias("missing_item")]
    if columns.behaviour is not None:
        codes = {word.strip().lower(): int(meaning) for word, meaning in behaviours.items()}
        word = pl.col("behaviour").str.strip_chars()
        code = word.str.to_lowercase().replace_strict(codes, default=None, return_dtype=pl.Int8)
        values[0] = code.alias("behaviour")
        values.append(pl.when(code.is_null()).then(word.fill_null("")).alias(UNKNOWN))
        problems.append(code.is_null().alias("bad_behaviour"))
    if time_format is not None:
        text = text.with_columns(times.parse(pl.col("time"), time_format).alias(_PARSED))
        mixed = pl.lit(False)
        if guessed and time_format in times.UNITS:
            mixed = times.in_another_unit(pl.col("time"), pl.col(_PARSED), time_format)
        values.append(pl.col(_PARSED).alias("time"))
        problems += [(pl.col(_PARSED).is_null() & ~mixed).alias("bad_time"), mixed.alias("mixed_time")]
    if columns.rating is not None:
        rating = pl.col("rating").str.strip_chars().cast(pl.Float32, strict=False)
        required = values[0].fill_null(-1) == int(Behaviour.RATING)
        unusable = pl.when(blank("rating")).then(required).otherwise(~rating.is_finite().fill_null(False))
        values.append(rating.fill_null(float("nan")).alias("rating"))
        problems += [unusable.alias("bad_rating"), (rating < 0).fill_null(False).alias("negative_rating")]
    for name in map(extra, columns.extras):
        number = pl.col(name).str.strip_chars().cast(pl.Float32, strict=False)
        values.append(pl.when(number.is_finite()).then(number).otherwise(float("nan")).alias(name))
    return text.with_columns(*values, *problems).drop(_PARSED, strict=False)
