"""Ranking metrics against ranx and LensKit, and by hand where libraries have no say."""

from __future__ import annotations

import os
from functools import partial

os.environ["NUMBA_DISABLE_JIT"] = "1"  # ranx as plain Python: compiling it takes a minute, running it nothing.

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ranx
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.eval import (
    average_precision,
    hit_rate,
    ndcg,
    positions,
    precision,
    ranking_metrics,
    recall,
    reciprocal_rank,
)

PAD = -1


@partial(jax.jit, static_argnames="ks")
def measure(ranked: jax.Array, relevant: jax.Array, ks: tuple[int, ...]) -> dict[str, jax.Array]:
    return ranking_metrics(positions(ranked, relevant), ks)


def padded(lists: list[list[int]], width: int) -> jax.Array:
    return jnp.array([row + [PAD] * (width - len(row)) for row in lists], jnp.int32)


@pytest.fixture(scope="module")
def lists() -> tuple[list[list[int]], list[list[int]]]:
    """Ranked lists of 1 to 10 items and sets of 1 to 7 relevant items out of 15."""
    rng = np.random.default_rng(3)
    ranked = [rng.permutation(15)[: rng.integers(1, 11)].tolist() for _ in range(40)]
    relevant = [rng.permutation(15)[: rng.integers(1, 8)].tolist() for _ in range(40)]
    return ranked, relevant


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_agrees_with_ranx(lists, k):
    ranked, relevant = lists
    qrels = ranx.Qrels({f"u{u:02d}": {f"i{i}": 1 for i in row} for u, row in enumerate(relevant)})
    run = ranx.Run({f"u{u:02d}": {f"i{i}": 1 / (r + 1) for r, i in enumerate(row)} for u, row in enumerate(ranked)})
    names = [f"{name}@{k}" for name in ("hit_rate", "recall", "precision", "ndcg", "mrr", "map")]
    expected = ranx.evaluate(qrels, run, names, return_mean=False)
    # ranx, like TREC, divides average precision by the number of relevant items.
    sizes = np.array([len(row) for row in relevant])
    expected[f"map@{k}"] = expected[f"map@{k}"] * sizes / np.minimum(sizes, k)

    got = measure(padded(ranked, 10), padded(relevant, 7), (k,))
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("k", "expected"),
    # LensKit 2025.8.1, AveragePrecision(n=k), on these lists.
    [(3, [0, 0.5, 1 / 6, 1 / 9, 0, 0]), (5, [0.0, 0.5, 0.3, 0.2866666666666666, 0.125, 0.25])],
)
def test_average_precision_agrees_with_lenskit(k, expected):
    ranked = [
        [9, 2, 6, 10, 11],
        [1, 4, 9, 10, 7],
        [9, 3, 2, 7, 5],
        [1, 3, 10, 11, 7],
        [3, 4, 8, 5, 9],
        [6, 4, 2, 11, 8],
    ]
    relevant = [[0], [1, 2], [3, 4, 5], [6, 7, 8, 9, 10, 11], [2, 5], [11]]
    ranks = positions(padded(ranked, 5), padded(relevant, 6))
    np.testing.assert_allclose(average_precision(ranks, k), expected, rtol=1e-6)


def test_user_without_relevant_items_has_no_value():
    for name, value in measure(padded([[1, 2]], 2), padded([[]], 3), (1, 2)).items():
        assert np.isnan(value[0]), name


def test_no_room_for_relevant_items_at_all():
    for name, value in measure(jnp.array([[1, 2]]), jnp.zeros((1, 0), jnp.int32), (2,)).items():
        assert np.isnan(value[0]), name


def test_empty_and_missing_lists_score_zero():
    for ranked in (padded([[]], 4), jnp.zeros((1, 0), jnp.int32)):
        for name, value in measure(ranked, padded([[5]], 2), (1, 3)).items():
            assert value[0] == 0, name


def test_padding_inside_a_list_is_a_missed_slot():
    assert positions(jnp.array([[PAD, 5, PAD, 2]]), jnp.array([[2, 5]])).tolist() == [[4.0, 2.0]]


def test_repeats_count_once():
    ranks = positions(jnp.array([[5, 5, 2]]), jnp.array([[2, 5, 2]]))
    np.testing.assert_array_equal(ranks, [[3, 1, np.nan]])
    assert precision(ranks, 3)[0] == pytest.approx(2 / 3)
    assert recall(ranks, 3)[0] == 1


def test_one_held_out_item_needs_no_extra_axis():
    ranked = jnp.array([[3, 1, 2], [3, 1, 2], [3, 1, 2]])
    ranks = positions(ranked, jnp.array([1, 7, PAD]))
    np.testing.assert_array_equal(ranks, [[2], [np.inf], [np.nan]])
    assert ndcg(ranks, 2)[0] == pytest.approx(1 / np.log2(3))


def test_unknown_items_are_missed():
    """All unknown items have one id, so that one in a list would pass for another that is relevant."""
    ranked, relevant = jnp.array([[9, 3, 9, 4]]), jnp.array([[4, 9, PAD]])
    np.testing.assert_array_equal(positions(ranked, relevant, num_items=9), [[4, np.inf, np.nan]])
    np.testing.assert_array_equal(positions(ranked, relevant, num_items=10), [[4, 1, np.nan]])
    np.testing.assert_array_equal(positions(ranked, relevant), [[4, 1, np.nan]])


def test_lists_of_python_integers_are_ids():
    np.testing.assert_array_equal(positions([[5, 2]], [2]), [[2]])
    assert hit_rate([[1.0, np.inf]], 1)[0] == 1


def test_cutoff_beyond_the_list():
    ranks = positions(jnp.array([[1, 2]]), jnp.array([[2, 9]]))
    assert precision(ranks, 10)[0] == pytest.approx(0.1)
    assert hit_rate(ranks, 10)[0] == 1
    assert reciprocal_rank(ranks)[0] == 0.5


def test_vmap_and_jit_give_what_the_batch_gives(lists):
    ranked, relevant = padded(lists[0], 10), padded(lists[1], 7)
    single = jax.vmap(partial(measure, ks=(4,)))(ranked, relevant)
    stacked = measure(ranked.reshape(4, 10, 10), relevant.reshape(4, 10, 7), (4,))
    for name, value in ranking_metrics(positions(ranked, relevant), (4,)).items():
        np.testing.assert_allclose(single[name], value, rtol=1e-6)
        np.testing.assert_allclose(stacked[name].reshape(-1), value, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    ranked=st.lists(st.integers(-1, 7), min_size=6, max_size=6),
    relevant=st.lists(st.integers(-1, 7), min_size=4, max_size=4),
)
def test_properties(ranked, relevant):
    got = {name: float(value) for name, value in measure(jnp.array(ranked), jnp.array(relevant), (1, 3, 6)).items()}
    if not any(item >= 0 for item in relevant):
        assert all(np.isnan(value) for value in got.values())
        return
    assert all(0 <= value <= 1 + 1e-6 for value in got.values())
    for name in ("hit_rate", "recall", "mrr"):
        assert got[f"{name}@1"] <= got[f"{name}@3"] <= got[f"{name}@6"]
    found = {item for item in ranked if item >= 0} & set(relevant)
    assert (got["ndcg@6"] > 0) == (got["map@6"] > 0) == (got["hit_rate@6"] == 1) == bool(found)
    other_order = measure(jnp.array(ranked), jnp.array(relevant[::-1]), (1, 3, 6))
    assert all(value == pytest.approx(float(other_order[name]), rel=1e-5) for name, value in got.items())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 1\)"):
        positions(jnp.zeros((2, 3), jnp.int32), jnp.zeros((4, 1), jnp.int32))
    for metric in (hit_rate, recall, precision, ndcg, average_precision, reciprocal_rank):
        for k in (0, 2.5, "10"):
            with pytest.raises(ValueError, match=f"k is {k}; a ranking is cut at"):
                metric(jnp.ones((1, 1)), k)
        for ranks in (jnp.ones(()), jnp.ones((1, 2), bool)):
            with pytest.raises(ValueError, match=r"take the ranks f32\[..., R\]"):
                metric(ranks, 1)
    with pytest.raises(ValueError, match="k is 0"):
        ranking_metrics(jnp.ones((1, 1)), (1, 0))
    with pytest.raises(ValueError, match="ranked must hold integer ids"):
        positions(jnp.ones((1, 2)), jnp.ones((1, 2), jnp.int32))
    with pytest.raises(ValueError, match="relevant holds the id 4294967301"):
        positions(jnp.ones((1, 2), jnp.int32), np.array([[2**32 + 5]]))
