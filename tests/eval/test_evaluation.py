"""evaluate(): one answer whatever the batches, and no number without its protocol."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from recjax.catalogue import ItemIndex
from recjax.eval import Evaluation, Protocol, SampledProtocol, describe, evaluate, table
from recjax.types import Observation

U, L, N, PAD = 17, 3, 12, -1
FULL = Protocol(split="last item", history_length=L, ks=(1, 5))
KEPT = dataclasses.replace(FULL, seen="kept")
SAMPLED = SampledProtocol(split="last item", history_length=L, ks=(1, 5), num_negatives=4)
TABLE = np.random.default_rng(0).integers(0, 6, (N, N)).astype(np.float32)


def score_by_last_item(histories: jax.Array) -> jax.Array:
    return jnp.asarray(TABLE)[histories[:, -1]]


def index_by_last_item(histories: jax.Array) -> tuple[jax.Array, ItemIndex]:
    return jax.nn.one_hot(histories[:, -1], N), ItemIndex(jnp.asarray(TABLE.T))


@pytest.fixture(scope="module")
def users():
    rng = np.random.default_rng(1)
    rows = np.stack([rng.permutation(N)[: L + 1] for _ in range(U)]).astype(np.int32)
    targets = rows[:, -1].copy()
    targets[3] = PAD
    return rows[:, :L], targets


def naive_ranks(histories, targets, seen_excluded: bool) -> np.ndarray:
    ranks = np.full(len(targets), np.nan)
    for user, (history, target) in enumerate(zip(histories, targets, strict=True)):
        if target != PAD:
            order = np.argsort(-TABLE[history[-1]], kind="stable")
            order = [i for i in order if not (seen_excluded and i in history)]
            ranks[user] = order.index(target) + 1
    return ranks


@pytest.mark.parametrize("score_fn", [score_by_last_item, index_by_last_item])
@pytest.mark.parametrize("batch_size", [1, 4, 17, 500])
def test_ranks_do_not_depend_on_the_batch(users, score_fn, batch_size):
    histories, targets = users
    got = evaluate(score_fn, histories, targets, FULL, seen=histories, batch_size=batch_size)
    expected = naive_ranks(histories, targets, seen_excluded=True)
    np.testing.assert_array_equal(got.ranks[:, 0], expected)
    known = expected[~np.isnan(expected)]
    assert got.num_users == U - 1
    assert got.metrics["hit_rate@5"] == pytest.approx((known <= 5).mean())
    assert got.metrics["mrr"] == pytest.approx((1 / known).mean())
    assert got.metrics["ndcg@5"] == pytest.approx(((known <= 5) / np.log2(1 + known)).mean())


def test_seen_items_can_be_kept(users):
    histories, targets = users
    got = evaluate(score_by_last_item, histories, targets, KEPT)
    np.testing.assert_array_equal(got.ranks[:, 0], naive_ranks(histories, targets, seen_excluded=False))


def test_observations_and_several_targets(users):
    histories, targets = users
    observation = Observation(history=histories, behaviour=np.ones_like(histories))
    both = np.stack([targets, np.full(U, N)], axis=1)
    got = evaluate(lambda o: score_by_last_item(o.history), observation, both, KEPT)
    np.testing.assert_array_equal(got.ranks[:, 0], naive_ranks(histories, targets, seen_excluded=False))
    assert np.isinf(got.ranks[:, 1]).all()
    assert got.num_users == U


def test_nobody_has_a_target(users):
    got = evaluate(score_by_last_item, users[0], np.full(U, PAD), KEPT)
    assert got.num_users == 0
    assert all(np.isnan(value) for value in got.metrics.values())


def test_diverged_model_scores_zero(users):
    got = evaluate(lambda h: jnp.full((h.shape[0], N), jnp.nan), *users, KEPT)
    assert set(got.metrics.values()) == {0.0}


@struct.dataclass
class Model:
    table: jax.Array
    trace: object = struct.field(pytree_node=False)

    def __call__(self, histories):
        self.trace.append(1)
        return self.table[histories[:, -1]]


def test_pytree_models_compile_once_and_functions_are_never_stale(users):
    trace = Trace()
    for sign in (1, -1):
        got = evaluate(Model(sign * jnp.asarray(TABLE), trace), *users, KEPT)
        plain = evaluate(lambda h: jnp.asarray(sign * TABLE)[h[:, -1]], *users, KEPT)  # noqa: B023
        np.testing.assert_array_equal(got.ranks, plain.ranks)
    assert trace.count == 1

    scale = {"value": 1.0}
    closure = lambda h: scale["value"] * jnp.asarray(TABLE)[h[:, -1]]  # noqa: E731
    before = evaluate(closure, *users, KEPT)
    scale["value"] = -1.0
    np.testing.assert_array_equal(evaluate(closure, *users, KEPT).ranks, got.ranks)
    assert (before.ranks != got.ranks).any()


class Trace:
    """Counts how often a model is traced."""

    count = 0

    def append(self, _):
        self.count += 1


def test_sampled_ranking_draws_the_same_negatives_in_every_batch(users):
    histories, targets = users
    ranks = [
        evaluate(score_by_last_item, histories, targets, SAMPLED, seen=histories, batch_size=size).ranks
        for size in (1, 5, 17)
    ]
    np.testing.assert_array_equal(ranks[0], ranks[1])
    np.testing.assert_array_equal(ranks[0], ranks[2])
    assert np.nanmax(ranks[0]) <= 5
    full = evaluate(score_by_last_item, histories, targets, FULL, seen=histories).ranks
    assert (ranks[0] <= full)[~np.isnan(full)].all()
    other_seed = dataclasses.replace(SAMPLED, seed=1)
    assert (evaluate(score_by_last_item, histories, targets, other_seed, seen=histories).ranks != ranks[0]).any()


def test_negatives_are_as_many_as_promised_and_never_seen_items():
    rng = np.random.default_rng(3)
    seen = np.stack([1 + rng.permutation(N - 1)[:7] for _ in range(U)]).astype(np.int32)
    rising = lambda h: jnp.tile(jnp.arange(N), (h.shape[0], 1))  # noqa: E731
    # The target scores least, so all of its four competitors, the only items left, are ahead of it.
    ranks = evaluate(rising, np.zeros((U, L), np.int32), np.zeros(U, np.int32), SAMPLED, seen=seen).ranks
    np.testing.assert_array_equal(ranks, SAMPLED.num_negatives + 1)


def test_all_items_as_negatives_is_full_ranking(users):
    histories, targets = users
    everything = dataclasses.replace(SAMPLED, num_negatives=N)
    np.testing.assert_array_equal(
        evaluate(score_by_last_item, histories, targets, everything, seen=histories).ranks,
        evaluate(score_by_last_item, histories, targets, FULL, seen=histories).ranks,
    )


def test_popularity_negatives_follow_popularity():
    users, weights = 4000, np.array([0, 0, 1, 3, 6], np.float32)
    protocol = SampledProtocol(split="none", history_length=1, seen="kept", num_negatives=1, negatives="popularity")
    best_is = lambda item, h: jnp.tile(jnp.arange(5) == item, (h.shape[0], 1))  # noqa: E731
    shares = []
    for item in range(1, 5):
        # The target, item 0, is second exactly where the one negative is the item that scores.
        model = jax.tree_util.Partial(best_is, item)
        histories, targets = np.zeros((users, 1), np.int32), np.zeros(users, np.int32)
        ranks = evaluate(model, histories, targets, protocol, popularity=weights, batch_size=users).ranks
        shares.append((ranks == 2).mean())
    np.testing.assert_allclose(shares, [0, 0.1, 0.3, 0.6], atol=0.03)


def test_protocol_is_one_line_that_names_everything():
    line = str(dataclasses.replace(FULL, item_filter="5-core"))
    assert "\n" not in line
    for word in ("last item", "history: 3", "5-core", "seen items: excluded", "full ranking", "lowest id", "1, 5"):
        assert word in line
    sampled = str(SAMPLED)
    assert "SAMPLED ranking: 4 uniform negatives (seed 0)" in sampled
    assert "full" not in sampled


def test_every_metric_is_defined_and_printed_with_its_protocol(users):
    got = evaluate(score_by_last_item, *users, KEPT)
    for name in got.metrics:
        assert describe(name).definition
    assert str(KEPT) in str(got)
    assert set(got.per_user) == set(got.metrics)
    interval = got.interval("mrr")
    assert interval.mean == pytest.approx(got.metrics["mrr"])
    assert interval.low < interval.mean < interval.high


def test_table_has_one_protocol(users):
    got = evaluate(score_by_last_item, *users, KEPT)
    text = table({"a": got, "b": got}, metrics=["mrr", "recall@5"])
    assert text.splitlines()[0] == "| model | mrr | recall@5 |"
    assert f"| b | {got.metrics['mrr']:.4f} |" in text
    assert text.splitlines()[-1] == f"{KEPT} | users: 16"
    other = Evaluation(got.metrics, got.per_user, got.ranks, FULL)
    with pytest.raises(ValueError, match="one protocol"):
        table({"a": got, "b": other})
    fewer = Evaluation(got.metrics, {name: values[:3] for name, values in got.per_user.items()}, got.ranks[:3], KEPT)
    with pytest.raises(ValueError, match=r"one protocol; got:(?s:.*)users: 16(?s:.*)users: 3"):
        table({"a": got, "b": fewer})
    with pytest.raises(ValueError, match="none"):
        table({})


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"seen": "excluded"}, {}, "give seen="),
        ({"history_length": 9}, {}, "history_length=9"),
        ({}, {"candidates": np.ones(N, bool)}, "item_filter"),
        ({}, {"popularity": np.ones(N)}, "full ranking has no use"),
        ({}, {"seen": np.zeros((2, 1), np.int32)}, "17 users"),
        ({}, {"targets": np.zeros(0, np.int32)}, "no users"),
        ({"ties": "average"}, {"targets": np.zeros((U, 2), np.int32)}, "share a rank"),
    ],
)
def test_contradictions_are_named(users, changes, arguments, message):
    call = {"histories": users[0], "targets": users[1], "protocol": dataclasses.replace(KEPT, **changes)} | arguments
    with pytest.raises(ValueError, match=message):
        evaluate(score_by_last_item, **call)


def test_bad_sampled_calls_are_named(users):
    histories, targets = users
    sampled = dataclasses.replace(SAMPLED, seen="kept")
    with pytest.raises(ValueError, match="one target a user"):
        evaluate(score_by_last_item, histories, np.stack([targets, targets], 1), sampled)
    with pytest.raises(ValueError, match="popularity"):
        evaluate(score_by_last_item, histories, targets, dataclasses.replace(sampled, negatives="popularity"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("ks", ()), ("ks", (0,)), ("history_length", 0), ("seen", "hidden"), ("ties", "luck"), ("num_negatives", 0),
     ("negatives", "hard")],
)  # fmt: skip
def test_impossible_protocols_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(SAMPLED, **{field: value})
