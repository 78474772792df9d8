from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import data
from recjax.data import Dataset, IdMap, Interactions
from recjax.types import Behaviour

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(names, max_size=20), st.lists(names, max_size=10))
def test_id_maps_agree_with_a_dictionary(values, others):
    ids = IdMap.fit(values)
    expected: dict[str, int] = {}
    for value in values:
        expected.setdefault(value, len(expected))
    assert ids.names == tuple(expected)
    assert ids.encode(values).tolist() == [expected[value] for value in values]
    assert ids.encode(others).tolist() == [expected.get(other, len(expected)) for other in others]
    assert ids.decode(ids.encode(values)) == values
    assert ids.num_rows == len(expected) + 2


def test_numbers_and_their_text_are_one_name():
    ids = IdMap.fit(np.array([30, 10, 30]))
    assert ids.names == ("30", "10")
    assert ids.encode(["10", "30", None]).tolist() == ids.encode([10, 30, None]).tolist() == [1, 0, 2]
    assert ids.encode(["10"]).dtype == np.int32
    assert ids.encode([]).shape == (0,)
    assert 10 in ids
    assert "20" not in ids


def test_a_table_with_num_rows_is_looked_up_by_oov_and_padding():
    ids = IdMap(("a", "b"))
    table = np.arange(ids.num_rows)
    assert table[ids.encode(["b", "new"])].tolist() == [1, 2]
    assert table[-1] == 3  # the padding row is not the row of unseen names


def test_id_maps_survive_a_file(tmp_path):
    ids = IdMap.fit(["é", "日本", "a\nb", " "])
    ids.save(tmp_path / "items.json")
    assert IdMap.load(tmp_path / "items.json") == ids
    assert [path.name for path in tmp_path.iterdir()] == ["items.json"]


def test_id_map_errors(tmp_path):
    with pytest.raises(ValueError, match="'a' occurs twice"):
        IdMap(("a", "b", "a"))
    with pytest.raises(ValueError, match="missing values"):
        IdMap.fit(["a", None])
    with pytest.raises(ValueError, match="5 is no id of this map"):
        IdMap(("a",)).decode([0, 5])
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is not an id map"):
        IdMap.load(tmp_path / "other.json")


def test_interactions_have_one_type_and_length():
    log = Interactions([1, 2], [3, 4], time=[5, 6], rating=[1, 2])
    assert [log.user.dtype, log.time.dtype, log.rating.dtype, log.behaviour.dtype] == [
        np.int32,
        np.int64,
        np.float32,
        np.int8,
    ]
    assert log.behaviour.tolist() == [Behaviour.RATING] * 2
    assert Interactions([1], [1]).behaviour.tolist() == [Behaviour.CLICK]
    with pytest.raises(ValueError, match="'item': 1"):
        Interactions([1, 2], [3])
    with pytest.raises(ValueError, match=r"behaviour: row 0 holds 9; .* Known behaviours: VIEW=0"):
        Interactions([1], [3], behaviour=[9])
    with pytest.raises(ValueError, match="one column"):
        Interactions([[1]], [[3]])


def test_take_and_concatenate():
    log = Interactions([0, 1, 2], [3, 4, 5], time=[7, 8, 9])
    assert log.take(np.array([2, 0])).item.tolist() == [5, 3]
    assert log.take(np.array([False, True, False])).time.tolist() == [8]
    both = data.concatenate(log, Interactions([9], [9]))
    assert both.user.tolist() == [0, 1, 2, 9]
    assert both.time is None
    with pytest.raises(ValueError, match="at least one"):
        data.concatenate()


def test_behaviour_weights():
    log = Interactions([0, 0], [1, 2], behaviour=[Behaviour.VIEW, Behaviour.PURCHASE])
    assert data.behaviour_weights(log).tolist() == [1.0, 5.0]
    assert data.behaviour_weights(log, {Behaviour.VIEW: 0.5, Behaviour.PURCHASE: 3.0}).tolist() == [0.5, 3.0]
    assert set(data.BEHAVIOUR_WEIGHTS) == set(Behaviour) - {Behaviour.IMPRESSION}, "an impression is no preference"
    with pytest.raises(ValueError, match="PURCHASE"):
        data.behaviour_weights(log, {Behaviour.VIEW: 1.0})


def test_describe_counts_by_hand():
    day = 86_400
    log = Interactions([0, 0, 1, 1], [0, 0, 0, 1], time=[day, day, 2 * day, day], rating=[1, 2, 2, np.nan])
    dataset = Dataset("hand", log, IdMap(("u", "v", "w")), IdMap(("a", "b")), titles=("A", "B"), genres=("g",))
    assert dataset.describe() == {
        "name": "hand",
        "users": 3,
        "items": 2,
        "events": 4,
        "density": 3 / 6,
        "events_per_user": [0, 2.0, 2],
        "behaviours": {"rating": 4},
        "ratings": {"1": 1, "2": 2},
        "time_span": ["1970-01-02", "1970-01-03"],
        "time_ties": 0.5,
        "titles": True,
        "item_categories": 1,
        "item_numbers": [],
        "user_features": 0,
        "test_events": None,
    }
    assert [dataset.title(i) for i in (0, 1, 2, -1)] == ["A", "B", "?", "?"]


def test_describe_empty_and_many_ratings():
    empty = Dataset("none", Interactions([], [], time=[], rating=[]), IdMap(()), IdMap(())).describe()
    assert (empty["events"], empty["density"], empty["ratings"], empty["time_span"]) == (0, 0.0, {}, None)
    seconds = Dataset("plays", Interactions([0] * 100, [0] * 100, rating=range(100)), IdMap(("u",)), IdMap(("a",)))
    assert list(seconds.describe()["ratings"].values()) == [10] * 10
