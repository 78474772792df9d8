"""Splits, histories and transitions of random logs against their definitions, one user at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import data, rewards
from recjax.data import Interactions
from recjax.types import PAD_ID, Behaviour

USERS = 5
few = settings(max_examples=40, deadline=None)
windows = jax.jit(data.windows, static_argnames="length")
last_histories = jax.jit(data.last_histories, static_argnames="length")


@st.composite
def logs(draw, timed: bool | None = None, sizes: tuple[int, ...] = (0, 9)):
    """Logs with many ties in time, users without events and repeated items; also empty ones."""
    size = draw(st.sampled_from(sizes))

    def column(high):
        return draw(st.lists(st.integers(0, high), min_size=size, max_size=size))

    has_time = draw(st.booleans()) if timed is None else timed
    return Interactions(
        column(USERS - 1),
        column(6),
        time=column(4) if has_time else None,
        rating=np.arange(size) % 4,
        behaviour=column(6),
    )


def naive_sequences(log: Interactions) -> list[list[int]]:
    """Rows of each user's events, oldest first."""
    rows: list[list[int]] = [[] for _ in range(USERS)]
    for row, user in enumerate(log.user.tolist()):
        rows[user].append(row)
    if log.time is not None:
        for user_rows in rows:
            user_rows.sort(key=lambda row: log.time[row])  # list.sort is stable
    return rows


def padded(values: list[int], length: int) -> list[int]:
    kept = values[-length:]
    return [PAD_ID] * (length - len(kept)) + kept


def rows_of(part: Interactions) -> list[int]:
    """Rows of a log whose items are its row numbers."""
    return part.item.tolist()


def numbered(log: Interactions) -> Interactions:
    return Interactions(log.user, np.arange(len(log)), log.time, log.rating, log.behaviour)


@few
@given(logs())
def test_order_is_by_user_then_time_then_file(log):
    assert log.order().tolist() == [row for rows in naive_sequences(log) for row in rows]


@few
@given(logs())
def test_leave_one_out(log):
    split = data.leave_one_out(numbered(log))
    eligible = [rows for rows in naive_sequences(log) if len(rows) >= 3]
    assert rows_of(split.test) == sorted(rows[-1] for rows in eligible)
    assert rows_of(split.validation) == sorted(rows[-2] for rows in eligible)
    rest = set(range(len(log))) - set(rows_of(split.test)) - set(rows_of(split.validation))
    assert rows_of(split.train) == sorted(rest)


@few
@given(logs(timed=True), st.integers(-1, 5), st.integers(0, 3))
def test_global_time_at_given_cuts(log, validation_at, gap):
    split = data.global_time(numbered(log), validation_at, validation_at + gap)
    assert rows_of(split.train) == [row for row, t in enumerate(log.time) if t < validation_at]
    assert rows_of(split.validation) == [r for r, t in enumerate(log.time) if validation_at <= t < validation_at + gap]
    assert rows_of(split.test) == [row for row, t in enumerate(log.time) if t >= validation_at + gap]


@few
@given(logs(timed=True, sizes=(1, 9, 24)))
def test_global_time_by_fractions_keeps_seconds_together(log):
    split = data.global_time(numbered(log))
    parts = [set(log.time[rows_of(part)].tolist()) for part in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert max(parts[0], default=-1) < min(parts[1] | parts[2])
    assert len(split.train) <= 0.8 * len(log)
    assert len(split.train) + len(split.validation) + len(split.test) == len(log)


@few
@given(logs(), st.integers(0, 3))
def test_by_user_keeps_users_whole(log, seed):
    split = data.by_user(log, (0.5, 0.25, 0.25), seed)
    parts = [set(part.user.tolist()) for part in (split.train, split.validation, split.test)]
    assert set().union(*parts) == set(log.user.tolist())
    assert sum(map(len, parts)) == len(set(log.user.tolist()))
    assert sum(map(len, (split.train, split.validation, split.test))) == len(log)
    again = data.by_user(log, (0.5, 0.25, 0.25), seed)
    assert again.test.user.tolist() == split.test.user.tolist()


@few
@given(logs(), st.sampled_from([1, 4]))
def test_windows_and_last_histories(log, length):
    found = data.sequences(log, USERS)
    naive = naive_sequences(log)
    assert found.items.tolist() == [int(log.item[row]) for rows in naive for row in rows]
    assert found.starts.tolist() == np.cumsum([0, *map(len, naive)]).tolist()

    last = last_histories(found, length=length)
    for values, column in zip(last, (log.item, log.behaviour), strict=True):
        assert values.dtype == jnp.int32
        assert values.tolist() == [padded([int(column[row]) for row in rows], length) for rows in naive]

    positions = jnp.arange(len(log), dtype=jnp.int32)
    before = windows(found, positions, length=length)
    for values, column in zip(before, (log.item, log.behaviour), strict=True):
        assert values.tolist() == [
            padded([int(column[row]) for row in rows[:i]], length) for rows in naive for i in range(len(rows))
        ]


def test_windows_under_jit_and_vmap_do_not_recompile():
    log = Interactions([0, 0, 1, 1, 1], [4, 3, 2, 1, 0], time=[1, 2, 3, 4, 5])
    found = data.sequences(log, 2)
    traces = []

    @jax.jit
    def gather(found, positions):
        traces.append(1)
        return data.windows(found, positions, 2)

    expected = data.windows(found, jnp.array([4, 0]), 2)[0].tolist()
    assert gather(found, jnp.array([4, 0]))[0].tolist() == expected == [[2, 1], [-1, -1]]
    gather(found, jnp.array([1, 1]))
    assert len(traces) == 1
    many = jax.vmap(lambda p: data.windows(found, p, 2)[0])(jnp.array([[4, 0], [1, 2]]))
    assert many.tolist() == [[[2, 1], [-1, -1]], [[-1, 4], [-1, -1]]]


@few
@given(logs())
def test_transitions(log):
    steps = data.transitions(log, 3, rewards.weighted(click=1.0, conversion=5.0), num_users=USERS)
    naive = naive_sequences(log)
    rows = [row for user_rows in naive for row in user_rows]
    assert steps.slate.tolist() == [[int(log.item[row])] for row in rows]
    assert steps.terminated.tolist() == [row == user_rows[-1] for user_rows in naive for row in user_rows]
    assert not steps.truncated.any()
    assert np.isnan(steps.log_prob).all()
    bought = [log.behaviour[row] == Behaviour.PURCHASE for row in rows]
    assert steps.reward[:, 0].tolist() == [1.0 + 5.0 * b for b in bought]
    after = [
        padded([int(log.item[row]) for row in user_rows[: i + 1]], 3)
        for user_rows in naive
        for i in range(len(user_rows))
    ]
    assert steps.next_observation.history.tolist() == after
    ends = np.asarray(steps.terminated)[:-1]
    following = np.asarray(steps.observation.history)[1:]
    np.testing.assert_array_equal(following[~ends], np.asarray(steps.next_observation.history)[:-1][~ends])


def test_transitions_turn_ratings_into_satisfaction_and_watch_time():
    kinds = [
        Behaviour.RATING,
        Behaviour.RATING,
        Behaviour.RATING,
        Behaviour.LIKE,
        Behaviour.LIKE,
        Behaviour.PLAY,
        Behaviour.VIEW,
    ]
    log = Interactions([0] * 7, range(7), rating=[1, 5, 2, 0, 1, 30, np.nan], behaviour=kinds)
    response = data.transitions(log, 2).response
    np.testing.assert_allclose(response["satisfaction"][:, 0], [0, 1, 0.25, 0, 1, 0, 0])
    np.testing.assert_allclose(response["watch_time"][:, 0], [0, 0, 0, 0, 0, 30, 0])
    context = data.transitions(log, 2, context=np.array([[7.0, 8.0]])).observation.context
    assert context.tolist() == [[7.0, 8.0]] * 7


def test_equal_ratings_all_satisfy():
    response = data.transitions(Interactions([0, 0], [1, 2], rating=[4, 4]), 2).response
    assert response["satisfaction"][:, 0].tolist() == [1.0, 1.0]


def test_splits_state_their_protocol_in_one_line():
    log = Interactions([0, 0, 0, 1], [1, 2, 3, 1], time=[0, 86400, 172800, 172800])
    assert str(data.leave_one_out(log)) == (
        "leave-one-out by time, ties in file order, users with >= 3 events; train 2, validation 1, test 1 events"
    )
    assert str(data.global_time(log, "1970-01-02", "1970-01-03")) == (
        "global time: validation from 1970-01-02T00:00:00Z, test from 1970-01-03T00:00:00Z;"
        " train 1, validation 1, test 2 events"
    )
    assert (
        data.by_user(log, (0.5, 0.0, 0.5)).describe()
        == "by user: 0.5/0/0.5 of 2 users, seed 0; " + (data.by_user(log, (0.5, 0.0, 0.5)).describe().split("; ")[1])
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda log: data.global_time(Interactions([0], [0])), "knows only an order"),
        (lambda log: data.global_time(log, validation_at=3), "both"),
        (lambda log: data.global_time(log, 5, 3), "before test"),
        (lambda log: data.global_time(log, "soon", "later"), "'soon' is not a time"),
        (lambda log: data.global_time(log, fractions=(0.5, 0.5)), "three shares"),
        (lambda log: data.by_user(log, (0.9, 0.9, -0.8)), "three shares"),
        (lambda log: data.global_time(Interactions([], [], time=[])), "without events"),
        (lambda log: data.sequences(log, 1), "num_users=1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(Interactions([0, 1], [0, 1], time=[1, 2]))
