"""What is known of items and users as arrays for models."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from recjax.data.encoders import OneHot, Standardiser, Vocabulary
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


def user_context(
    categorical: dict[str, list[str | None]], numeric_names: tuple[str, ...], numeric: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and ``f32[U, C]`` columns of user features: standardised numbers, then one-hot categories.

    Numbers that are not finite count as missing, see :class:`Standardiser`.
    """
    names, columns = list(numeric_names), [Standardiser.fit(numeric).encode(numeric)]
    for name, values in categorical.items():
        encoder = OneHot.fit(values)
        names += [f"{name}={category}" for category in encoder.categories]
        columns.append(encoder.encode(values))
    return tuple(names), np.concatenate(columns, axis=1)
