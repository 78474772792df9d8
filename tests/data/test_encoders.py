from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from recjax import data
from recjax.data import Dataset, IdMap, Interactions, MultiHot, OneHot, Standardiser, Vocabulary

few = settings(max_examples=50, deadline=None)


@few
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4), min_size=1, max_size=8))
def test_multi_hot_agrees_with_scikit_learn(lists):
    encoder = MultiHot.fit(lists)
    reference = MultiLabelBinarizer().fit(lists)
    assert encoder.categories == tuple(reference.classes_)
    np.testing.assert_array_equal(encoder.encode(lists), reference.transform(lists))


def test_unseen_categories_are_rows_of_zeros():
    assert MultiHot(("a", "b")).encode([["z", "b"], ["z"]]).tolist() == [[0, 1], [0, 0]]
    assert OneHot(("a", "b")).encode(["b", "z", None]).tolist() == [[0, 1], [0, 0], [0, 0]]
    assert OneHot.fit([None, "b", "a", "b"]).categories == ("a", "b")


@few
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=10))
def test_standardiser_agrees_with_scikit_learn(rows):
    values = np.array(rows)
    found = Standardiser.fit(values).encode(values)
    expected = StandardScaler().fit_transform(values)
    varies = values.std(axis=0) > 1e-6
    np.testing.assert_allclose(found[:, varies], expected[:, varies], atol=1e-3)
    assert np.isfinite(found).all()


def test_standardiser_leaves_missing_numbers_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    scaler = Standardiser.fit(values)
    assert scaler.mean == (2.0, 0.0)
    assert scaler.encode(values).tolist() == [[-1, 0], [1, 0], [0, 0]]
    assert scaler.encode(values, indicate_missing=True)[:, 2:].tolist() == [[0, 1], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Children's Café", ["childrens", "café"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("Amélie — Le Fabuleux; 2001!", ["amélie", "le", "fabuleux", "2001"]),
        ("हिन्दी फ़िल्म", ["हिन्दी", "फ़िल्म"]),
        ("七人の侍 (1954)", ["七人の侍", "1954"]),
        ("ﬁlm № ５", ["film", "no", "5"]),
        ("... \n\t", []),
    ],
)
def test_words_of_any_script(text, expected):
    import unicodedata

    assert data.words(text) == [unicodedata.normalize("NFKC", word) for word in expected]


def test_vocabulary_counts_and_pads():
    vocabulary = Vocabulary.fit(["b a b", "a c", "b"], min_count=2)
    assert vocabulary.words == ("b", "a")
    assert vocabulary.encode(["a z b b", ""]).tolist() == [[1, 0, 0], [-1, -1, -1]]
    assert vocabulary.encode(["a b"], length=1).tolist() == [[1]]
    assert vocabulary.encode(["z"]).tolist() == [[-1]]
    assert vocabulary.encode([]).shape == (0, 1)


@few
@given(st.lists(st.text(max_size=12), max_size=6), st.integers(1, 3))
def test_vocabulary_ids_name_the_words(texts, min_count):
    vocabulary = Vocabulary.fit(texts, min_count)
    ids = vocabulary.encode(texts)
    for row, text in zip(ids, texts, strict=True):
        assert [vocabulary.words[i] for i in row if i >= 0] == [w for w in data.words(text) if w in vocabulary.words]


def small_dataset() -> Dataset:
    log = Interactions([0, 0, 1, 1, 1], [2, 0, 0, 1, 5], time=[50, 10, 20, 50, 60])
    return Dataset(
        "small",
        log,
        IdMap(("u", "v")),
        IdMap(tuple("abcde")),
        titles=("Red Dog", "Blue Dog", "Red Cat", "", "Owl"),
        genres=("x",),
        multi_hot=np.array([[1], [0], [1], [0], [0]], np.float32),
        numeric_names=("year",),
        numeric=np.array([[1990], [2000], [np.nan], [np.nan], [np.nan]], np.float32),
    )


def test_item_features_by_hand():
    dataset = small_dataset()
    items = data.item_features(dataset, dataset.interactions.take(np.arange(3)), new_share=0.6)
    assert items.popularity.tolist() == [2, 0, 1, 0, 0]  # the OOV item 5 counts for none
    # first seen: a 10, b 50, c 50, d and e never; the newest 3 are e, d and, of the tie, the higher id
    assert items.is_new.tolist() == [False, False, True, True, True]
    assert items.features["genres"].values.tolist() == [[1], [0], [1], [0], [0]]
    assert items.features["numbers"].values.tolist() == [[-1], [1], [0], [0], [0]]
    assert data.title_vocabulary(dataset).words == ("dog", "red")
    assert items.features["title"].values.tolist() == [[1, 0], [0, -1], [1, -1], [-1, -1], [-1, -1]]
    assert data.item_features(dataset).popularity.tolist() == [2, 1, 1, 0, 0]


def test_novelty_needs_times():
    dataset = Dataset("order", Interactions([0], [0]), IdMap(("u",)), IdMap(("a", "b")))
    items = data.item_features(dataset, new_share=0.5)
    assert not items.is_new.any()
    assert items.features == {}
    with pytest.raises(ValueError, match=r"new_share is 1\.5"):
        data.item_features(dataset, new_share=1.5)


def test_item_and_user_files(tmp_path):
    (tmp_path / "items.csv").write_text(
        'id,name,kinds,price\nb,"Blue, Dog",pet|toy,3\nz,Zebra,zoo,1\na,Red Dog,,cheap\n'
    )
    dataset = small_dataset()
    columns = data.ItemColumns("id", title="name", categories="kinds", numeric=("price",))
    found, _ = data.with_item_file(dataset, tmp_path / "items.csv", columns)
    assert found.titles == ("Red Dog", "Blue, Dog", "", "", "")
    assert found.genres == ("pet", "toy")
    assert found.multi_hot.tolist() == [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    np.testing.assert_array_equal(found.numeric[:, 0], [np.nan, 3, np.nan, np.nan, np.nan])

    (tmp_path / "users.jsonl").write_text(
        '{"user": "v", "age": 30, "job": "baker"}\n{"user": "u", "age": 20, "job": null}\n'
    )
    found, _ = data.with_user_file(dataset, tmp_path / "users.jsonl", categorical=("job",), numeric=("age",))
    assert found.context_names == ("age", "job=baker")
    assert found.context.tolist() == [[-1, 0], [1, 1]]


def test_item_file_errors(tmp_path):
    (tmp_path / "items.csv").write_text("item,name\na,A\na,B\n")
    with pytest.raises(ValueError, match="lists 'a' more than once"):
        data.with_item_file(small_dataset(), tmp_path / "items.csv")
    (tmp_path / "items.csv").write_text("item,name\na,A\n")
    with pytest.raises(ValueError, match="no column 'title'"):
        data.with_item_file(small_dataset(), tmp_path / "items.csv", data.ItemColumns(title="title"))
