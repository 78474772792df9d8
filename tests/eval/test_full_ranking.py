"""Ranks among all items against sorting, with ties, exclusions and everything that can be missing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import ndcg_score

from recjax.catalogue import BlockScorer, ItemIndex, dense_scorer, top_k
from recjax.eval import ndcg, positions, target_ranks

B, N, R, PAD = 5, 23, 4, -1


@pytest.fixture(scope="module")
def case():
    """Scores of few distinct values, so that ties are everywhere, and what to exclude."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (N, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (B, 3)).astype(np.float32)
    targets = np.stack([rng.permutation(N)[:R] for _ in range(B)])
    targets[0, 2:] = PAD
    exclude = np.stack([rng.permutation(N)[:5] for _ in range(B)])
    exclude[:, 3:] = PAD
    return queries, vectors, targets, exclude


def by_sorting(scores: np.ndarray, targets: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Ranks by a stable sort, user by user."""
    ranks = np.full(targets.shape, np.nan)
    for user in range(len(scores)):
        order = [i for i in np.argsort(-scores[user].astype(np.float64), kind="stable") if allowed[user, i]]
        for slot, target in enumerate(targets[user]):
            if target != PAD:
                ranks[user, slot] = order.index(target) + 1 if target in order else np.inf
    return ranks


@pytest.mark.parametrize("block_size", [1, 4, 22, 23, 1000, None])
def test_agrees_with_sorting(case, block_size):
    queries, vectors, targets, exclude = case
    allowed = np.ones((B, N), bool)
    for user, row in enumerate(exclude):
        allowed[user, row[row >= 0]] = False
    expected = by_sorting(queries @ vectors.T, targets, allowed)
    got = target_ranks(jnp.array(queries), jnp.array(vectors), jnp.array(targets), exclude=jnp.array(exclude),
                       block_size=block_size)  # fmt: skip
    np.testing.assert_array_equal(got, expected)
    assert np.isinf(expected).any()


@pytest.mark.parametrize("per_user", [False, True])
def test_only_candidates_compete(case, per_user):
    queries, vectors, targets, _ = case
    rng = np.random.default_rng(1)
    candidates = rng.random((B, N) if per_user else N) < 0.6
    expected = by_sorting(queries @ vectors.T, targets, np.broadcast_to(candidates, (B, N)))
    got = target_ranks(jnp.array(queries), jnp.array(vectors), jnp.array(targets), candidates=jnp.array(candidates),
                       block_size=5)  # fmt: skip
    np.testing.assert_array_equal(got, expected)


def test_average_ties_agree_with_scipy(case):
    queries, vectors, targets, _ = case
    expected = rankdata(-(queries @ vectors.T), axis=1)[np.arange(B), targets[:, 1]]
    got = target_ranks(jnp.array(queries), jnp.array(vectors), jnp.array(targets[:, 1]), ties="average", block_size=6)
    np.testing.assert_array_equal(got[:, 0], expected)


def test_equal_items_tie_whatever_the_rounding():
    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.normal(size=(1, 64)), 50, axis=0)
    queries = rng.normal(size=(3, 64))
    targets = jnp.tile(jnp.array([[0, 7, 8, 49]]), (3, 1))
    ranks = jax.jit(lambda q, v: target_ranks(q, v, targets, block_size=8))(jnp.array(queries), jnp.array(vectors))
    np.testing.assert_array_equal(ranks, np.tile([1, 8, 9, 50], (3, 1)))


def test_agrees_with_top_k_and_positions(case):
    queries, vectors, targets, exclude = (jnp.array(x) for x in case)
    index = ItemIndex(vectors, bias=jnp.arange(N) * 0.5)
    _, ranked = top_k(queries, index, N, exclude=exclude)
    np.testing.assert_array_equal(target_ranks(queries, index, targets, exclude=exclude), positions(ranked, targets))


def test_ndcg_agrees_with_scikit_learn():
    rng = np.random.default_rng(4)
    scores = rng.permutation(8 * 30).reshape(8, 30).astype(np.float32)
    relevance = rng.random((8, 30)) < 0.2
    relevance[:, 0] = True
    targets = np.full((8, 30), PAD)
    for user, row in enumerate(relevance):
        targets[user, : row.sum()] = np.flatnonzero(row)
    scorer = BlockScorer(lambda q, start, size: jax.lax.dynamic_slice_in_dim(q, start, size, 1), 30)
    ranks = target_ranks(jnp.array(scores), scorer, jnp.array(targets), block_size=7)
    for k in (1, 5, 30):
        expected = [ndcg_score(t[None], s[None], k=k, ignore_ties=True) for t, s in zip(relevance, scores, strict=True)]
        np.testing.assert_allclose(ndcg(ranks, k), expected, rtol=1e-6)


def test_what_cannot_be_ranked():
    index = ItemIndex(jnp.array([[1.0], [jnp.nan], [2.0], [-jnp.inf], [3.0]]))
    targets = jnp.array([[0, 1, 3, 5, PAD, 0, 4]])
    ranks = target_ranks(jnp.ones((1, 1)), index, targets, exclude=jnp.array([[4]]))
    # Item 0 is behind item 2 and the NaN.
    # NaN, -inf, unknown and excluded items are misses; padding and repeats have no rank.
    np.testing.assert_array_equal(ranks, [[3, np.inf, np.inf, np.inf, np.nan, np.nan, np.inf]])


def test_no_matrix_of_users_by_items():
    users, num_items, size = 32, 40_000, 500
    function = jax.jit(lambda q, v, t, e: target_ranks(q, v, t, exclude=e, block_size=size))
    shapes = ((users, 4), jnp.float32), ((num_items, 4), jnp.float32), ((users, 1), jnp.int32), ((users, 9), jnp.int32)
    compiled = function.lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile()
    # Several blocks of scores and masks may live at once, but far fewer than there are blocks.
    assert compiled.memory_analysis().temp_size_in_bytes < 20 * users * size * 4 < users * num_items * 4


def test_many_targets_a_user_are_not_compared_with_all_items_at_once():
    users, num_items, num_targets = 64, 20_000, 50

    def ranks(scores, targets):
        return target_ranks(*dense_scorer(scores), targets)

    shapes = (
        jax.ShapeDtypeStruct((users, num_items), jnp.float32),
        jax.ShapeDtypeStruct((users, num_targets), jnp.int32),
    )
    temporary = jax.jit(ranks).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert temporary < users * num_targets * num_items * 4 / 4
    rng = np.random.default_rng(5)
    scores, targets = rng.normal(size=(2, 3000)).astype(np.float32), rng.permutation(3000)[None, :2000].repeat(2, 0)
    expected = np.take_along_axis(rankdata(-scores, axis=1), targets, axis=1)
    np.testing.assert_array_equal(jax.jit(ranks)(jnp.asarray(scores), jnp.asarray(targets)), expected)


def test_unknown_tie_rule_is_named():
    with pytest.raises(ValueError, match="'random'"):
        target_ranks(jnp.ones((1, 1)), jnp.ones((2, 1)), jnp.array([0]), ties="random")
