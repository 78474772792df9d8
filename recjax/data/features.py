"""What is known of items and users, from files and from the log, as arrays for models."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import polars as pl

from recjax.data.encoders import MultiHot, OneHot, Standardiser, Vocabulary
from recjax.data.ids import IdMap
from recjax.data.scan import ROW, Table
from recjax.data.schema import Dataset, Interactions
from recjax.types import Feature, Items


def title_vocabulary(dataset: Dataset, min_count: int = 2) -> Vocabulary:
    """The words of a data set's titles; a word in one title only tells no more than the item's id."""
    return Vocabulary.fit(dataset.titles or (), min_count)


def item_features(
    dataset: Dataset,
    train: Interactions | None = None,
    *,
    new_share: float = 0.1,
    min_word_count: int = 2,
    vocabulary: Vocabulary | None = None,
) -> Items:
    """The features of a data set's items for models and metrics.

    Args:
      dataset: the items and the whole log.
      train: the interactions that popularity is counted on. Default: the whole log.
      new_share: the share of items that count as new: those that appear last in the whole
        log. Items that appear at the same second are ordered by id, items without any
        event are the newest. Without times nobody knows, and no item counts as new.
      min_word_count: titles keep words that occur in all titles at least so often.
      vocabulary: the words of titles instead, such as those of :func:`same_features`.

    Returns:
      :class:`~recjax.types.Items`: ``popularity`` counts events (out-of-vocabulary items
      left out); the features are those that the data set has of ``"genres"`` ("multi_hot"), ``"numbers"``
      ("numeric", standardised over the items with missing values at 0) and ``"title"`` ("words").

    Raises:
      ValueError: ``new_share`` is not in [0, 1].
    """
    if not 0.0 <= new_share <= 1.0:
        raise ValueError(f"new_share is {new_share}; it must be a share of the items in [0, 1].")
    n = dataset.num_items
    counted = (dataset.interactions if train is None else train).item
    features = {}
    if dataset.multi_hot is not None:
        features["genres"] = Feature(jnp.asarray(dataset.multi_hot, jnp.float32), "multi_hot")
    if dataset.numeric is not None:
        numbers = Standardiser.fit(dataset.numeric).encode(dataset.numeric)
        features["numbers"] = Feature(jnp.asarray(numbers), "numeric")
    if dataset.titles is not None:
        vocabulary = title_vocabulary(dataset, min_word_count) if vocabulary is None else vocabulary
        if len(vocabulary):
            features["title"] = Feature(jnp.asarray(vocabulary.encode(dataset.titles)), "words", len(vocabulary))
    return Items(
        popularity=jnp.asarray(np.bincount(counted[counted < n], minlength=n), jnp.float32),
        is_new=jnp.asarray(_newest(dataset.interactions, n, round(new_share * n))),
        features=features,
    )


def item_texts(dataset: Dataset) -> list[str]:
    """What a language model is given of each item: title, year and genres, ``"Toy Story (1995). Animation, Comedy"``.

    Years are the numbers named "year", if there are any; what an item lacks is left out.

    Raises:
      ValueError: the items have no titles.
    """
    if dataset.titles is None:
        raise ValueError(f"The items of {dataset.name} have no titles; give them by with_item_file().")
    texts = list(dataset.titles)
    if dataset.numeric is not None and "year" in dataset.numeric_names:
        years = dataset.numeric[:, dataset.numeric_names.index("year")]
        texts = [f"{text} ({year:.0f})" if np.isfinite(year) else text for text, year in zip(texts, years, strict=True)]
    if dataset.multi_hot is not None:
        genres = np.array(dataset.genres)
        texts = [
            f"{text}. {', '.join(genres[row > 0])}" if row.any() else text
            for text, row in zip(texts, dataset.multi_hot, strict=True)
        ]
    return texts


def same_features(*datasets: Dataset, min_word_count: int = 2) -> tuple[tuple[Dataset, ...], Vocabulary]:
    """Data sets whose items are described alike, so that a model of features moves between them.

    Args:
      *datasets: of any users and items.
      min_word_count: words occur at least so often in the titles of all of them.

    Returns:
      The data sets with one list of genres, the union of theirs, and the words of all titles for
      :func:`item_features`. Numbers keep their columns, which must be the same already.

    Raises:
      ValueError: numbers have other names in one than in another.
    """
    numbers = {dataset.numeric_names for dataset in datasets}
    if len(numbers) > 1:
        raise ValueError(f"The data sets have different numbers: {sorted(numbers)}; keep the columns they share.")
    genres = tuple(sorted({genre for dataset in datasets for genre in dataset.genres}))
    column = {genre: i for i, genre in enumerate(genres)}

    def with_genres(dataset: Dataset) -> Dataset:
        multi_hot = np.zeros((dataset.num_items, len(genres)), np.float32)
        if dataset.multi_hot is not None:
            multi_hot[:, [column[genre] for genre in dataset.genres]] = dataset.multi_hot
        return dataclasses.replace(dataset, genres=genres, multi_hot=multi_hot if genres else None)

    titles = [title for dataset in datasets for title in dataset.titles or ()]
    return tuple(map(with_genres, datasets)), Vocabulary.fit(titles, min_word_count)


def _newest(log: Interactions, num_items: int, count: int) -> np.ndarray:
    newest = np.zeros(num_items, bool)
    if log.time is not None:
        first = np.full(num_items, np.iinfo(np.int64).max)
        known = log.item < num_items
        np.minimum.at(first, log.item[known], log.time[known])
        newest[np.argsort(first, kind="stable")[num_items - count :]] = True
    return newest


@dataclass(frozen=True)
class ItemColumns:
    """Which column of an item file holds what, by name (by position as text, ``"0"``, without a header).

    Attributes:
      item: ids, as in the log.
      title: titles, or None.
      categories: lists of categories such as genres, or None.
      category_separator: between the categories of one item.
      numeric: columns of numbers; what is no number counts as missing.
    """

    item: str = "item"
    title: str | None = None
    categories: str | None = None
    category_separator: str = "|"
    numeric: tuple[str, ...] = ()


def with_item_file(
    dataset: Dataset,
    path: str | os.PathLike[str],
    columns: ItemColumns = ItemColumns(),
    *,
    separator: str | None = None,
    header: bool = True,
    quote: str | None = '"',
) -> Dataset:
    """The data set with item features from a file.

    Rows for items that are not in the log are left out; items without a row have an
    empty title, no category and missing numbers.

    Args:
      dataset: the log.
      path: a file as for :func:`recjax.data.read`.
      columns: which column holds what.
      separator: between fields.
      header: whether the first line names the columns.
      quote: the quoting character, None for none.

    Raises:
      ValueError: the file lists an item twice, lacks a column or cannot be parsed.
    """
    table = _rows(Table(Path(path), separator, header, quote), columns.item, dataset.items)
    changes: dict[str, object] = {}
    if columns.title is not None:
        changes["titles"] = tuple(_text(table, columns.title).fill_null("").to_list())
    if columns.categories is not None:
        lists = _text(table, columns.categories).fill_null("").to_list()
        split = [[c.strip() for c in cell.split(columns.category_separator) if c.strip()] for cell in lists]
        encoder = MultiHot.fit(split)
        changes |= {"genres": encoder.categories, "multi_hot": encoder.encode(split)}
    if columns.numeric:
        changes |= {"numeric_names": columns.numeric, "numeric": _numbers(table, columns.numeric)}
    return dataclasses.replace(dataset, **changes)  # type: ignore[arg-type]


def with_user_file(
    dataset: Dataset,
    path: str | os.PathLike[str],
    user: str = "user",
    *,
    categorical: tuple[str, ...] = (),
    numeric: tuple[str, ...] = (),
    separator: str | None = None,
    header: bool = True,
    quote: str | None = '"',
) -> Dataset:
    """The data set with user features from a file: numbers standardised, categories one-hot.

    Args:
      dataset: the log.
      path: a file as for :func:`recjax.data.read`.
      user: the column of ids, as in the log.
      categorical: columns of categories.
      numeric: columns of numbers; what is no number counts as missing, that is the mean.
      separator: between fields.
      header: whether the first line names the columns.
      quote: the quoting character, None for none.

    Raises:
      ValueError: the file lists a user twice, lacks a column or cannot be parsed.
    """
    table = _rows(Table(Path(path), separator, header, quote), user, dataset.users)
    names, context = user_context(
        {name: _text(table, name).to_list() for name in categorical}, numeric, _numbers(table, numeric)
    )
    return dataclasses.replace(dataset, context_names=names, context=context)


def user_context(
    categorical: dict[str, list[str | None]], numeric_names: tuple[str, ...], numeric: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and ``f32[U, C]`` columns of user features: standardised numbers, then one-hot categories."""
    names, columns = list(numeric_names), [Standardiser.fit(numeric).encode(numeric)]
    for name, values in categorical.items():
        encoder = OneHot.fit(values)
        names += [f"{name}={category}" for category in encoder.categories]
        columns.append(encoder.encode(values))
    return tuple(names), np.concatenate(columns, axis=1)


def _rows(table: Table, key: str, ids: IdMap) -> pl.DataFrame:
    """The rows of a file in the order of an id map, null where an id has no row."""
    try:
        frame = table.scan().drop(ROW).collect()
    except pl.exceptions.PolarsError as error:
        raise table.explain(error) from error
    named = frame.with_columns(_text(frame, key).alias(key)).filter(pl.col(key).is_in(list(ids.names)))
    twice = named.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise ValueError(f"{table.path} lists {twice[key][0]!r} more than once; keep one row for each.")
    return pl.DataFrame({key: list(ids.names)}, schema={key: pl.String}).join(
        named, on=key, how="left", maintain_order="left"
    )


def _text(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        raise ValueError(f"There is no column {name!r}; the columns are {frame.columns}.")
    return frame[name].cast(pl.String)


def _numbers(frame: pl.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    columns = [
        _text(frame, name).str.strip_chars().cast(pl.Float32, strict=False).fill_null(float("nan")) for name in names
    ]
    return (
        np.stack([column.to_numpy() for column in columns], axis=1)
        if names
        else np.zeros((frame.height, 0), np.float32)
    )
