"""Filters by number of events, by hand and by the definition of a core."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from recjax import data
from recjax.types import Behaviour

COLUMNS = data.Columns(time="timestamp")


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 30, 200), "item": rng.zipf(1.5, 200) % 20, "timestamp": np.arange(200)}
    return data.from_frame(pl.DataFrame(columns), COLUMNS, time_format="s")[0]


def counts(dataset):
    log = dataset.interactions
    return np.bincount(log.item, minlength=dataset.num_items), np.bincount(log.user, minlength=dataset.num_users)


def test_items_then_users_by_hand():
    frame = pl.DataFrame({"user": ["u", "u", "v", "w"], "item": ["a", "b", "a", "c"], "timestamp": [1, 2, 3, 4]})
    left = data.with_enough_events(data.from_frame(frame, COLUMNS, time_format="s")[0], per_item=2)
    assert left.items.names == ("a",)
    assert left.users.names == ("u", "v")
    assert left.interactions.item.tolist() == [0, 0]
    assert left.interactions.time.tolist() == [1, 3]


def test_names_follow_events(dataset):
    left = data.with_enough_events(dataset, per_item=5, per_user=3)
    known = set(
        zip(
            dataset.users.decode(dataset.interactions.user),
            dataset.items.decode(dataset.interactions.item),
            strict=True,
        )
    )
    pairs = zip(left.users.decode(left.interactions.user), left.items.decode(left.interactions.item), strict=True)
    assert set(pairs) <= known


def test_once_and_until_stable(dataset):
    core = data.with_enough_events(dataset, per_item=4, per_user=4, until_stable=True)
    of_items, of_users = counts(core)
    assert of_items.min() >= 4
    assert of_users.min() >= 4
    again = data.with_enough_events(core, per_item=4, per_user=4)
    assert len(again.interactions) == len(core.interactions)


def test_errors(dataset):
    with pytest.raises(ValueError, match="per_item=0"):
        data.with_enough_events(dataset, per_item=0)
    with pytest.raises(ValueError, match="No event of frame is left"):
        data.with_enough_events(dataset, per_item=10_000)


@pytest.mark.parametrize("with_times", [True, False])
def test_the_strongest_event_of_each_pair(with_times):
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(0, 6, 120),
        "item": rng.integers(0, 8, 120),
        "behaviour": rng.choice([0, 2, 3], 120),
    }
    time = rng.integers(0, 40, 120) if with_times else np.arange(120)
    log = data.Interactions(**columns, time=time if with_times else None)
    best = {}
    for row, (user, item, behaviour) in enumerate(zip(*columns.values(), strict=True)):
        strength = (data.BEHAVIOUR_WEIGHTS[Behaviour(int(behaviour))], time[row], row)
        if (user, item) not in best or strength > best[user, item]:
            best[user, item] = strength
    expected = sorted(row for *_, row in best.values())
    found = data.strongest(log)
    for name, values in columns.items():
        np.testing.assert_array_equal(getattr(found, name), values[expected])
    assert len(data.strongest(log.take(np.arange(0)))) == 0


def test_items_in_any_order_keep_what_is_theirs(dataset):
    n, events = dataset.num_items, len(dataset.interactions)
    dataset = dataclasses.replace(
        dataset,
        titles=tuple(f"title of {name}" for name in dataset.items.names),
        multi_hot=np.eye(n, dtype=np.float32),
        numeric=np.arange(n, dtype=np.float32)[:, None],
        item_extras={"number": np.arange(n)},
        extras={"row": np.arange(events)},
        test=dataset.interactions,
    )
    order = np.random.default_rng(1).permutation(n)[: n - 3]
    some = data.with_items(dataset, order)
    assert some.items.names == tuple(dataset.items.names[i] for i in order)
    assert some.titles == tuple(f"title of {name}" for name in some.items.names)
    for values in (some.numeric[:, 0], some.multi_hot.argmax(axis=1), some.item_extras["number"]):
        assert values.tolist() == order.tolist()
    rows = some.extras["row"]
    assert rows.tolist() == np.flatnonzero(np.isin(dataset.interactions.item, order)).tolist()
    for log in (some.interactions, some.test):
        assert log.time.tolist() == dataset.interactions.time[rows].tolist()
        assert order[log.item].tolist() == dataset.interactions.item[rows].tolist()
    assert some.users == dataset.users


def test_items_that_are_not_there_or_there_twice(dataset):
    with pytest.raises(ValueError, match=r"items names 99; .* has items 0 to"):
        data.with_items(dataset, np.array([0, 99]))
    with pytest.raises(ValueError, match="items names 3 2 times"):
        data.with_items(dataset, np.array([3, 1, 3]))
