"""Item features of several data sets on the same columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from recjax import data


def small(titles, genres, multi_hot):
    n = len(titles)
    frame = pl.DataFrame({"user": [0] * n, "item": list(range(n))})
    dataset, _ = data.from_frame(frame)
    return dataclasses.replace(
        dataset, titles=tuple(titles), genres=tuple(genres), multi_hot=np.array(multi_hot, np.float32)
    )


def test_genres_and_words_mean_the_same_everywhere():
    one = small(["Red Sun", "Blue Sun"], ["War", "Drama"], [[1, 0], [0, 1]])
    other = small(["Red Moon"], ["Comedy", "Drama"], [[1, 1]])
    (one, other), words = data.same_features(one, other, min_word_count=1)
    assert one.genres == other.genres == ("Comedy", "Drama", "War")
    assert one.multi_hot.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert other.multi_hot.tolist() == [[1, 1, 0]]
    first, second = (data.item_features(dataset, vocabulary=words) for dataset in (one, other))
    one, other = (items.features["title"].values for items in (first, second))
    assert one[0, 0] == other[0, 0]
    assert {words.words[i] for i in other[0].tolist()} == {"red", "moon"}


def test_numbers_must_be_the_same():
    one = small(["a"], [], [[]])
    other = dataclasses.replace(one, numeric_names=("year",), numeric=np.array([[1999.0]], np.float32))
    with pytest.raises(ValueError, match="different numbers"):
        data.same_features(one, other)


def test_texts_say_title_year_and_genres_as_far_as_they_are_known():
    one = small(["Red Sun", "Blue Sun"], ["War", "Drama"], [[1, 1], [0, 0]])
    one = dataclasses.replace(one, numeric_names=("length", "year"), numeric=np.array([[90, 1999], [80, np.nan]]))
    assert data.item_texts(one) == ["Red Sun (1999). War, Drama", "Blue Sun"]
    assert data.item_texts(dataclasses.replace(one, multi_hot=None, genres=())) == ["Red Sun (1999)", "Blue Sun"]
    assert data.item_texts(dataclasses.replace(one, numeric=None, numeric_names=())) == [
        "Red Sun. War, Drama",
        "Blue Sun",
    ]
    with pytest.raises(ValueError, match="have no titles"):
        data.item_texts(dataclasses.replace(one, titles=None))
