"""Training on whole sequences: what is an example, buckets of length, objectives, resuming."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data, fit
from recjax.fit import Checkpoints, Hooks
from recjax.models.sequence import SequenceConfig, Start, TwoTower, fit_sequences
from recjax.models.sequence import sequences as training
from recjax.models.sequence.sequences import _cut
from recjax.nn import (
    BidirectionalEncoder,
    GRUEncoder,
    HSTUEncoder,
    ItemTower,
    Recommendation,
    SelfAttentionEncoder,
    UserTower,
)
from recjax.types import PAD_ID, Behaviour, Feature, Items, Observation

N, L = 12, 8
ENCODERS = {
    "sasrec": functools.partial(SelfAttentionEncoder, dropout=0.1),
    "bert4rec": functools.partial(BidirectionalEncoder, norm="pre"),
    "hstu": functools.partial(HSTUEncoder, time_buckets=16),
    "gru4rec": GRUEncoder,
}


@pytest.fixture(scope="module")
def items():
    return Items(popularity=jnp.ones(N), is_new=jnp.zeros(N, bool))


@pytest.fixture(scope="module")
def log():
    """Users walk along a ring, from 2 to 14 steps."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 15, 60)
    user = np.repeat(np.arange(60), lengths)
    step = np.concatenate([np.arange(n) for n in lengths])
    return data.sequences(data.Interactions(user, (rng.integers(0, N, 60)[user] + step) % N, time=100 * step), 60)


def config(**changes):
    return SequenceConfig(**{"epochs": 2, "batch_size": 16, "history_length": L, "learning_rate": 1e-2} | changes)


def module(encoder, **options):
    return Recommendation.of(N, 16, encoder=encoder, **options)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_learns_the_ring(name, log, items):
    objective = "cloze" if name == "bert4rec" else "next"
    network = module(ENCODERS[name])
    epochs = 120 if name == "bert4rec" else 40  # few targets a history
    options = config(epochs=epochs, objective=objective, last_only_share=0.5)
    fitted = fit_sequences(network, log, items, options, key=jax.random.key(0))
    history = jnp.array([[PAD_ID, PAD_ID, 3, 4, 5], [PAD_ID, 9, 10, 11, 0]])
    if name == "hstu":  # it was trained with times
        from recjax.types import Observation

        time = jnp.array([[0, 0, 0, 100, 200], [0, 0, 100, 200, 300]])
        scores = jax.jit(network.apply)(fitted.params, Observation(history, jnp.zeros_like(history), time=time), items)
    else:
        scores = TwoTower(fitted.params, items, network).scores(history)
    assert scores.argmax(-1).tolist() == [6, 1]


def test_all_windows_predict_every_event_once(log):
    """Cut by hand: a sequence of seven in windows of three, each with the event before it."""
    seven = data.sequences(data.Interactions([1] * 7 + [2] * 3, [*range(7), 9, 8, 7], time=range(10)), 4)
    cut, owner = _cut(seven, 3)
    rows = np.split(np.asarray(cut.items), np.asarray(cut.starts)[1:-1])
    assert [row.tolist() for row in rows] == [[], [3, 4, 5, 6], [0, 1, 2, 3], [0], [9, 8, 7], []]
    assert owner.tolist() == [0, 1, 1, 1, 2, 3]
    np.testing.assert_array_equal(cut.times, [*cut.items[:9].tolist(), 7, 8, 9])
    short, owner = _cut(log, 14)
    np.testing.assert_array_equal(short.items, log.items)
    np.testing.assert_array_equal(owner, np.arange(log.num_users))


def test_all_windows_teach_what_the_newest_do_not_hold(items):
    """Users walk along the ring at first and then stand still."""
    walk = np.concatenate([np.arange(L + 1), np.full(L + 1, 11)])
    user = np.repeat(np.arange(20), len(walk))
    log = data.sequences(data.Interactions(user, np.tile(walk, 20), time=np.arange(len(user))), 20)
    context = jnp.ones((20, 1))
    for windows, learned in (("newest", False), ("all", True)):
        network = module(SelfAttentionEncoder)
        fitted = fit_sequences(
            network, log, items, config(epochs=30, windows=windows), key=jax.random.key(0), context=context
        )
        history = jnp.array([[2, 3, 4]])
        scores = jax.jit(network.apply)(
            fitted.params, Observation(history, jnp.zeros_like(history), jnp.ones((1, 1))), items
        )
        assert (int(scores.argmax()) == 5) == learned


def test_parts_and_lengths_change_what_is_computed_and_not_the_result(log, items):
    """Padding counts for nothing and targets count the same wherever they stand."""
    network = module(SelfAttentionEncoder)
    losses = [
        [row["loss"] for row in fit_sequences(network, log, items, options, key=jax.random.key(0)).history]
        for options in (
            config(batch_size=20, accumulate=1, num_buckets=1),
            config(batch_size=20, accumulate=4, num_buckets=1),
            config(batch_size=20, accumulate=4, num_buckets=3),
        )
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)


def test_the_loss_is_that_of_every_prefix_alone(log, items):
    """Oracle: what follows each prefix of each window, one prefix at a time. The GRU knows no padding."""
    network = module(GRUEncoder)
    params = jax.jit(network.init)(jax.random.key(3), _observation(jnp.array([[0]])), items)
    fitted = fit_sequences(
        network, log, items, config(batch_size=60, epochs=1), key=jax.random.key(0), start=Start(params)
    )  # the loss is that before the only update
    losses, apply = [], jax.jit(network.apply)
    for begin, end in zip(log.starts[:-1].tolist(), log.starts[1:].tolist(), strict=True):
        window = log.items[max(begin, end - L - 1) : end].tolist()
        first = 0 if len(window) <= L else 1  # a window that is full has no cold start
        for position in range(first, len(window)):
            prefix = jnp.array([[PAD_ID] * (L - position) + window[:position]])
            logits = apply(params, _observation(prefix), items)
            losses.append(-jax.nn.log_softmax(logits)[0, window[position]])
    assert fitted.history[0]["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)


def _observation(history):
    return Observation(history, jnp.where(history == PAD_ID, PAD_ID, int(Behaviour.CLICK)))


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce", "bce", "bpr"])
def test_sampled_losses_learn(loss, log, items):
    options = config(epochs=20, loss=loss, negatives=32)
    history = fit_sequences(
        module("gru", normalized=False, temperature=1.0), log, items, options, key=jax.random.key(0)
    ).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_optimisers_and_l2(log, items):
    for options in ({"optimizer": "adafactor"}, {"l2": 10.0}, {"schedule": "cosine", "warmup_steps": 3}):
        history = fit_sequences(module("gru"), log, items, config(epochs=3, **options), key=jax.random.key(0)).history
        assert np.isfinite([row["loss"] for row in history]).all()
    free, bound = (
        fit_sequences(module("gru"), log, items, config(epochs=6, l2=l2), key=jax.random.key(0)).params
        for l2 in (0, 10)
    )
    size = lambda params: sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(params))  # noqa: E731
    assert size(bound) < size(free)


def test_resumed_training_is_the_same_training(log, items, tmp_path):
    network = module(ENCODERS["sasrec"])
    whole = fit_sequences(network, log, items, config(epochs=4), key=jax.random.key(0))

    def stop(epoch, params):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_sequences(
            network,
            log,
            items,
            config(epochs=4),
            key=jax.random.key(0),
            hooks=Hooks(stop, checkpoints=Checkpoints(tmp_path)),
        )
    resumed = fit_sequences(
        network, log, items, config(epochs=4), key=jax.random.key(0), hooks=Hooks(checkpoints=Checkpoints(tmp_path))
    )
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "previous"}, "objective is 'previous'; choose one of next, cloze"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; choose one of adamw, adafactor"),
        ({"mask_share": 1.5}, r"mask_share is 1.5; it must lie in \[0, 1\]"),
        ({"num_buckets": 0}, "num_buckets is 0; it must be at least 1"),
        ({"schedule": "cosin"}, "schedule is 'cosin'; choose one of constant, linear, cosine"),
        ({"batch_size": 32, "accumulate": 3}, "accumulate is 3, which does not divide batch_size 32"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be above 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; it must be above 0, or None"),
        ({"contrastive": -1.0}, "contrastive is -1.0; it must be at least 0"),
        ({"target_behaviours": Behaviour.PURCHASE}, "target_behaviours is .*; give a tuple of them"),
    ],
)
def test_bad_options_say_what_to_choose(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_what_would_train_something_else_is_refused(log, items):
    users = len(log.starts) - 1
    attributed = items.with_features(genres=Feature(jnp.ones((N, 1)), "multi_hot"))
    for encoder, changes, options, message in (
        (
            "bidirectional",
            {},
            {},
            "objective is 'next', but .* of Recommendation is bidirectional, which is trained by 'cloze'",
        ),
        (
            "gru",
            {"objective": "cloze"},
            {},
            "objective is 'cloze', but .* is causal, which is trained by 'next'",
        ),
        (
            "bidirectional",
            {"objective": "cloze", "attributes": 0.1},
            {},
            "with 'cloze' the encoder reads the next item",
        ),
        ("gru", {}, {"context": jnp.ones((3, 2))}, f"context has 3 rows for {users} users"),
        ("gru", {}, {"similar": jnp.ones((3, 2), jnp.int32)}, f"similar has 3 rows for {N} items"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_sequences(module(encoder), log, attributed, config(**changes), key=jax.random.key(0), **options)


def test_checkpoints_of_another_training_are_refused(log, items, tmp_path):
    def train(seed=0, **changes):
        key, hooks = jax.random.key(seed), Hooks(checkpoints=Checkpoints(tmp_path))
        return fit_sequences(module("gru"), log, items, config(**changes), key=key, hooks=hooks)

    train(epochs=1)
    for seed, changes, message in (
        (1, {}, r"holds a run with key \[\d+, \d+\], but now key is"),
        (0, {"learning_rate": 0.5}, "config SequenceConfig.*but now config is SequenceConfig.*learning_rate=0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            train(seed, epochs=2, **changes)
    assert len(train(epochs=2).history) == 2


def test_negatives_are_as_popular_as_targets_are(items, monkeypatch):
    """Items 0 .. 5 are viewed only; what is never a target says nothing of how often targets are drawn."""
    seen, real = [], training.next_item_loss

    def noted(module, config, targets, **options):
        seen.append(targets)
        return real(module, config, targets, **options)

    monkeypatch.setattr(training, "next_item_loss", noted)
    user, step = np.divmod(np.arange(12), 3)
    behaviour = np.where(step == 2, Behaviour.PURCHASE, Behaviour.VIEW)
    log = data.sequences(data.Interactions(user, step, behaviour=behaviour), 4)
    wanted = config(target_behaviours=(Behaviour.PURCHASE,), loss="sampled_softmax", sampler="in_batch", epochs=1)
    fit_sequences(module("gru"), log, items, wanted, key=jax.random.key(0))
    assert set(seen[0].tolist()) == {2}


def test_an_empty_log_is_refused(items):
    empty = data.sequences(data.Interactions([0], [N]), 1)
    with pytest.raises(ValueError, match="no event of a known item"):
        fit_sequences(module("gru"), empty, items, config(), key=jax.random.key(0))


def test_contrastive_and_attribute_losses_fall(log, items):
    attributed = items.with_features(genres=Feature(jnp.eye(N)[:, : N // 2] + jnp.eye(N)[:, N // 2 :], "multi_hot"))
    options = config(epochs=15, contrastive=0.1, attributes=0.1, views=("crop", "mask", "substitute"))
    similar = jnp.arange(N)[:, None]
    history = fit_sequences(
        module("gru"), log, attributed, options, key=jax.random.key(0), similar=similar
    ).history  # fmt: skip
    for name in ("contrastive", "attributes", "loss"):
        assert history[-1][name] < history[0][name]


def test_contrastive_losses_of_an_encoder_that_reads_times(log, items):
    fitted = fit_sequences(module(ENCODERS["hstu"]), log, items, config(contrastive=0.1), key=jax.random.key(0))
    assert np.isfinite(fitted.history[-1]["contrastive"])


def test_auxiliary_losses_say_what_they_need(log, items):
    for options, message in (
        ({"contrastive": 0.1, "views": ("insert",)}, "give similar"),
        ({"attributes": 0.1}, "no feature of kind 'multi_hot'"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_sequences(module("gru"), log, items, config(**options), key=jax.random.key(0))


@pytest.mark.parametrize("objective", ["next", "cloze"])
def test_only_events_of_the_wanted_behaviours_are_targets(objective, items):
    """Items 0 .. 5 are viewed and 6 .. 11 purchased: an untrained bias towards views would cost nothing."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(40), 6), rng.integers(0, N, 240)
    behaviour = np.where(item < N // 2, Behaviour.VIEW, Behaviour.PURCHASE)
    log = data.sequences(data.Interactions(user, item, behaviour=behaviour), 40)
    encoder = "bidirectional" if objective == "cloze" else "gru"
    options = config(epochs=15, objective=objective, target_behaviours=(Behaviour.PURCHASE,))
    fitted = fit_sequences(module(encoder), log, items, options, key=jax.random.key(0))
    history, behaviours = data.last_histories(log, L)
    logits = jax.jit(module(encoder).apply)(fitted.params, Observation(history, behaviours), items)
    chance = jax.nn.softmax(logits)[:, N // 2 :].sum(-1)
    assert float(chance.mean()) > 0.9
    wanted = config(target_behaviours=(Behaviour.CART,))
    with pytest.raises(ValueError, match="no event of a known item with CART"):
        fit_sequences(module("gru"), log, items, wanted, key=jax.random.key(0))


def test_behaviours_can_be_left_out(items):
    network = Recommendation(item=ItemTower(N, 16), user=UserTower(16, "gru", use_behaviour=False))
    viewed, bought = (Observation(jnp.array([[1, 2]]), jnp.full((1, 2), b)) for b in (0, 3))
    params = jax.jit(network.init)(jax.random.key(0), viewed, items)
    assert "behaviour" not in params["params"]["user"]
    scores = jax.jit(network.apply)
    np.testing.assert_array_equal(scores(params, viewed, items), scores(params, bought, items))


@pytest.mark.parametrize("adaptation", [fit.only(lambda path: "item" not in path), fit.lora(2)])
def test_adaptations_train_their_part_and_learn(adaptation, log, items):
    network = module("gru")
    start = jax.jit(network.init)(jax.random.key(5), _observation(jnp.array([[0, 1]])), items)
    fitted = fit_sequences(network, log, items, config(epochs=8), key=jax.random.key(0), start=Start(start, adaptation))
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    np.testing.assert_array_equal(fitted.params["params"]["item"]["embedding"], start["params"]["item"]["embedding"])
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), fitted.params, start)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_rates_by_path(log, items):
    network = module("gru")
    start = jax.jit(network.init)(jax.random.key(5), _observation(jnp.array([[0, 1]])), items)
    fitted = fit_sequences(
        network, log, items, config(epochs=2), key=jax.random.key(0),
        start=Start(start, rates=lambda path: 0.0 if "item" in path else 1.0),
    )  # fmt: skip
    moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), fitted.params, start)["params"]
    assert max(jax.tree.leaves(moved["item"])) == 0
    assert max(jax.tree.leaves(moved["user"])) > 1e-3


def test_context_of_users_is_read(items):
    """Users do one thing or the other all the time, and only the context says which before they begin."""
    user = np.repeat(np.arange(40), 3)
    log = data.sequences(data.Interactions(user, user % 2), 40)
    context = jax.nn.one_hot(jnp.arange(40) % 2, 2)
    fitted = fit_sequences(module("gru"), log, items, config(epochs=30), key=jax.random.key(0), context=context)
    nobody = Observation(jnp.full((2, 3), PAD_ID), jnp.full((2, 3), PAD_ID), context=jnp.eye(2))
    assert jax.jit(module("gru").apply)(fitted.params, nobody, items).argmax(-1).tolist() == [0, 1]
