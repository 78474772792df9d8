"""What is known of users and what is asked for, against loops over the log."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data
from recjax.data import Interactions
from recjax.types import PAD_ID

USERS, LENGTH = 6, 3


@pytest.fixture
def log():
    rng = np.random.default_rng(0)
    user = rng.choice([0, 1, 2, 4], 30)
    return Interactions(user, rng.integers(0, 9, 30), time=rng.permutation(30), behaviour=rng.integers(0, 3, 30))


def test_it_shows_the_newest_events_and_all_items_met(log):
    split = data.leave_one_out(log)
    context = jnp.arange(USERS * 2.0).reshape(USERS, 2)
    task = data.next_items(split.train, split.test, USERS, LENGTH, context=context)
    order = split.train.order()
    for user in range(USERS):
        events = order[split.train.user[order] == user]
        newest = [PAD_ID] * LENGTH + split.train.item[events].tolist()
        assert task.observation.history[user].tolist() == newest[-LENGTH:]
        done = [PAD_ID] * LENGTH + split.train.behaviour[events].tolist()
        assert task.observation.behaviour[user].tolist() == done[-LENGTH:]
        met = task.seen.rows(np.array([user]))[0].tolist()
        assert [item for item in met if item != PAD_ID] == sorted(set(split.train.item[events].tolist()))
        asked = split.test.item[split.test.user == user].tolist() or [PAD_ID]
        assert [int(task.targets[user])] == asked
    np.testing.assert_array_equal(task.observation.context, context)


def test_a_part_of_the_users_is_what_it_is_in_the_whole(log):
    split = data.leave_one_out(log)
    task = data.next_items(split.train, split.test, USERS, LENGTH)
    users = np.array([4, 3, 0, 4])
    some = task.take(users)
    np.testing.assert_array_equal(some.observation.history, task.observation.history[users])
    np.testing.assert_array_equal(some.targets, task.targets[users])
    for row, user in enumerate(users):
        np.testing.assert_array_equal(some.seen.rows(np.array([row])), task.seen.rows(np.array([user])))
    assert len(task.take(np.array([], int)).seen) == 0
    with pytest.raises(ValueError, match=r"users\[1\] is 6; there are 6 users"):
        task.take(np.array([0, 6]))


def test_what_is_no_answer_can_be_other_than_what_is_shown(log):
    nothing = log.take(np.zeros(len(log), bool))
    task = data.next_items(log, nothing, USERS, LENGTH, seen=nothing)
    assert task.seen.rows(np.arange(USERS)).tolist() == [[PAD_ID]] * USERS
    assert task.targets.tolist() == [PAD_ID] * USERS
    assert task.observation.history.shape == (USERS, LENGTH)


def test_observations_are_of_the_chosen_users(log):
    found = data.sequences(log, USERS)
    users, context = jnp.array([4, 0]), jnp.arange(USERS * 1.0)[:, None]
    some = data.observations(found, LENGTH, users, context=context)
    everyone = data.observations(found, LENGTH)
    np.testing.assert_array_equal(some.history, everyone.history[users])
    np.testing.assert_array_equal(some.time, data.last_times(found, LENGTH, users))
    assert some.context.tolist() == [[4.0], [0.0]]
    without = data.observations(data.sequences(Interactions([0], [1]), 1), LENGTH)
    assert without.time is None
    assert without.context is None


def test_several_held_out_events_are_refused(log):
    with pytest.raises(ValueError, match=r"\d users have several held-out events, first user 0; keep one"):
        data.next_items(log, log, USERS, LENGTH)
    with pytest.raises(ValueError, match="held_out has a user 9, but num_users is 2; users are 0 to that - 1"):
        data.next_items(Interactions([0], [1]), Interactions([9], [1]), 2, LENGTH)
