"""Values that a log cannot hold and files that are not what they were said to be: the right value or a clear error."""

from __future__ import annotations

import gzip
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

from recjax import data
from recjax.data import Columns, IdMap, Interactions, SeenItems
from recjax.types import PAD_ID


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        ("user", [0, 2**32 + 5], "row 1 holds 4294967301"),
        ("user", np.array([3e9], np.uint32), "row 0 holds 3000000000"),
        ("user", [2**130], "row 0 holds 1361129467683753853853498429727072845824"),
        ("item", [1.9], r"row 0 holds 1\.9"),
        ("item", [np.nan], "row 0 holds nan"),
        ("item", [3, None], "row 1 holds None"),
        ("item", [-1], "row 0 holds -1"),
        ("user", ["a"], "whole numbers, got an array of"),
        ("time", [2**63 - 1], "row 0 holds 9223372036854775807"),
        ("time", [1583150645000], "divide milliseconds"),
        ("time", np.array(["NaT"], "M8[ns]"), "row 0 holds NaT"),
        ("time", np.array([2**40], "M8[Y]"), "years 1 to 9999"),
        ("rating", [1.0, np.inf], "row 1 holds inf"),
        ("rating", [1e39], r"row 0 holds 1e\+39"),
        ("rating", ["5"], "must be numbers"),
        ("behaviour", [300], "row 0 holds 300"),
    ],
)
def test_columns_refuse_what_they_cannot_hold(column, values, shown):
    columns = {name: np.zeros(len(values), np.int64) for name in ("user", "item")}
    with pytest.raises(ValueError, match=rf"Interactions\.{column}.*{shown}"):
        Interactions(**{**columns, column: values})


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_times_of_any_unit_are_seconds(unit):
    times = np.array(["2020-03-02", "1969-12-31"], f"M8[{unit}]")
    assert Interactions([0, 0], [0, 0], time=times).time.tolist() == [1583107200, -86400]


def test_parts_of_a_second_are_cut_off_towards_the_past():
    assert Interactions([0], [0], time=np.array([-1], "M8[ns]")).time.tolist() == [-1]


def test_ids_of_a_data_set_have_names():
    with pytest.raises(ValueError, match="interactions has the user 5 in row 0, but there are 1 names of users"):
        data.Dataset("d", Interactions([5], [0]), IdMap(("u",)), IdMap(("a",)))
    with pytest.raises(ValueError, match="item 2 in row 0"):
        data.Dataset("d", Interactions([0], [2]), IdMap(("u",)), IdMap(("a",)))
    with pytest.raises(ValueError, match="titles has 2 rows for 1 items"):
        data.Dataset("d", Interactions([0], [1]), IdMap(("u",)), IdMap(("a",)), titles=("A", "B"))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "s"), ""])
def test_missing_values_name_nobody(missing):
    assert IdMap(("a",)).encode(["a", missing]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="row 1 has none"):
        IdMap.fit(["a", missing])


def test_numbers_as_ids_are_exact():
    assert IdMap.fit([2**53 + 1, 2**53, 2**130, 7.0, "7"]).names == (
        *("9007199254740993", "9007199254740992", "1361129467683753853853498429727072845824", "7"),
    )
    with pytest.raises(ValueError, match=r"Row 1 has the id 9007199254740992.0"):
        IdMap.fit([2**53 + 1, float(2**53)])
    with pytest.raises(ValueError, match=r"Row 0 has the id 9007199254740992.0"):
        data.from_frame(pl.DataFrame({"user": [float(2**53)], "item": ["x"]}))
    found, _ = data.from_frame(pl.DataFrame({"user": [42.0, None, 0.5], "item": ["x"] * 3}), on_bad="drop")
    assert found.users.names == ("42", "0.5")
    with pytest.raises(ValueError, match="a list, got the text 'abc'"):
        IdMap.fit("abc")
    with pytest.raises(ValueError, match="got 1"):
        IdMap((1, 2))


@pytest.mark.parametrize("user", [-1, 4, 99])
def test_users_outside_the_log_are_refused_or_padding(user):
    log = data.sequences(Interactions([0, 1, 3, 3], [5, 6, 7, 8], time=[1, 2, 3, 4]), 4)
    calls = (data.last_histories, data.last_times, data.observations)
    for call in calls:
        with pytest.raises(ValueError, match=rf"users\[1\] is {user}; the log has 4 users"):
            call(log, 2, jnp.array([0, user]))
    with pytest.raises(ValueError, match=rf"positions\[0\] is {user}"):
        data.windows(log, jnp.array([user]), 2)
    context = jnp.arange(1.0, 5.0)[:, None]
    traced = jax.jit(lambda users: data.observations(log, 2, users, context=context))(jnp.array([user, 3]))
    assert traced.history.tolist() == [[PAD_ID, PAD_ID], [7, 8]]
    assert traced.behaviour[0].tolist() == [PAD_ID, PAD_ID]
    assert traced.time[0].tolist() == [0, 0]
    assert traced.context.tolist() == [[0.0], [4.0]]
    windows = jax.jit(lambda at: data.windows(log, at, 2)[0])(jnp.array([user, 3]))
    assert windows.tolist() == [[PAD_ID, PAD_ID], [PAD_ID, 7]]
    with pytest.raises(ValueError, match="one column of integers"):
        data.last_histories(log, 2, jnp.array([0.5]))


def test_seen_items_are_the_sets_of_a_log():
    rng = np.random.default_rng(0)
    log = Interactions(rng.integers(0, 5, 60), rng.integers(0, 20, 60))
    seen = SeenItems.of(log, 7)
    assert len(seen) == 7
    everyone = seen.rows(np.arange(7))
    assert everyone.shape[1] == seen.width == 16
    for user, row in enumerate(everyone.tolist()):
        assert [item for item in row if item != PAD_ID] == sorted(set(log.item[log.user == user].tolist()))
    assert seen.rows(np.array([6, 5])).tolist() == [[PAD_ID], [PAD_ID]]
    assert seen.rows(np.array([], np.int64)).shape == (0, 1)
    for bad in (-1, 7):
        with pytest.raises(ValueError, match=rf"users\[0\] is {bad}; there are 7 users"):
            seen.rows(np.array([bad]))


def test_memory_of_seen_items_follows_the_events():
    users, longest = 4_000, 200_000
    log = Interactions(np.r_[np.arange(users), np.zeros(longest)], np.r_[np.zeros(users), np.arange(longest)])
    tracemalloc.start()
    seen = SeenItems.of(log, users)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(seen.items) == users + longest - 1
    assert peak < 60 * len(log)  # a row of the longest for each user is 4 bytes × 4,000 × 200,000


@pytest.mark.parametrize(
    ("times", "fractions", "sizes"),
    [
        (range(10), (0.7, 0.1, 0.2), [7, 1, 2]),
        (range(10), (1.0, 0.0, 0.0), [10, 0, 0]),
        (range(10), (0.0, 0.0, 1.0), [0, 0, 10]),
        (range(10), (0.5, 0.0, 0.5), [5, 0, 5]),
        (np.repeat(range(5), 200), (0.8, 0.2, 0.0), [800, 200, 0]),
        (np.repeat(range(5), 200), (0.7, 0.2, 0.1), [600, 200, 200]),
    ],
)
def test_shares_of_a_split_by_time(times, fractions, sizes):
    log = Interactions(np.zeros(len(times)), np.zeros(len(times)), time=list(times))
    split = data.global_time(log, fractions=fractions)
    assert [len(part) for part in (split.train, split.validation, split.test)] == sizes


def read(tmp_path, text, columns=Columns(), name="log.csv", **options):  # noqa: B008
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(content)
    return data.read(tmp_path / name, columns, **options)


@pytest.mark.parametrize("word", ["NaN", "null", "None", "NA"])
def test_words_for_missing_values_are_no_users_unless_told(tmp_path, word):
    text = f"user,item\na,x\n{word},x\n"
    with pytest.raises(data.BadRowsError, match=r"doubtful_user: 1 .*line 3"):
        read(tmp_path, text)
    assert read(tmp_path, text, on_bad="drop")[0].users.names == ("a",)
    assert read(tmp_path, text, allow={"doubtful_user"})[0].users.names == ("a", word)


def test_blanks_around_ids_are_taken_off_and_counted(tmp_path):
    found, report = read(tmp_path, "user,item\na,x\n a ,y\nb,x \n")
    assert (found.users.names, found.items.names) == (("a", "b"), ("x", "y"))
    assert report.mended == {"blanks": 2}
    assert "blanks: 2 (blanks around an id, taken off); line 3, 4" in str(report)


@pytest.mark.parametrize("other", ["1583150645000", "1583150645000000", "1583150645000000000"])
def test_one_unit_for_all_times(tmp_path, other):
    text = f"user,item,t\na,x,1583150645\na,y,{other}\n"
    with pytest.raises(data.BadRowsError, match=r"mixed_time: 1 .*line 3\n.*taken for 's'"):
        read(tmp_path, text, Columns(time="t"))
    turned = f"user,item,t\na,x,{other}\na,y,1583150645\n"
    with pytest.raises(data.BadRowsError, match=r"mixed_time: 1 .*line 3"):
        read(tmp_path, turned, Columns(time="t"))
    with pytest.raises(data.BadRowsError, match=r"bad_time: 1 .*line 3"):
        read(tmp_path, "user,item,t\na,x,1583150645\na,y,9223372036854775807\n", Columns(time="t"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-01-01T00:30Z", 1577838600),
        ("2020-01-01 00:30:15,25", 1577838615),
        ("2020-01-01T00:30:15+01", 1577835015),
        ("1.577838615e9", 1577838615),
        ("1577838615000000000", 1577838615),
    ],
)
def test_more_forms_of_time(tmp_path, text, seconds):
    found, _ = read(tmp_path, f'user,item,t\na,x,"{text}"\n', Columns(time="t"))
    assert found.interactions.time.tolist() == [seconds]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ('user,item\na,x\nb,12" vinyl\nc,z\n', {}, r"log\.csv, line 3: a quote inside a field.*quote=None"),
        ('user,item\na,12" vinyl\nb,y\nc,7" single\n', {}, r"log\.csv, line 2: a quote inside a field.*quote=None"),
        (
            'user,item,t\na,"x,1\n' + "b,y,2\n" * 50 + 'c,z",3\nd,w,4\n',
            {},
            r"line 2: a quote opens a field that goes on to line 53 and swallows.*quote=None",
        ),
        ('user,item\na,"x\nb,y\n', {}, "line 2: a quote opens a field that is never closed"),
        ("1,2,978300760\n1,3,978302109\n", {"columns": Columns(0, 1, time=2)}, "first line looks like data.*header=F"),
        ("a::b\nx::y::z\n", {"columns": Columns("a", "b"), "separator": "::"}, "line 2 has 3 fields where the first"),
    ],
)
def test_files_that_are_not_what_they_were_said_to_be(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, **options)


def test_what_such_files_are_when_told(tmp_path):
    assert read(tmp_path, 'user,item\na,12" vinyl\nb,y\n', quote=None)[0].items.names == ('12" vinyl', "y")
    told = read(tmp_path, "1,2,978300760\n1,3,978302109\n", Columns(0, 1, time=2), header=False)
    assert len(told[0].interactions) == 2
    plain = read(tmp_path, "0,1,2\n1,3,978302109\n", Columns(0, 1, time=2))  # the header of nameless columns
    assert len(plain[0].interactions) == 1


def test_a_mark_of_byte_order_before_json(tmp_path):
    lines = b'\xef\xbb\xbf{"user": 9007199254740993, "item": "x"}\n{"user": 9007199254740992, "item": "x"}\n'
    for name, content in (("log.jsonl", lines), ("log.jsonl.gz", gzip.compress(lines))):
        assert read(tmp_path, content, name=name)[0].users.names == ("9007199254740993", "9007199254740992")
    with pytest.raises(ValueError, match=r"line 1 cannot be read as JSON .*more than 64 bits; write it as text"):
        read(tmp_path, b'{"user": 1361129467683753853853498429727072845824, "item": 1}\n', name="log.jsonl")


def test_damaged_files_are_named(tmp_path):
    whole = gzip.compress(b"user,item\n" + b"".join(b"%d,x\n" % i for i in range(5000)))
    with pytest.raises(ValueError, match=r"log\.csv\.gz is damaged"):
        read(tmp_path, whole[: len(whole) // 2], name="log.csv.gz")
    with pytest.raises(ValueError, match=r"log\.csv: There is no column 'who'"):
        read(tmp_path, "user,item\na,x\n", Columns("who"))


def test_words_without_a_meaning_are_named_with_their_counts(tmp_path):
    text = "user,item,did\na,x,view\na,y,add_to_cart\nb,y,add_to_cart\na,z,checkout\n"
    with pytest.raises(
        data.BadRowsError, match=r"'add_to_cart' 2, 'checkout' 1.*(.|\n)*behaviours=\{\*\*data"
    ) as raised:
        read(tmp_path, text, Columns(behaviour="did"))
    assert raised.value.report.unknown_behaviours == {"add_to_cart": 2, "checkout": 1}
    words = {**data.BEHAVIOURS, "add_to_cart": data.Behaviour.CART, "checkout": data.Behaviour.PURCHASE}
    assert len(read(tmp_path, text, Columns(behaviour="did"), behaviours=words)[0].interactions) == 4
    with pytest.raises(ValueError, match="'buy' stands for 300"):
        read(tmp_path, text, Columns(behaviour="did"), behaviours={"buy": 300})


def test_infinite_features_are_missing():
    values = np.array([[1.0], [3.0], [np.inf], [-np.inf]])
    assert data.Standardiser.fit(values).encode(values, indicate_missing=True).tolist() == [
        *([-1, 0], [1, 0], [0, 1], [0, 1]),
    ]


def test_keys_of_item_files_are_matched_as_ids(tmp_path):
    log, _ = data.from_frame(pl.DataFrame({"user": ["u"] * 3, "item": ["10", "20", "30"]}))
    (tmp_path / "items.csv").write_text("item,name,price\n10.0,Ten,1\n20 ,Twenty,inf\n99,Other,cheap\n")
    columns = data.ItemColumns(title="name", numeric=("price",))
    found, report = data.with_item_file(log, tmp_path / "items.csv", columns)
    assert found.titles == ("Ten", "Twenty", "")
    np.testing.assert_array_equal(found.numeric[:, 0], [1, np.nan, np.nan])
    assert (report.rows, report.used, report.ids, report.without_row, report.unused) == (3, 2, 3, ("30",), ("99",))
    assert report.not_numbers == {"price": 1}
    (tmp_path / "items.csv").write_text("item,name\nB01,Ten\n")
    with pytest.raises(ValueError, match=r"no row belongs to any item.*'B01'.*'10', '20', '30'"):
        data.with_item_file(log, tmp_path / "items.csv", columns)
    both, _ = data.from_frame(pl.DataFrame({"user": ["u", "u"], "item": ["10", "10.0"]}))
    (tmp_path / "items.csv").write_text("item,name\n10,Ten\n10.0,Other\n")
    assert data.with_item_file(both, tmp_path / "items.csv", data.ItemColumns(title="name"))[0].titles == (
        "Ten",
        "Other",
    )
