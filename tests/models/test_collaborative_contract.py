"""What every registered collaborative model keeps to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.data import Interactions
from recjax.models import collaborative_models, recommend
from recjax.types import PAD_ID

NUM_ITEMS = 7
OPTIONS = {"als": {"factors": 3, "sweeps": 3}, "item_knn": {"neighbours": 3}, "user_knn": {"neighbours": 4}}
NAMES = list(collaborative_models)


def log() -> Interactions:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(10), 4)
    item = rng.integers(0, NUM_ITEMS - 1, 40)  # the last item has no events
    return Interactions(user=user, item=item, rating=rng.integers(1, 6, 40))


def fit(name, interactions=None, num_items=NUM_ITEMS, **options):
    return collaborative_models.make(
        name, log() if interactions is None else interactions, num_items, **(OPTIONS.get(name, {}) | options)
    )


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return fit(request.param)


score = jax.jit(lambda model, history: model.scores(history))


def test_scores_are_finite_floats_of_every_item(model):
    history = jnp.array([[0, 1, 2], [PAD_ID, 3, 3], [PAD_ID] * 3, [NUM_ITEMS, PAD_ID, 6]])
    scores = score(model, history)
    assert scores.shape == (4, NUM_ITEMS)
    assert scores.dtype == jnp.float32
    assert np.isfinite(scores).all()


@settings(max_examples=25, deadline=None)
@given(
    history=st.lists(st.integers(PAD_ID, NUM_ITEMS), min_size=6, max_size=6),
    order=st.permutations(range(6)),
)
def test_only_the_set_of_known_items_matters(model, history, order):
    known = sorted({item for item in history if 0 <= item < NUM_ITEMS})
    canonical = known + [PAD_ID] * (6 - len(known))
    shuffled = [history[place] for place in order]
    scores = score(model, jnp.array([history, canonical, shuffled]))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(scores[0], scores[2])


def test_users_do_not_touch_each_other(model):
    history = jnp.array([[0, 1], [2, 3], [4, PAD_ID]])
    together = score(model, history)
    alone = jnp.concatenate([score(model, history[row : row + 1]) for row in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_fitting_again_gives_the_same_bits(name):
    history = jnp.array([[0, 1, 2]])
    np.testing.assert_array_equal(fit(name).scores(history), fit(name).scores(history))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", ["binary", "behaviour", "rating"])
def test_order_of_the_log_and_names_of_users_do_not_matter(name, weight):
    first = log()
    rows = np.random.default_rng(1).permutation(len(first))
    second = Interactions(first.user[rows] * 100 + 7, first.item[rows], rating=first.rating[rows])
    history = jnp.array([[0, 1, 2]])
    np.testing.assert_allclose(
        fit(name, first, weight=weight).scores(history), fit(name, second, weight=weight).scores(history), rtol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_unknown_items_in_the_log_are_left_out(name):
    first = log()
    more = Interactions(
        np.append(first.user, [0, 99]), np.append(first.item, [NUM_ITEMS] * 2), rating=np.append(first.rating, [5, 5])
    )
    history = jnp.array([[0, 1, 2]])
    np.testing.assert_array_equal(fit(name, first).scores(history), fit(name, more).scores(history))


@pytest.mark.parametrize("name", NAMES)
def test_smallest_catalogue(name):
    one = Interactions(user=[3], item=[0])
    assert np.isfinite(fit(name, one, num_items=1).scores(jnp.array([[0], [PAD_ID]]))).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("interactions", "options", "message"),
    [
        (Interactions([0], [NUM_ITEMS + 1]), {}, "Item id 8 is outside 0 .. 7"),
        (Interactions([0], [NUM_ITEMS]), {}, "no events of known items"),
        (Interactions(np.zeros(0, int), np.zeros(0, int)), {}, "no events of known items"),
        (Interactions([0], [0]), {"weight": "stars"}, "weight='stars' is not one of"),
        (Interactions([0], [0]), {"weight": "rating"}, "needs a rating"),
        (Interactions([0, 0], [0, 1], rating=[3, np.nan]), {"weight": "rating"}, "needs a rating"),
    ],
)
def test_bad_logs_are_refused(name, interactions, options, message):
    with pytest.raises(ValueError, match=message):
        fit(name, interactions, **options)


def test_recommend_ranks_without_what_was_seen_whatever_the_batch(model):
    history = np.array([[0, 1, 2], [PAD_ID, PAD_ID, 5], [PAD_ID] * 3, [3, 4, NUM_ITEMS], [6, 6, 0]])
    scores, ids = recommend(model, history, NUM_ITEMS)
    dense = np.array(score(model, jnp.asarray(history)))
    for user, seen in enumerate(history):
        kept = [item for item in range(NUM_ITEMS) if item not in seen]
        expected = sorted(kept, key=lambda item: (-dense[user, item], item))
        assert ids[user].tolist() == expected + [PAD_ID] * (NUM_ITEMS - len(expected))
        np.testing.assert_array_equal(scores[user, : len(expected)], dense[user, expected])
    for batch_size in (2, 5):
        np.testing.assert_array_equal(recommend(model, history, NUM_ITEMS, batch_size=batch_size)[1], ids)
