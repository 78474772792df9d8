"""The real data sets: what is known of each, counted. Each test skips with the reason where the data cannot be had."""

from __future__ import annotations

import functools
import gzip
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data
from recjax.types import Behaviour


@functools.lru_cache(maxsize=2)
def loaded(name: str, **options) -> data.Dataset:
    try:
        return data.load(name, **options)
    except data.UnavailableError as error:
        pytest.skip(f"{name}: {str(error).splitlines()[0]}")


def counts(dataset: data.Dataset) -> tuple[int, int, int]:
    return len(dataset.interactions), dataset.num_users, dataset.num_items


def test_movielens_100k():
    dataset = loaded("ml-100k")
    assert counts(dataset) == (100_000, 943, 1_682)
    described = dataset.describe()
    assert described["time_span"] == ["1997-09-20", "1998-04-22"]
    assert described["ratings"] == {"1": 6110, "2": 11370, "3": 27145, "4": 34174, "5": 21201}
    assert described["events_per_user"][0] == 20
    assert 0.75 < described["time_ties"] < 0.77
    log = dataset.interactions
    first = [dataset.users.decode(log.user[:3]), dataset.items.decode(log.item[:3]), log.time[:3].tolist()]
    assert first == [["196", "186", "22"], ["242", "302", "377"], [881250949, 891717742, 878887116]]
    assert len(dataset.genres) == 18
    assert dataset.title(0) == "Toy Story"
    assert [dataset.genres[g] for g in np.flatnonzero(dataset.multi_hot[0])] == ["Animation", "Children's", "Comedy"]
    assert np.isnan(dataset.numeric).sum() == 1
    assert dataset.context.shape == (943, 1 + 2 + 21)
    assert dataset.title(dataset.items.encode(["1412"])[0]) == "Land Before Time III: The Time of the Great Giving"
    items = data.item_features(dataset, data.leave_one_out(log).train)
    assert items.num_items == 1_682
    assert float(items.popularity.sum()) == 100_000 - 2 * 943
    assert int(items.is_new.sum()) == 168
    assert items.features["title"].values.dtype == jnp.int32
    assert int(items.features["title"].values.max()) == len(data.title_vocabulary(dataset)) - 1


def test_movielens_100k_rows_are_those_of_the_file():
    """The log against the file in the package, line by line with the standard library."""
    dataset = loaded("ml-100k")
    source, path = data.datasets["ml-100k"].sources[1], data.fetch("ml-100k")[0]
    if path.name != source.filename:
        pytest.skip("the owner's file is in the cache, not the package's")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("recbole/dataset_example/ml-100k/ml-100k.inter").decode().splitlines()[1:]
    log = dataset.interactions
    fields = zip(dataset.users.decode(log.user), dataset.items.decode(log.item), log.rating, log.time, strict=True)
    assert [f"{user}\t{item}\t{rating:g}\t{time}" for user, item, rating, time in fields] == lines


def test_movielens_1m_and_its_well_known_core():
    dataset = loaded("ml-1m")
    assert counts(dataset) == (1_000_209, 6_040, 3_706)
    described = dataset.describe()
    assert list(described["ratings"].values()) == [56_174, 107_557, 261_197, 348_971, 226_310]
    assert described["events_per_user"] == [20, 96.0, 2314]
    assert described["time_span"] == ["2000-04-25", "2003-02-28"]
    log = dataset.interactions
    assert dataset.items.decode(log.item[:2]) == [
        "One Flew Over the Cuckoo's Nest (1975)",
        "James and the Giant Peach (1996)",
    ]
    # the published ml-1m sequences of SASRec: items with at least five ratings, ties in file order
    popular = np.bincount(log.item, minlength=3_706) >= 5
    core = log.take(popular[log.item])
    assert (int(popular.sum()), len(core), len(np.unique(core.user))) == (3_416, 999_611, 6_040)
    while True:  # iterative 5-core
        kept = (np.bincount(core.item)[core.item] >= 5) & (np.bincount(core.user)[core.user] >= 5)
        if kept.all():
            break
        core = core.take(kept)
    assert (len(np.unique(core.item)), len(core)) == (3_416, 999_611)
    split = data.leave_one_out(log)
    assert (len(split.validation), len(split.test)) == (6_040, 6_040)


@pytest.mark.parametrize(
    ("policy", "campaign", "items", "clicks"),
    [
        ("random", "all", 80, 38),
        ("random", "men", 34, 46),
        ("random", "women", 46, 46),
        ("bts", "all", 80, 42),
        ("bts", "men", 34, 69),
        ("bts", "women", 46, 46),
    ],
)
def test_open_bandit(policy, campaign, items, clicks):
    dataset = loaded("open-bandit", policy=policy, campaign=campaign)
    assert len(dataset.interactions) == 10_000
    assert dataset.num_items == items
    assert dataset.extras["click"].sum() == clicks
    assert dataset.extras["affinity"].shape == (10_000, items)
    assert set(np.unique(dataset.extras["position"]).tolist()) == {1, 2, 3}
    assert dataset.describe()["time_span"] == ["2019-11-24", "2019-11-30"]
    if policy == "random":
        np.testing.assert_allclose(dataset.extras["propensity"], 1 / items, atol=1e-4)
    steps = data.bandit_steps(dataset)
    assert float(steps.reward.sum()) == clicks
    assert steps.terminated.all()
    assert steps.observation.context.shape == (10_000, len(dataset.context_names))
    # inverse propensity scoring of the logging policy itself is the mean reward
    weight = 1.0 if policy == "bts" else np.asarray(1 / items / np.exp(steps.log_prob))[:, None]
    assert float(jnp.mean(weight * steps.reward)) == pytest.approx(clicks / 10_000, rel=2e-3)


def test_open_bandit_options():
    loaded("open-bandit")
    with pytest.raises(ValueError, match="'thompson'"):
        data.load("open-bandit", policy="thompson")


def test_ta_feng():
    dataset = loaded("ta-feng")
    assert counts(dataset) == (817_741, 32_266, 23_812)
    described = dataset.describe()
    assert described["time_span"] == ["2000-11-01", "2001-02-28"]
    assert described["behaviours"] == {"purchase": 817_741}
    assert len(np.unique(dataset.item_extras["subclass"])) <= 2_012
    first = {name: float(column[0]) for name, column in dataset.extras.items()}
    assert first == {"amount": 2, "cost": 24, "price": 30}
    assert (dataset.users.names[0], dataset.items.names[0]) == ("01104905", "4710199010372")


def test_amazon_beauty():
    dataset = loaded("amazon-beauty")
    assert counts(dataset) == (198_502, 22_363, 12_101)
    assert dataset.interactions.time is None
    assert dataset.describe()["events_per_user"][0] == 5
    assert len(dataset.genres) == 637
    assert dataset.titles.count("") == 1  # B001LTVF7G has no phrase in the owner's file
    found = data.sequences(dataset.interactions, dataset.num_users)
    path = data.data_directory() / "amazon-beauty" / "Beauty.txt.gz"
    with gzip.open(path, "rt") as lines:
        numbers = [int(number) - 1 for line in lines for number in line.split()[1:]]
    np.testing.assert_array_equal(found.items, numbers)
    assert dataset.title(int(dataset.items.encode(["B00GBL5GDS"])[0])) == "bellesha hands free foot scrubber beauty"


def test_retailrocket():
    dataset = loaded("retailrocket")
    assert counts(dataset) == (97_381, 2_174, 29_905)
    assert dataset.describe()["behaviours"] == {"view": 75_374, "cart": 12_456, "purchase": 9_551}
    assert dataset.describe()["time_span"] == ["2015-05-03", "2015-09-18"]
    assert len(dataset.test) == 2_174
    assert sorted(dataset.test.user.tolist()) == list(range(2_174))
    assert (dataset.test.item == dataset.items.oov).sum() == 211
    buyers = dataset.interactions.user[dataset.interactions.behaviour == Behaviour.PURCHASE]
    assert len(np.unique(buyers)) == 2_174
    steps = data.transitions(dataset.interactions, 4)
    assert float(steps.response["conversion"].sum()) == 9_551


def test_movietweetings():
    dataset = loaded("movietweetings")
    assert counts(dataset) == (100_000, 16_554, 10_506)
    assert dataset.describe()["time_span"] == ["2013-02-28", "2013-09-01"]
    assert dataset.describe()["ratings"]["8"] == 24_145
    assert dataset.titles[dataset.items.encode(["0002844"])[0]] == "Fantômas - À l'ombre de la guillotine"
    assert 0.993 < (dataset.multi_hot.sum(axis=1) > 0).mean() < 0.995
    assert not np.isnan(dataset.numeric).any()


def test_kuairand():
    dataset = loaded("kuairand")
    assert counts(dataset) == (41_828, 664, 9_359)
    assert dataset.describe()["ratings"] == {"0": 8_083, "1": 33_745}
    assert dataset.describe()["time_span"] == ["2022-04-07", "2022-04-21"]
    assert (np.diff(dataset.interactions.time) >= 0).all()  # sorted, because its times are in milliseconds
    row = np.flatnonzero(dataset.extras["play_time_ms"] == 46186)
    assert 45916 in dataset.extras["duration_ms"][row]


def test_coat():
    dataset = loaded("coat")
    assert counts(dataset) == (6_960, 290, 300)
    assert len(dataset.test) == 4_640
    assert dataset.interactions.rating.mean() == pytest.approx(2.61, abs=0.01)
    assert dataset.test.rating.mean() == pytest.approx(2.23, abs=0.01)
    assert np.bincount(dataset.interactions.user).tolist() == [24] * 290
    assert np.bincount(dataset.test.user).tolist() == [16] * 290
    assert (dataset.context.shape, dataset.multi_hot.shape) == ((290, 14), (300, 33))
    assert dataset.genres[:2] == ("gender:men", "gender:women")
    assert ((dataset.extras["propensity"] > 0) & (dataset.extras["propensity"] < 1)).all()
