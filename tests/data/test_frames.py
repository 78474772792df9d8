"""Tables of other libraries, with the values that make trouble, against the same table in polars."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recjax import data
from recjax.data.frames import as_lazy

USERS = ["ann", "bob", "Ünal", "ann"]
ITEMS = [10, 2**53 + 1, 10, 20]
TIMES = np.array(["2024-05-01T20:15:00", "2024-05-01T21:00:00", "2024-05-02T20:15:00", "2024-05-03T00:00:00"], "M8[s]")
RATINGS = [5.0, 4.0, np.nan, 0.5]


class SpeaksArrow:
    """What only has the method by which tables are handed over, as pyarrow's have."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame({"user": USERS, "item": ITEMS, "time": TIMES.astype("M8[us]"), "rating": RATINGS})


def of_numpy(array_type):
    columns = [("user", "U4"), ("item", "i8"), ("time", "M8[s]"), ("rating", "f2")]
    return np.array(list(zip(USERS, ITEMS, TIMES, RATINGS, strict=True)), columns).view(array_type)


def of_pandas(**columns):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user": USERS, "item": ITEMS, "time": TIMES, "rating": RATINGS})
    return frame.assign(**{name: make(pandas, frame[name]) for name, make in columns.items()})


FRAMES = {
    "lists": lambda: {"user": USERS, "item": ITEMS, "time": TIMES.tolist(), "rating": RATINGS},
    "arrays": lambda: {"user": np.array(USERS), "item": np.array(ITEMS), "time": TIMES, "rating": np.array(RATINGS)},
    "bytes": lambda: {**FRAMES["arrays"](), "user": np.char.encode(USERS, "utf-8")},
    "structured array": lambda: of_numpy(np.ndarray),
    "record array": lambda: of_numpy(np.recarray),
    "arrow": lambda: SpeaksArrow(polars_frame()),
    "lazy polars": lambda: polars_frame().lazy(),
    "pandas": of_pandas,
    "pandas: zone": lambda: of_pandas(time=lambda pd, t: t.dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata")),
    "pandas: integers with NA": lambda: of_pandas(item=lambda pd, item: item.astype("Int64")),
    "pandas: categories": lambda: of_pandas(user=lambda pd, user: user.astype("category")),
    "pandas: objects": lambda: of_pandas(user=lambda pd, user: user.astype(object)),
    "narwhals": lambda: pytest.importorskip("narwhals").from_native(of_pandas()),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_table_is_read_as_the_same_log(kind):
    columns = data.Columns(time="time", rating="rating")
    options = {"columns": columns, "behaviours": data.Behaviour.LIKE}
    found, report = data.from_frame(FRAMES[kind](), **options)
    expected, of_expected = data.from_frame(polars_frame(), **options)
    assert (found.users, found.items, report.counts) == (expected.users, expected.items, of_expected.counts)
    assert found.items.names[1] == str(2**53 + 1)
    for name in ("user", "item", "time", "rating", "behaviour"):
        np.testing.assert_array_equal(getattr(found.interactions, name), getattr(expected.interactions, name))


def test_missing_values_of_every_kind_are_missing():
    pandas = pytest.importorskip("pandas")
    users = [None, float("nan"), pandas.NA, pandas.NaT, np.datetime64("NaT", "s"), "ann"]
    frame = {"user": users, "item": range(6), "time": [*TIMES.tolist(), pandas.NaT, TIMES[0].item()]}
    _, report = data.from_frame(frame, data.Columns(time="time"), on_bad="drop")
    assert (report.kept, report.counts) == (1, {"missing_user": 5, "bad_time": 1})
    assert as_lazy(pandas.DataFrame({"a": pandas.array([1, None], "Int64")})).collect()["a"].to_list() == ["1", None]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([("ann", 1)], "Cannot read a log from list; give a polars, pandas or pyarrow table"),
        (np.zeros((2, 2)), "Cannot read a log from ndarray"),
        ({"user": ["ann"], "item": [1, 2]}, r"one length, got \{'user': 1, 'item': 2\}"),
        ({"user": ["ann"], "thing": [1]}, "There is no column 'item'; the columns are"),
    ],
)
def test_what_is_no_table(frame, message):
    with pytest.raises(ValueError, match=message):
        data.from_frame(frame)
