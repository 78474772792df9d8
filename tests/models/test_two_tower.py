"""The two-tower model learns sequences, repeats, resumes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import Interactions, sequences
from recjax.fit import Checkpoints, EarlyStopping, Hooks
from recjax.models import TwoTower, TwoTowerConfig, fit_recommendation, recommend
from recjax.nn import Recommendation
from recjax.types import PAD_ID, Behaviour, Items

ITEMS = 8
CATALOGUE = Items(popularity=jnp.ones(ITEMS), is_new=jnp.zeros(ITEMS, bool))
MODULE = Recommendation.of(ITEMS, dim=16)
CONFIG = TwoTowerConfig(epochs=30, batch_size=32, history_length=1, learning_rate=0.03, weight_decay=0.0)


def cycle_log(users=12, events=10):
    """Every user goes round the catalogue, each from another item."""
    user = np.repeat(np.arange(users), events)
    item = (np.arange(users * events) % events + user) % ITEMS
    return Interactions(user, item, time=np.arange(users * events))


def fit(seed=0, config=CONFIG, log=None, **options):
    log = log or cycle_log()
    hooks = Hooks(**options)
    return fit_recommendation(MODULE, sequences(log, 12), CATALOGUE, config, key=jax.random.key(seed), hooks=hooks)


@pytest.fixture(scope="module")
def fitted():
    return fit()


def test_learns_what_follows(fitted):
    model = TwoTower(fitted.params, CATALOGUE, MODULE)
    _, ids = recommend(model, np.arange(ITEMS)[:, None], 1, exclude_seen=False)
    assert ids[:, 0].tolist() == [(item + 1) % ITEMS for item in range(ITEMS)]
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_the_loss_is_the_cross_entropy_of_every_position():
    # One event a user and no learning: every position has the cold-start history.
    log = Interactions(np.arange(5), np.arange(5))
    config = TwoTowerConfig(epochs=1, batch_size=5, learning_rate=1e-12)
    result = fit_recommendation(MODULE, sequences(log, 5), CATALOGUE, config, key=jax.random.key(0))
    logits = np.asarray(
        TwoTower(result.params, CATALOGUE, MODULE).scores(jnp.full((1, config.history_length), PAD_ID)), np.float64
    )[0]
    expected = np.mean(np.log(np.exp(logits).sum()) - logits[:5])
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "sampler"),
    [("sampled_softmax", sampler) for sampler in ("uniform", "popularity", "in_batch", "mixed")]
    + [(loss, "uniform") for loss in ("gbce", "bce", "bpr")],
)
def test_every_sampled_loss_learns_what_follows(loss, sampler):
    result = fit(config=dataclasses.replace(CONFIG, loss=loss, sampler=sampler, negatives=6))
    model = TwoTower(result.params, CATALOGUE, MODULE)
    _, ids = recommend(model, np.arange(ITEMS)[:, None], 1, exclude_seen=False)
    assert np.mean(ids[:, 0] == (np.arange(ITEMS) + 1) % ITEMS) >= 0.75
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_big_catalogues_are_sampled_unless_told_otherwise():
    assert TwoTowerConfig().loss_for(20_000) == "softmax"
    assert TwoTowerConfig().loss_for(20_001) == "sampled_softmax"
    assert TwoTowerConfig(loss="softmax").loss_for(10**6) == "softmax"
    with pytest.raises(ValueError, match=r"TwoTowerConfig.loss is 'hinge'; choose softmax, "):
        TwoTowerConfig(loss="hinge")
    with pytest.raises(ValueError, match=r"TwoTowerConfig.sampler is 'rare'; choose one of uniform"):
        TwoTowerConfig(sampler="rare")
    with pytest.raises(ValueError, match=r"TwoTowerConfig.negatives is 0"):
        TwoTowerConfig(negatives=0)


def test_same_key_same_bits_other_key_other_loss(fitted):
    assert fit().history == fitted.history
    assert fit(seed=1).history != fitted.history


def test_unknown_items_are_no_targets():
    log = cycle_log()
    unknown = Interactions(log.user, np.where(log.item == 3, ITEMS, log.item), log.time)
    model = TwoTower(fit(log=unknown).params, CATALOGUE, MODULE)
    _, ids = recommend(model, np.arange(ITEMS)[:, None], 1, exclude_seen=False)
    assert 3 not in ids
    with pytest.raises(ValueError, match="no event of a known item"):
        fit(log=Interactions(log.user, np.full(len(log), ITEMS), log.time))


def test_resume_is_bit_identical(tmp_path):
    config = dataclasses.replace(CONFIG, epochs=4)
    whole = fit(config=config)

    def stop(epoch, params):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config=config, checkpoints=Checkpoints(tmp_path), callback=stop)
    assert Checkpoints(tmp_path).latest_step() == 2
    resumed = fit(config=config, checkpoints=Checkpoints(tmp_path))
    assert resumed.history == whole.history
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_early_stopping_by_a_callback():
    scores = iter([0.1, 0.3, 0.2, 0.1])
    result = fit(
        callback=lambda epoch, params: {"ndcg": next(scores)}, early_stopping=EarlyStopping("ndcg", patience=2)
    )
    assert (result.best_epoch, len(result.history)) == (2, 4)


def test_scores_pass_the_behaviour_and_padding_on(fitted):
    history = jnp.array([[PAD_ID, 2], [3, 4]])
    scores = {
        code: TwoTower(fitted.params, CATALOGUE, MODULE, code).scores(history)
        for code in (Behaviour.CLICK, Behaviour.CART)
    }
    assert scores[Behaviour.CLICK].shape == (2, ITEMS)
    assert not np.allclose(scores[Behaviour.CLICK], scores[Behaviour.CART])


def test_a_batch_in_parts_is_learned_like_one_at_once():
    config = dataclasses.replace(CONFIG, epochs=2)
    once, parts = (fit(config=dataclasses.replace(config, accumulate=n)).history for n in (1, 4))
    for one, other in zip(once, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    with pytest.raises(ValueError, match=r"accumulate is 3, which does not divide batch_size 32"):
        dataclasses.replace(CONFIG, accumulate=3)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "history_length"])
def test_bad_config(name):
    with pytest.raises(ValueError, match=f"TwoTowerConfig.{name} is 0; it must be at least 1"):
        TwoTowerConfig(**{name: 0})
