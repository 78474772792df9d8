"""Rows that cannot be used: counts and line numbers against cases by hand and a naive reader."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import data
from recjax.data import BadRowsError, Columns
from recjax.data.validate import kinds_to_drop

COLUMNS = Columns(time="t", rating="stars", behaviour="did")
HAND = """user,item,t,stars,did
a,x,1500000000,5,rating

"multi
line",x,1500000001,4,rating
,x,1500000002,4,rating
b,,1500000003,4,rating
b,y,soon,4,rating
b,y,,4,rating
c,z,1500000004,-1,rating
c,z,1500000005,good,rating
c,z,1500000006,,rating
c,z,1500000006,,view
c,z,1500000006,nan,view
c,z,1500000007,3,bought?
a,x,1500000000,2,rating
a,x,1500000000,,view
 ,"",never,-2,rating
"""
LINES = {
    "missing_user": (6, 18),
    "missing_item": (7, 18),
    "doubtful_user": (4,),
    "bad_time": (8, 9, 18),
    "bad_rating": (11, 12, 14),
    "negative_rating": (10, 18),
    "bad_behaviour": (15,),
    "duplicate": (16,),
}


def read(tmp_path, text, name="log.csv", **options):
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return data.read(tmp_path / name, COLUMNS, **options)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_lines_by_hand(tmp_path, name):
    with pytest.raises(BadRowsError) as raised:
        read(tmp_path, HAND, name)
    report = raised.value.report
    assert report.lines == LINES
    assert report.counts == {kind: len(lines) for kind, lines in LINES.items()}
    assert report.rows == 15
    message = str(raised.value)
    assert "missing_user: 2 (no user id; not settled); line 6, 18" in message
    assert "on_bad='drop'" in message
    assert "allow={'doubtful_user', 'negative_rating', 'duplicate'}" in message
    assert isinstance(raised.value, ValueError)


def test_dropped_when_told_so(tmp_path):
    found, report = read(tmp_path, HAND, on_bad="drop", allow={"doubtful_user"})
    assert found.users.names == ("a", "multi\nline", "c")
    assert found.items.decode(found.interactions.item) == ["x", "x", "z", "x"]
    np.testing.assert_array_equal(found.interactions.rating, [5, 4, np.nan, np.nan])
    assert (report.kept, report.unsettled) == (4, ())
    assert report.lines == LINES
    assert "duplicate: 1" in str(report)


def test_only_the_named_kinds_are_dropped(tmp_path):
    text = "user,item,t,stars,did\na,x,1500000000,5,rating\n,x,1500000000,5,rating\nb,x,1500000000,-5,rating\n"
    with pytest.raises(BadRowsError, match="negative_rating: 1") as raised:
        read(tmp_path, text, on_bad={"missing_user"})
    assert raised.value.report.unsettled == ("negative_rating",)
    found, report = read(tmp_path, text, on_bad={"missing_user"}, allow={"negative_rating"})
    assert found.interactions.rating.tolist() == [5, -5]
    assert report.counts == {"missing_user": 1, "negative_rating": 1}
    assert "negative_rating: 1 (a rating below 0; kept); line 4" in str(report)


def test_duplicates_can_be_kept_and_ignore_time_where_there_is_none(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\na,x\na,y\na,x\na,x\n")
    with pytest.raises(BadRowsError) as raised:
        data.read(tmp_path / "log.csv")
    assert raised.value.report.lines == {"duplicate": (4, 5)}
    assert len(data.read(tmp_path / "log.csv", allow={"duplicate"})[0].interactions) == 4
    assert len(data.read(tmp_path / "log.csv", on_bad={"duplicate"})[0].interactions) == 2


def test_only_the_first_lines_are_listed(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n" + ",x\n" * 30)
    with pytest.raises(BadRowsError, match=r"missing_user: 30 .*line 2, 3, 4, 5, 6, \.\.\."):
        data.read(tmp_path / "log.csv")


def test_lines_of_other_formats(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"user": "a", "item": "x"}\n\n{"user": null, "item": "x"}\n{"item": "y"}\n')
    (tmp_path / "log.dat").write_text("a::x\n\n::x\n")
    pl.DataFrame({"user": ["a", None], "item": ["x", "y"]}).write_parquet(tmp_path / "log.parquet")
    for name, options, lines in [
        ("log.jsonl", {}, (3, 4)),
        ("log.dat", {"columns": Columns(0, 1), "separator": "::", "header": False}, (3,)),
        ("log.parquet", {}, (2,)),
    ]:
        with pytest.raises(BadRowsError) as raised:
            data.read(tmp_path / name, **options)
        assert raised.value.report.lines == {"missing_user": lines}, name


def test_all_rows_bad_leaves_an_empty_log(tmp_path):
    found, report = read(tmp_path, "user,item,t,stars,did\n,x,1500000000,1,rating\n", on_bad="drop")
    assert (len(found.interactions), found.num_users, report.kept) == (0, 0, 0)
    found, _ = read(tmp_path, "user,item,t,stars,did\n")
    assert len(found.interactions) == 0


@pytest.mark.parametrize(
    ("on_bad", "allow", "message"),
    [
        ("ignore", (), "'ignore'"),
        ({"missing"}, (), "missing_user"),
        ("raise", {"missing_user"}, "can be kept"),
        ("raise", "duplicate", "can be kept"),
        ({"duplicate"}, {"duplicate"}, "at once"),
    ],
)
def test_arguments(on_bad, allow, message):
    with pytest.raises(ValueError, match=message):
        kinds_to_drop(on_bad, allow)


cells = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["a", "b", "", None]),
        "item": st.sampled_from(["x", "y", " ", None]),
        "t": st.sampled_from(["1500000000", "1500000001", "x", ""]),
        "stars": st.sampled_from(["3", "-1", "inf", "three", ""]),
        "did": st.sampled_from(["view", "rating", "???", None]),
    }
)


def naive_report(records) -> tuple[dict[str, list[int]], list[int]]:
    found: dict[str, list[int]] = {}
    seen, kept = set(), []
    for line, record in enumerate(records, start=1):
        problems = []
        if not (record["user"] or "").strip():
            problems.append("missing_user")
        if not (record["item"] or "").strip():
            problems.append("missing_item")
        if not record["t"].isdigit():
            problems.append("bad_time")
        if record["stars"] in ("inf", "three") or (record["stars"] == "" and record["did"] == "rating"):
            problems.append("bad_rating")
        if record["stars"] == "-1":
            problems.append("negative_rating")
        if record["did"] not in ("view", "rating"):
            problems.append("bad_behaviour")
        key = tuple(record[name] for name in ("user", "item", "t", "did"))
        if not problems and key in seen:
            problems.append("duplicate")
        if not problems:
            seen.add(key)
            kept.append(line)
        for problem in problems:
            found.setdefault(problem, []).append(line)
    return found, kept


@settings(max_examples=60, deadline=None)
@given(st.lists(cells, min_size=1, max_size=12))
def test_reports_agree_with_a_naive_reader(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    found, report = data.read(path, COLUMNS, time_format="s", on_bad="drop")
    expected, kept = naive_report(records)
    assert report.counts == {kind: len(lines) for kind, lines in expected.items()}
    assert report.lines == {kind: tuple(lines[:5]) for kind, lines in expected.items()}
    assert found.users.decode(found.interactions.user) == [records[line - 1]["user"] for line in kept]
    assert found.items.decode(found.interactions.item) == [records[line - 1]["item"] for line in kept]
