"""Labels that a teacher makes, against its own softmax written out in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data
from recjax.models.sequence import pseudo_labels
from recjax.nn import Recommendation
from recjax.types import Behaviour, Items, Observation

N, USERS = 9, 5
LENGTHS = (4, 0, 1, 9, 2)


@pytest.fixture(scope="module", params=["with times", "without times"])
def log(request):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), LENGTHS)
    item = np.concatenate([rng.permutation(N)[:length] for length in LENGTHS])
    time = 10 * np.arange(len(user)) if request.param == "with times" else None
    return data.sequences(data.Interactions(user, item, time=time), USERS)


@pytest.fixture(scope="module")
def teacher(log):
    items = Items(popularity=jnp.ones(N), is_new=jnp.zeros(N, bool))
    module = Recommendation.of(N, dim=4, temperature=0.5)
    history = jnp.zeros((1, 3), jnp.int32)

    return module, jax.jit(module.init)(jax.random.key(0), Observation(history, history), items), items


def expected(log, teacher, per_user, min_probability):
    """Sequences as lists, with the labels behind them."""

    module, params, items = teacher
    starts, ids = np.asarray(log.starts), np.asarray(log.items)
    behaviours = np.asarray(log.behaviours)
    found = []
    for user in range(USERS):
        own = slice(starts[user], starts[user + 1])
        row = ids[own].tolist()
        if row:
            logits = module.apply(params, Observation(jnp.array([row]), jnp.array([behaviours[own]])), items)[0]
            share = np.exp(np.asarray(logits, np.float64))
            share[row] = 0
            share /= max(share.sum(), 1e-300)
            best = [i for i in np.argsort(-share, kind="stable") if share[i] > 0 and share[i] >= min_probability]
            row = row + [int(i) for i in best[:per_user]]
        found.append(row)
    return found


@pytest.mark.parametrize(("per_user", "min_probability"), [(1, 0.0), (3, 0.0), (2, 0.2), (1, 1.0)])
@pytest.mark.parametrize("batch_size", [2, 256])
def test_labels_are_what_the_teacher_holds_most_probable(log, teacher, per_user, min_probability, batch_size):
    module, params, items = teacher
    labelled = pseudo_labels(
        module, params, log, items, per_user=per_user, min_probability=min_probability, batch_size=batch_size,
        behaviour=Behaviour.PURCHASE,
    )  # fmt: skip
    starts = np.asarray(labelled.starts)
    rows = [np.asarray(labelled.items)[starts[u] : starts[u + 1]].tolist() for u in range(USERS)]
    assert rows == expected(log, teacher, per_user, min_probability)
    assert rows[1] == []  # nothing is known of this user
    assert len(rows[3]) == N  # who has had everything
    for user, row in enumerate(rows):
        added = len(row) - LENGTHS[user]
        behaviours = np.asarray(labelled.behaviours)[starts[user] : starts[user + 1]]
        assert (behaviours[len(row) - added :] == Behaviour.PURCHASE).all()
        if log.times is not None and row:
            times = np.asarray(labelled.times)[starts[user] : starts[user + 1]]
            assert (times[LENGTHS[user] :] == times[LENGTHS[user] - 1]).all()
    assert (labelled.times is None) == (log.times is None)


def test_an_empty_log_stays_empty(teacher):
    module, params, items = teacher
    empty = data.sequences(data.Interactions([], []), USERS)
    assert pseudo_labels(module, params, empty, items) is empty


def test_bad_options_say_what_is_wrong(log, teacher):
    module, params, items = teacher
    with pytest.raises(ValueError, match=r"per_user is 0; it must lie in 1 \.\. 9"):
        pseudo_labels(module, params, log, items, per_user=0)
    with pytest.raises(ValueError, match=r"min_probability is 1.5; it must lie in \[0, 1\]"):
        pseudo_labels(module, params, log, items, min_probability=1.5)
