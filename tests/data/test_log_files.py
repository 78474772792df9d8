"""Your own files: what is guessed, what a schema says, titles from two places, and what is wrong in one message."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from recjax import data
from recjax.data import LogSchema
from recjax.data.log_schema import behaviours_of
from recjax.data.usual_names import guess_log

ROWS = "ann,10,2024-05-01T20:15:00+02:00,5\nbob,20,2024-05-01T21:00Z,4\nann,20,2024-05-02T20:15:00Z,1\n"


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("userId", "movieId", "rating", "timestamp"), {"user": "userId", "item": "movieId", "time": "timestamp"}),
        (("visitorid", "itemid", "event", "ts"), {"user": "visitorid", "item": "itemid", "behaviour": "event"}),
        (("Customer ID", "Product_ID", "Date", "Stars"), {"user": "Customer ID", "time": "Date", "rating": "Stars"}),
        (("session", "user_id", "track_id"), {"user": "user_id", "item": "track_id"}),
        (("user", "item", "propensity_score"), {"propensity": "propensity_score"}),
    ],
)
def test_usual_names_are_guessed(names, expected):
    schema, guessed = guess_log(LogSchema(), names, "log.csv")
    assert expected.items() <= guessed.items()
    assert all(getattr(schema, what) == column for what, column in guessed.items())


def test_what_is_given_is_not_guessed_and_not_taken_twice():
    schema, guessed = guess_log(LogSchema(user="item", item="user"), ("user", "item", "date", "time"), "log.csv")
    assert (schema.user, schema.item, schema.time, guessed) == ("item", "user", "time", {"time": "time"})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_formats_give_the_same_log(tmp_path, suffix):
    frame = pl.DataFrame(
        {"who": ["ann", "bob", "ann"], "what": [10, 20, 20], "at": [1_700_000_000, 1_700_000_100, 1_700_000_200]}
    )
    path = tmp_path / f"log{suffix}"
    {
        ".csv": frame.write_csv,
        ".tsv": lambda file: frame.write_csv(file, separator="\t"),
        ".jsonl": frame.write_ndjson,
        ".parquet": frame.write_parquet,
    }[suffix](path)
    read = data.read_log(path, LogSchema(user="who", item="what", time="at"))
    assert read.dataset.users.names == ("ann", "bob")
    assert read.dataset.items.names == ("10", "20")
    assert read.dataset.interactions.time.tolist() == [1_700_000_000, 1_700_000_100, 1_700_000_200]
    assert read.guessed == {}


def test_titles_and_features_come_from_a_file_of_items(write):
    log = write("log.csv", "user,item,time,stars\n" + ROWS)
    items = write("items.csv", "id,name,genres,price\n20,Brazil,a|b,3\n10,Alien,b,\n30,Casablanca,a,1\n")
    read = data.read_log(log, LogSchema(items_key="id", numeric=("price",)), items)
    assert read.dataset.titles == ("Alien", "Brazil")
    assert read.dataset.genres == ("a", "b")
    np.testing.assert_array_equal(read.dataset.numeric, [[np.nan], [3.0]])
    assert (read.about_items.rows, read.about_items.used) == (3, 2)
    assert {"title": "name", "categories": "genres"}.items() <= read.guessed.items()


def test_titles_come_from_the_log_itself(write):
    rows = 'user,item,product_name,tag\nann, 10 ,"Alien, the film",x;y\nbob,20,Brazil,\nann,10,another,z\nbob,10,,\n'
    read = data.read_log(write("log.csv", rows), LogSchema(categories="tag", category_separator=";"))
    assert read.dataset.titles == ("Alien, the film", "Brazil")
    assert read.dataset.multi_hot.tolist() == [[1, 1], [0, 0]]
    assert read.guessed["title"] == "product_name"


@pytest.mark.parametrize(
    ("schema", "unread"),
    [(LogSchema(), ("fecha", "nota", "tag")), (LogSchema(time="fecha", rating="nota", categories="tag"), ())],
)
def test_columns_that_nothing_was_read_from_are_named(write, schema, unread):
    log = write("log.csv", "user,item,fecha,nota,title,tag\nann,10,2026-01-01T00:00Z,5,Alien,x\n")
    assert data.read_log(log, schema).unread == unread
    items = write("items.csv", "item,title\n10,Alien\n")
    read = data.read_log(log, LogSchema(time="fecha", rating="nota"), items)
    assert read.unread == ("title", "tag")


def test_titles_of_a_table_with_numbers_for_ids(tmp_path):
    frame = pl.DataFrame({"user": [1, 2, 1], "item": [10.0, 20.0, 10.0], "title": ["Alien", "Brazil", "other"]})
    frame.write_parquet(tmp_path / "log.parquet")
    dataset = data.read_log(tmp_path / "log.parquet", LogSchema(allow=("duplicate",))).dataset
    assert (dataset.items.names, dataset.titles) == (("10", "20"), ("Alien", "Brazil"))


def test_repeats_are_left_out_unless_they_are_allowed(write):
    path = write("log.csv", "user,item\nann,1\nann,1\nbob,1\n")
    assert data.read_log(path).report.kept == 2
    assert data.read_log(path, LogSchema(allow=("duplicate",))).report.kept == 3
    with pytest.raises(data.BadRowsError, match="duplicate: 1"):
        data.read_log(path, LogSchema(on_bad=("raise",)))
    bad = write("bad.csv", "user,item,time\nann,1,2024-01-01\n,1,2024-01-01\nbob,1,never\nbob,1,2024-01-02\n")
    with pytest.raises(data.BadRowsError, match="missing_user: 1"):
        data.read_log(bad)
    assert data.read_log(bad, LogSchema(on_bad=("drop",))).report.kept == 2


def test_propensities_are_kept_beside_the_log(write):
    rows = "user,item,event,pscore\nann,1,impression,.5\nann,2,click,.25\n"
    dataset = data.read_log(write("log.csv", rows)).dataset
    assert dataset.extras["propensity"].tolist() == [0.5, 0.25]
    assert [data.Behaviour(code).name for code in dataset.interactions.behaviour] == ["IMPRESSION", "CLICK"]


def test_a_file_without_a_header(write):
    path = write("log.dat", "ann::10::5::978300760\nbob::20::4::978302109\n")
    schema = LogSchema(user="0", item="1", rating="2", time="3", header=False, separator="::")
    dataset = data.read_log(path, schema).dataset
    assert (dataset.users.names, dataset.interactions.rating.tolist()) == (("ann", "bob"), [5.0, 4.0])


def test_a_schema_is_written_and_read_again(tmp_path):
    schema = LogSchema(user="visitor", behaviours=("view=view",), header=False, numeric=("price",), title="ä")
    data.write_schema(tmp_path / "schema.json", schema, "items.csv")
    assert data.read_schema(tmp_path / "schema.json") == (schema, "items.csv")
    (tmp_path / "schema.toml").write_text('user = "visitor"\nbehaviours = ["view=view"]\nheader = false\n')
    assert data.read_schema(tmp_path / "schema.toml") == (
        LogSchema(user="visitor", behaviours=("view=view",), header=False), None,
    )  # fmt: skip
    assert LogSchema(item="i").over(LogSchema(user="u", item="j")) == LogSchema(user="u", item="i")
    assert json.loads((tmp_path / "schema.json").read_text())["title"] == "ä"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "{", "is not JSON"),
        ("s.toml", "user = ", "is not TOML"),
        ("s.json", "[1]", r"has \[1\], which is no field"),
        ("s.json", '{"usr": "a"}', r"has \['usr'\], which is no field of one; it may have items, user, item"),
        ("s.json", '{"user": 3}', "user is 3; it must be text"),
        ("s.json", '{"items": 3}', "items is 3; it must be text"),
        ("s.json", '{"header": "no"}', "header is 'no'; it must be true or false"),
        ("s.json", '{"numeric": "price"}', "numeric is 'price'; it must be a list of texts"),
    ],
)
def test_a_schema_that_is_none(write, name, text, message):
    with pytest.raises(ValueError, match=message):
        data.read_schema(write(name, text))


def test_a_schema_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read the schema .*none\.json"):
        data.read_schema(tmp_path / "none.json")


def test_words_for_behaviours():
    words = behaviours_of(["view=view,add_to_cart=cart", "a=b=purchase"], has_column=True)
    assert (words["add_to_cart"], words["a=b"], words["buy"]) == (
        data.Behaviour.CART, data.Behaviour.PURCHASE, data.Behaviour.PURCHASE,
    )  # fmt: skip
    assert behaviours_of(["like"], has_column=False) is data.Behaviour.LIKE
    assert behaviours_of([], has_column=False) is data.BEHAVIOURS


@pytest.mark.parametrize(
    ("given", "has_column", "message"),
    [
        (["cart"], True, "'cart'; write word=behaviour"),
        (["=cart"], True, "'=cart'; write word=behaviour"),
        (["view=veiw"], True, "no behaviour 'veiw'; there are view, click, cart"),
        (["veiw"], False, "no behaviour 'veiw'"),
        (["view=view"], False, "no column of words is named"),
    ],
)
def test_words_that_mean_nothing(given, has_column, message):
    with pytest.raises(ValueError, match=message):
        behaviours_of(given, has_column=has_column)


@pytest.mark.parametrize(
    ("header", "schema", "message"),
    [
        ("a,b", LogSchema(), r"no column has a usual name for users; the columns are \['a', 'b'\]. Say .* --user"),
        ("user,b", LogSchema(), "no column has a usual name for items"),
        ("user,item", LogSchema(user="usr"), "there is no column 'usr'.* Did you mean 'user'"),
        ("user,item", LogSchema(time="when"), "there is no column 'when'"),
        ("user,item", LogSchema(numeric=("price",)), "there is no column 'price'"),
        ("user,item", LogSchema(categories="genre"), "there is no column 'genre'"),
        ("user,item", LogSchema(allow=("bad_time",)), "allow must be a set of"),
        ("user,item", LogSchema(on_bad=("everything",)), "on_bad must be"),
    ],
)
def test_columns_that_are_not_there(write, header, schema, message):
    with pytest.raises(ValueError, match=message):
        data.read_log(write("log.csv", header + "\nann,1\nbob,2\n"), schema)


def test_files_that_are_not_there(write, tmp_path):
    with pytest.raises(ValueError, match=r"There is no file .*none\.csv"):
        data.read_log(tmp_path / "none.csv")
    log = write("log.csv", "user,item\nann,1\n")
    with pytest.raises(ValueError, match=r"There is no file .*none\.csv"):
        data.read_log(log, items=tmp_path / "none.csv")
    other = write("other.csv", "title\nAlien\n")
    with pytest.raises(ValueError, match=r"other\.csv: there is no column 'item'.*items_key"):
        data.read_log(log, items=other)
    with pytest.raises(ValueError, match="no row belongs to any item of the log"):
        data.read_log(log, items=write("items.csv", "item,title\n9,Alien\n"))
