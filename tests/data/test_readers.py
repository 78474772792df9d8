"""Readers against files written and parsed by the standard library."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import data
from recjax.data import Columns, readers, times
from recjax.data.columns import NULL_WORDS
from recjax.types import Behaviour

FULL = Columns("user", "item", time="when", rating="stars", behaviour="did")
WORDS = ("view", "Buy", "rating")

field = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=5)
ident = field.filter(
    lambda text: text == text.strip() != "" and not {"\x1f", "\n"} & set(text) and "::" not in f":{text}:"
).filter(lambda text: text not in NULL_WORDS)
rows_of_logs = st.lists(
    st.tuples(
        ident, ident, st.integers(0, 2_000_000_000), st.integers(0, 10).map(lambda n: n / 2), st.sampled_from(WORDS)
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: (row[0], row[1], row[2], row[4]),
)


def csv_text(rows, separator=",", header=True, quote=True) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_NONE)
    writer.writerows(([("user", "item", "when", "stars", "did")] if header else []) + rows)
    return out.getvalue()


def save(path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def check(found: data.Dataset, rows) -> None:
    """The data set has exactly ``rows``, in order."""
    log = found.interactions
    assert found.users.decode(log.user) == [row[0] for row in rows]
    assert found.items.decode(log.item) == [row[1] for row in rows]
    assert log.time.tolist() == [row[2] for row in rows]
    assert log.rating.tolist() == [row[3] for row in rows]
    assert log.behaviour.tolist() == [
        {"view": Behaviour.VIEW, "buy": Behaviour.PURCHASE, "rating": Behaviour.RATING}[row[4].lower()] for row in rows
    ]
    assert found.users.names == tuple(dict.fromkeys(row[0] for row in rows))


@settings(max_examples=40, deadline=None)
@given(rows_of_logs, st.sampled_from(["log.csv", "log.tsv", "log.csv.gz"]), st.booleans())
def test_delimited_text(tmp_path_factory, rows, name, header):
    path = tmp_path_factory.mktemp("log") / name
    save(path, csv_text(rows, "\t" if ".tsv" in name else ",", header).encode())
    columns = FULL if header else Columns(0, 1, time=2, rating=3, behaviour=4)
    found, report = data.read(path, columns, header=header, time_format="s")
    check(found, rows)
    assert (report.rows, report.kept, report.counts) == (len(rows), len(rows), {})
    assert found.name == "log"


@settings(max_examples=25, deadline=None)
@given(rows_of_logs, st.booleans())
def test_separators_of_several_characters(tmp_path_factory, rows, header):
    path = tmp_path_factory.mktemp("log") / "ratings.dat"
    lines = ([("user", "item", "when", "stars", "did")] if header else []) + rows
    save(path, "".join("::".join(map(str, line)) + "\n" for line in lines).encode())
    columns = FULL if header else Columns("0", "1", time="2", rating="3", behaviour="4")
    found, _ = data.read(path, columns, separator="::", header=header, time_format="s")
    check(found, rows)


@settings(max_examples=25, deadline=None)
@given(rows_of_logs, st.sampled_from(["log.jsonl", "log.ndjson.gz", "log.parquet"]))
def test_json_lines_and_parquet(tmp_path_factory, rows, name):
    path = tmp_path_factory.mktemp("log") / name
    records = [dict(zip(("user", "item", "when", "stars", "did"), row, strict=True)) for row in rows]
    if name.endswith("parquet"):
        pl.DataFrame(records).write_parquet(path)
    else:
        save(path, "\n".join(json.dumps(record) for record in records).encode())
    found, _ = data.read(path, FULL, time_format="s")
    check(found, rows)
    found, _ = data.from_frame(pl.DataFrame(records), FULL, time_format="s")
    check(found, rows)


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_batches_do_not_show(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(readers, "BATCH_ROWS", batch)
    rows = [(f"u{i % 4}", f"i{i % 5}", 100 - i, float(i % 6), "view") for i in range(20)]
    save(tmp_path / "log.csv", csv_text([*rows, rows[0]]).encode())
    found, report = data.read(tmp_path / "log.csv", FULL, time_format="s", on_bad={"duplicate"})
    check(found, rows)
    assert report.lines == {"duplicate": (22,)}


def test_a_mark_of_byte_order_and_carriage_returns(tmp_path):
    save(tmp_path / "log.csv", b"\xef\xbb\xbfuser,item\r\na,x\r\n\r\nb,y\r\n")
    found, report = data.read(tmp_path / "log.csv")
    assert (found.users.names, found.items.names, report.rows) == (("a", "b"), ("x", "y"), 2)


def test_behaviour_of_logs_without_such_a_column(tmp_path):
    save(tmp_path / "log.csv", b"user,item,seconds\na,x,3\n")
    path = tmp_path / "log.csv"
    assert data.read(path)[0].interactions.behaviour.tolist() == [Behaviour.CLICK]
    assert data.read(path, Columns(rating="seconds"))[0].interactions.behaviour.tolist() == [Behaviour.RATING]
    played, _ = data.read(path, Columns(rating="seconds"), behaviours=Behaviour.PLAY)
    assert played.interactions.behaviour.tolist() == [Behaviour.PLAY]


def test_words_for_behaviours_can_be_chosen(tmp_path):
    save(tmp_path / "log.csv", b"user,item,did\na,x,Kaufen\na,y,ansehen\n")
    words = {"kaufen": Behaviour.PURCHASE, "Ansehen": Behaviour.VIEW}
    found, _ = data.read(tmp_path / "log.csv", Columns(behaviour="did"), behaviours=words)
    assert found.interactions.behaviour.tolist() == [Behaviour.PURCHASE, Behaviour.VIEW]


def test_extras_stay_beside_their_rows(tmp_path):
    save(tmp_path / "log.csv", b"user,item,t,price\na,x,2000,1.5\na,,2001,9\nb,y,2002.25,?\nb,x,2002.125,4\n")
    found, _ = data.read(
        tmp_path / "log.csv", Columns(time="t", extras=("price",)), time_format="s", on_bad={"missing_item"}
    )
    # 2002.125 comes before 2002.25 although both are second 2002 and the file has them the other way round
    assert found.items.decode(found.interactions.item) == ["x", "x", "y"]
    assert found.interactions.time.tolist() == [2000, 2002, 2002]
    np.testing.assert_array_equal(found.extras["price"], [1.5, 4, np.nan])


def test_ties_keep_file_order(tmp_path):
    save(tmp_path / "log.csv", b"user,item,t\n" + b"".join(b"u,%d,%d\n" % (i, 5 - i // 4) for i in range(12)))
    found, _ = data.read(tmp_path / "log.csv", Columns(time="t"), time_format="s")
    ordered = data.sequences(found.interactions, 1).items
    assert found.items.decode(ordered) == list(map(str, [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]))


@pytest.mark.parametrize(
    ("text", "time_format", "detected"),
    [
        ("1583150645", "s", "s"),
        ("1583150645000", "ms", "ms"),
        ("1583150645000000", "us", "us"),
        ("1583150645.0", "s", "s"),
        ("2020-03-02T12:04:05Z", "iso", "iso"),
        ("2020-03-02 14:04:05+02:00", "iso", "iso"),
        ("2020-03-02T12:04:05.000", "iso", "iso"),
        ("02/03/2020 12:04:05", "%d/%m/%Y %H:%M:%S", None),
        ("2 March 2020 12:04:05", "%d %B %Y %H:%M:%S", None),
    ],
)
def test_formats_of_time(tmp_path, text, time_format, detected):
    expected = int(datetime(2020, 3, 2, 12, 4, 5, tzinfo=UTC).timestamp())
    save(tmp_path / "log.csv", f"user,item,t\na,x,{text}\n".encode())
    columns = Columns(time="t")
    found, report = data.read(tmp_path / "log.csv", columns, time_format=time_format)
    assert found.interactions.time.tolist() == [expected]
    assert report.time_format == time_format
    if detected:
        assert data.read(tmp_path / "log.csv", columns)[1].time_format == detected


@pytest.mark.parametrize("text", ["20200302", "17", "yesterday"])
def test_times_that_could_mean_anything_are_refused(tmp_path, text):
    save(tmp_path / "log.csv", f"user,item,t\na,x,{text}\n".encode())
    with pytest.raises(ValueError, match=f"'{text}'.*time_format"):
        data.read(tmp_path / "log.csv", Columns(time="t"))


def test_dates_of_a_typed_column():
    frame = pl.DataFrame({"user": [1], "item": [2.5], "t": [datetime(2020, 3, 2, 12, 4, 5, 500_000)]})
    found, _ = data.from_frame(frame, Columns(time="t"))
    assert found.interactions.time.tolist() == [1583150645]
    assert found.items.names == ("2.5",)
    dates, _ = data.from_frame(frame.with_columns(pl.col("t").dt.date()), Columns(time=2))
    assert dates.interactions.time.tolist() == [1583107200]


@settings(max_examples=60, deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.sampled_from([" ", "T"]))
def test_iso_times_agree_with_the_standard_library(moment, between):
    text = moment.isoformat(sep=between)
    found = pl.select(times.parse(pl.lit(text), "iso")).item()
    assert found == (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("log.csv", "user,itm\na,x\n", {}, "no column 'item'.*Did you mean 'itm'"),
        ("log.csv", "a,x\n", {"columns": Columns(0, 5), "header": False}, "no column 5"),
        ("log.csv", "user,item\na,x\nb,y,z\n", {}, r"line 3 has 3 fields where the first line has 2"),
        ("log.csv", b"user,item\na,caf\xe9\n", {}, "not UTF-8"),
        ("log.csv", "", {}, "cannot be read as csv"),
        ("log.xls", "", {}, r"Cannot tell the format of '.*log\.xls'"),
        ("log.dat", "1 2\n", {}, "needs a separator"),
        ("log.jsonl", '{"user": 1\n', {}, "line 1 cannot be read as JSON"),
        (
            "log.csv",
            "user,item\na,x\n",
            {"columns": Columns(time="item"), "time_format": "hours"},
            "Unknown time_format 'hours'",
        ),
        (
            "log.csv",
            "user,item\na,x\n",
            {"columns": Columns(behaviour="item"), "behaviours": Behaviour.VIEW},
            "not both",
        ),
    ],
)
def test_errors(tmp_path, name, content, options, message):
    save(tmp_path / name, content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        data.read(tmp_path / name, **options)


def test_missing_files():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.read("nowhere.csv")


MEASURE = """
import resource, sys
from recjax.data import Columns, read
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
peaks = []
for path in sys.argv[1:]:
    report = read(path, Columns(time="t", rating="stars"))[1]
    peaks.append((peak(), report.kept))
print((peaks[1][0] - peaks[0][0]) / (peaks[1][1] - peaks[0][1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_grows_by_the_numeric_columns_and_not_by_the_text(tmp_path):
    paths = []
    for rows in (250_000, 1_250_000):
        at = np.arange(rows)
        table = {"user": at % 5000, "item": at % 997, "t": 1_500_000_000 + at, "stars": at % 5}
        paths.append(str(tmp_path / f"{rows}.csv"))
        pl.DataFrame(table).with_columns(pl.format("user-{}", "user").alias("user")).write_csv(paths[-1])
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    # 25 bytes of columns, as much again while they are joined, and the sort that finds duplicates;
    # the text of a row as Python objects would be 250 bytes and more
    assert float(done.stdout) < 200


def test_no_more_than_a_batch_of_text_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BATCH_ROWS", 100)
    held = []
    collect, batches = pl.LazyFrame.collect, pl.LazyFrame.collect_batches
    monkeypatch.setattr(pl.LazyFrame, "collect", lambda self, **kw: held.append(collect(self, **kw)) or held[-1])

    def watched(self, **options):
        for batch in batches(self, **options):
            held.append(batch)
            yield batch

    monkeypatch.setattr(pl.LazyFrame, "collect_batches", watched)
    save(tmp_path / "log.csv", b"user,item,t\n" + b"".join(b"u%d,i,%d\n" % (i, 1_500_000_000 + i) for i in range(1050)))
    assert len(data.read(tmp_path / "log.csv", Columns(time="t"))[0].interactions) == 1050
    assert sum(frame.height for frame in held if "user" in frame.columns) == 1050
    assert max(frame.height for frame in held) <= 100
