"""evaluate(): one answer whatever the batches, and no number without its protocol."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from recjax.catalogue import ItemIndex
from recjax.data import SeenItems
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


@pytest.mark.parametrize(("num_targets", "users_at_once"), [(1, 12), (2, 6), (5, 2), (9, 1), (40, 1)])
def test_batches_hold_fewer_users_the_more_targets_each_has(users, num_targets, users_at_once):
    histories, _ = users
    rng = np.random.default_rng(6)
    many = np.stack([rng.permutation(40)[:num_targets] for _ in range(U)])
    many[5] = PAD
    sizes = set()

    def score(shown):
        sizes.add(len(shown))
        return score_by_last_item(shown)

    got = evaluate(score, histories, many, FULL, seen=histories, batch_size=12)
    assert sizes == {users_at_once}
    for user in np.delete(np.arange(U), 5):
        order = [item for item in np.argsort(-TABLE[histories[user, -1]], kind="stable") if item not in histories[user]]
        expected = [order.index(target) + 1 if target in order else np.inf for target in many[user]]
        np.testing.assert_array_equal(got.ranks[user], expected)
    assert np.isnan(got.ranks[5]).all()


@pytest.mark.parametrize("protocol", [FULL, SAMPLED])
@pytest.mark.parametrize("batch_size", [1, 4, 500])
def test_what_was_seen_may_have_rows_of_any_length(users, protocol, batch_size):
    histories, targets = users
    rng = np.random.default_rng(7)
    length = rng.integers(0, 7, U)
    length[0] = 0
    rows = [rng.permutation(N)[:n] for n in length]
    seen = SeenItems(np.concatenate([[0], np.cumsum(length)]), np.concatenate(rows).astype(np.int32))
    padded = np.stack([np.pad(row, (0, 7 - len(row)), constant_values=PAD) for row in rows]).astype(np.int32)
    got, expected = (
        evaluate(score_by_last_item, histories, targets, protocol, seen=s, batch_size=batch_size)
        for s in (seen, padded)
    )
    np.testing.assert_array_equal(got.ranks, expected.ranks)
    assert (got.ranks != evaluate(score_by_last_item, histories, targets, protocol, seen=histories).ranks).any()


def test_one_long_row_of_what_was_seen_costs_the_others_nothing(users):
    """Rows are as wide as the longest of their batch, not of all users."""
    histories, targets = users
    length = np.where(np.arange(U) == U - 1, 1000, 1)
    seen = SeenItems(np.concatenate([[0], np.cumsum(length)]), np.zeros(length.sum(), np.int32))
    widths = []

    class Recording(SeenItems):
        def rows(self, users):
            found = super().rows(users)
            widths.append(found.shape[1])
            return found

    evaluate(score_by_last_item, histories, targets, FULL, seen=Recording(seen.starts, seen.items), batch_size=4)
    assert widths == [1, 1, 1, 1, 1024]


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


def test_a_target_that_is_no_candidate_is_a_miss_in_any_ranking(users):
    histories, targets = users
    candidates = np.arange(N) % 2 == 0
    full = dataclasses.replace(KEPT, item_filter="even ids")
    sampled = dataclasses.replace(SAMPLED, item_filter="even ids", seen="kept", num_negatives=N)
    ranks = [
        evaluate(score_by_last_item, histories, targets, protocol, candidates=candidates).ranks
        for protocol in (full, sampled)
    ]
    np.testing.assert_array_equal(ranks[0], ranks[1])
    np.testing.assert_array_equal(np.isinf(ranks[0][:, 0]), targets % 2 == 1 & (targets != PAD))


def by_popularity(users, popularity, **options):
    protocol = dataclasses.replace(SAMPLED, seen="kept", negatives="popularity", item_filter="some")
    return evaluate(score_by_last_item, *users, protocol, popularity=popularity, **options)


@pytest.mark.parametrize(
    ("popularity", "options", "message"),
    [
        (np.where(np.arange(N) == 4, np.nan, 1), {}, "popularity of item 4 is nan"),
        (np.where(np.arange(N) == 7, -2.0, 1), {}, "popularity of item 7 is -2"),
        (np.where(np.arange(N) == 0, np.inf, 1), {}, "popularity of item 0 is inf"),
        (np.where(np.arange(N) == 3, 1e300, 1), {}, "popularity of item 3 is inf"),
        (np.ones(N - 1), {}, "popularity has length 11, but the model scores 12 items"),
        (np.ones((N, 1)), {}, r"popularity has shape \(12, 1\)"),
        (np.zeros(N), {}, "No candidate has a popularity above 0"),
        (np.arange(N) == 3, {"candidates": np.arange(N) != 3}, "No candidate has a popularity above 0"),
        (np.ones(N), {"candidates": np.ones(N + 3, bool)}, "popularity is of 12 items and candidates of 15"),
    ],
)
def test_popularities_that_nothing_can_be_drawn_by_are_named(users, popularity, options, message):
    with pytest.raises(ValueError, match=message):
        by_popularity(users, popularity, **options)


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
        ({}, {"targets": np.full(U, 1.9)}, "targets must hold integer ids .* such as 1.9"),
        ({}, {"targets": np.full(U, 2**32)}, "targets holds the id 4294967296"),
        ({}, {"histories": np.zeros((U, L))}, "histories must hold integer ids"),
        ({}, {"histories": np.full((U, L), 2**31)}, "histories holds the id 2147483648"),
        ({}, {"targets": np.zeros((U, 1, 1), int)}, r"targets has shape \(17, 1, 1\)"),
        ({}, {"batch_size": 0}, "batch_size is 0"),
        ({"seen": "excluded"}, {"seen": np.zeros((U, 1))}, "seen must hold integer ids"),
        ({"seen": "excluded"}, {"seen": np.zeros(U, int)}, r"seen has shape \(17,\)"),
        ({}, {"seen": SeenItems(np.array([0, 1]), np.array([3]))}, "17 users"),
        ({"item_filter": "some"}, {"candidates": np.ones(N + 8, bool)}, "candidates has length 20, but .* 12 items"),
        ({"item_filter": "some"}, {"candidates": np.ones(N - 1, bool)}, "candidates has length 11, but .* 12 items"),
        ({"item_filter": "some"}, {"candidates": np.ones((U, N), bool)}, r"candidates has shape \(17, 12\)"),
        ({"item_filter": "some"}, {"candidates": np.ones(N, int)}, "dtype int64; it must be bool"),
        ({"item_filter": "some"}, {"candidates": np.zeros(N, bool)}, "candidates is False everywhere"),
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
    with pytest.raises(ValueError, match="give popularity="):
        evaluate(score_by_last_item, histories, targets, dataclasses.replace(sampled, negatives="popularity"))
    with pytest.raises(ValueError, match="nor have uniform negatives"):
        evaluate(score_by_last_item, histories, targets, sampled, popularity=np.ones(N))


def test_scores_of_another_shape_are_named(users):
    for wrong in (jnp.ones(N), jnp.ones((3, N)), jnp.ones((U, N, 1))):
        with pytest.raises(ValueError, match=r"score_fn gave scores of shape .* for 17 users"):
            evaluate(lambda h: wrong, *users, KEPT)  # noqa: B023


def test_metrics_that_were_not_measured_are_named(users):
    got = evaluate(score_by_last_item, *users, KEPT)
    for look_up in (lambda: got.interval("ndcg@10"), lambda: table({"a": got}, metrics=["ndcg@10"])):
        with pytest.raises(ValueError, match=r"no metric 'ndcg@10'; it has hit_rate@1"):
            look_up()


@pytest.mark.parametrize(
    ("field", "value"),
    [("ks", ()), ("ks", (0,)), ("history_length", 0), ("seen", "hidden"), ("ties", "luck"), ("num_negatives", 0),
     ("negatives", "hard")],
)  # fmt: skip
def test_impossible_protocols_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(SAMPLED, **{field: value})
