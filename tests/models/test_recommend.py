"""recommend(): nothing that a user had comes back, however much of it the model is shown."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import Interactions, SeenItems, last_histories, sequences
from recjax.models import item_knn, popularity, recommend
from recjax.types import PAD_ID

USERS, ITEMS, SHOWN, K = 154, 60, 5, 5


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Users with 0 to 50 events each, of items of which some are far more popular, and one unknown item."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(1, USERS), rng.integers(1, 50, USERS - 1))
    item = np.minimum(rng.geometric(0.07, len(user)) - 1, ITEMS)
    return Interactions(user, item, time=np.arange(len(user)))


@pytest.fixture(scope="module")
def model(log):
    return item_knn(log, ITEMS, neighbours=20, shrinkage=0)


def repeated(ids: np.ndarray, log: Interactions) -> int:
    """How many of the recommendations ``[U, K]`` their users had."""
    had = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    return sum((user, item) in had for user, row in enumerate(ids.tolist()) for item in row)


def test_sequences_leave_out_all_that_users_had(log, model):
    everything = sequences(log, USERS)
    newest = np.asarray(last_histories(everything, SHOWN)[0])
    # Of histories that were cut, items from before the cut come back.
    assert repeated(recommend(model, newest, K)[1], log) > 100
    scores, ids = recommend(model, everything, K, history_length=SHOWN)
    assert repeated(ids, log) == 0
    assert ids.shape == scores.shape == (USERS, K)

    dense = np.asarray(model.scores(jnp.asarray(newest)))
    for user in range(USERS):
        left = sorted(set(range(ITEMS)) - set(log.item[log.user == user].tolist()))
        best = sorted(left, key=lambda item: (-dense[user, item], item))[:K]
        assert ids[user].tolist() == best + [PAD_ID] * (K - len(best))
        np.testing.assert_array_equal(scores[user, : len(best)], dense[user, best])


@pytest.mark.parametrize("batch_size", [1, 7, USERS, 1000])
def test_seen_in_rows_of_any_length_is_seen_as_an_array(log, model, batch_size):
    everything = sequences(log, USERS)
    newest = last_histories(everything, SHOWN)[0]
    padded = last_histories(everything, int(np.bincount(log.user).max()))[0]
    ragged = SeenItems(np.asarray(everything.starts, np.int64), np.asarray(everything.items))
    expected = recommend(model, everything, K, history_length=SHOWN)
    for seen in (padded, np.asarray(padded), ragged):
        found = recommend(model, newest, K, seen=seen, batch_size=batch_size)
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_what_was_seen_can_be_recommended_again(log, model):
    scores, ids = recommend(model, sequences(log, USERS), K, history_length=SHOWN, exclude_seen=False)
    dense = np.asarray(model.scores(last_histories(sequences(log, USERS), SHOWN)[0]))
    np.testing.assert_array_equal(ids, np.argsort(-dense, axis=1, kind="stable")[:, :K])
    assert np.isfinite(scores).all()


def test_nobody_asks():
    nothing = popularity(Interactions([0], [1]), 3)
    scores, ids = recommend(nothing, np.zeros((0, 4), np.int32), 2)
    assert scores.shape == ids.shape == (0, 2)


@pytest.mark.parametrize(
    ("history", "options", "message"),
    [
        ([[0.5, 1.0]], {}, "history must hold integer ids .* such as 0.5"),
        ([0, 1], {}, r"history has shape \(2,\)"),
        (np.array([[2**32 + 1]]), {}, "the id 4294967297"),
        ([[0]], {"seen": [[0], [1]]}, "seen has 2 users but history has 1"),
        ([[0]], {"seen": [[0.0]]}, "seen must hold integer ids"),
        ([[0]], {"seen": [[0]], "exclude_seen": False}, "exclude_seen=False leaves"),
        ([[0]], {"history_length": 3}, "history_length=3 is for Sequences"),
        (sequences(Interactions([0], [1]), 1), {}, "history_length is None"),
        (sequences(Interactions([0], [1]), 1), {"history_length": 0}, "history_length is 0"),
        ([[0]], {"batch_size": 0}, "batch_size is 0"),
        ([[0]], {"k": 9}, "k is 9"),
        ([[0]], {"k": 0}, "k is 0"),
    ],
)
def test_bad_calls_are_named(history, options, message):
    model = popularity(Interactions([0], [1]), 3)
    with pytest.raises(ValueError, match=message):
        recommend(model, history, **({"k": 1} | options))
