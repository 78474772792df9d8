"""The slate with the largest expected value under a user's choice, against all slates there are."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.catalogue import (
    BlockScorer,
    Choices,
    ItemIndex,
    best_slate,
    dense_scorer,
    gains,
    greedy_slate,
    ranked,
    ratio,
    slate_value,
    top_k,
)
from recjax.types import PAD_ID

ITEMS, USERS = 9, 64


def by_enumeration(logits, values, nothing, k, excluded=()):
    """The value of the best slate of one user in float64."""
    allowed = [item for item in range(len(logits)) if item not in excluded]
    return max(by_slate(logits, values, nothing, list(slate)) for slate in itertools.combinations(allowed, k))


def by_slate(logits, values, nothing, slate):
    odds = np.exp(logits[slate])
    return (odds @ values[slate] + nothing) / (odds.sum() + 1)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return rng.normal(scale=2.0, size=(USERS, ITEMS)), rng.normal(size=(USERS, ITEMS)), rng.normal(size=USERS)


@pytest.mark.parametrize("k", [1, 3, ITEMS - 2])
def test_best_of_all_slates(problem, k):
    logits, values, nothing = problem
    excluded = np.stack([np.random.default_rng(user).permutation(ITEMS)[:2] for user in range(USERS)])
    arrays = (jnp.asarray(x, jnp.float32) for x in (logits, values))
    choices = Choices(*map(dense_scorer, arrays), jnp.asarray(nothing, jnp.float32))
    value, slate = best_slate(choices, k, exclude=jnp.asarray(excluded, jnp.int32))
    expected = [
        by_enumeration(*problem_of, k, e) for *problem_of, e in zip(logits, values, nothing, excluded, strict=True)
    ]
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slate_value(choices, slate), value, rtol=1e-5, atol=1e-6)
    assert not (np.asarray(slate)[:, :, None] == excluded[:, None, :]).any()
    assert all(len(set(row)) == k for row in np.asarray(slate).tolist())


def by_iteration(logits, values, nothing, k):
    """The value of the best slate of one user in float64, by Dinkelbach's iteration over all items."""
    odds, level = np.exp(logits), nothing
    for _ in range(50):
        best = np.argsort(-odds * (values - level))[:k]
        level = (odds[best] @ values[best] + nothing) / (odds[best].sum() + 1)
    return level


@pytest.mark.parametrize(
    ("users", "held"), [(50, True), (20, True), (20, False)], ids=["columns held", "rows held", "computed at each pass"]
)
@pytest.mark.parametrize("nothing", [-30.0, 0.0, 30.0])
def test_a_shortlist_is_enough_or_another_one_is_made(nothing, users, held, monkeypatch):
    """Levels far from the value of the best slate begin with shortlists that do not hold it."""
    monkeypatch.setattr(ratio, "HELD", 2**22 if held else 0)
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=4.0, size=(users, 400))
    values = rng.normal(size=(users, 400)) * rng.choice([1.0, 9.0], (users, 1))
    choices = Choices(*(dense_scorer(jnp.asarray(x, jnp.float32)) for x in (logits, values)), jnp.full(users, nothing))
    value, slate = best_slate(choices, 4)
    expected = [by_iteration(*of_user, nothing, 4) for of_user in zip(logits, values, strict=True)]
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(slate_value(choices, slate), value, rtol=1e-4, atol=1e-4)


def test_items_of_an_index_and_of_blocks_are_found_alike(problem):
    rng = np.random.default_rng(1)
    odds, values, queries = (rng.normal(size=(n, 4)).astype(np.float32) for n in (500, 500, 8))
    nothing = jnp.zeros(8)
    by_vectors = Choices((queries, ItemIndex(jnp.asarray(odds))), (queries, ItemIndex(jnp.asarray(values))), nothing)
    scores = tuple(dense_scorer(jnp.asarray(queries @ table.T)) for table in (odds, values))
    blocks = tuple((own, BlockScorer(scorer.of_block, 500, block_size=64)) for own, scorer in scores)
    found = [best_slate(each, 5) for each in (by_vectors, Choices(*scores, nothing), Choices(*blocks, nothing))]
    for value, _ in found[1:]:
        np.testing.assert_allclose(value, found[0][0], rtol=1e-5)


def test_without_a_better_choice_nothing_is_worth_more():
    """A slate has its items even where all of them are worth less than choosing nothing: the least chosen ones."""
    logits, values = jnp.array([[0.0, 2.0, -1.0]]), jnp.array([[-1.0, -1.0, -1.0]])
    value, slate = best_slate(Choices(dense_scorer(logits), dense_scorer(values), jnp.ones(1)), 1)
    assert slate.tolist() == [[2]]
    np.testing.assert_allclose(value, (1 - np.exp(-1)) / (1 + np.exp(-1)), rtol=1e-6)


def test_empty_slots_and_enormous_odds():
    choices = Choices(dense_scorer(jnp.array([[500.0, 0.0]])), dense_scorer(jnp.array([[2.0, 5.0]])), jnp.zeros(1))
    np.testing.assert_allclose(slate_value(choices, jnp.array([[0, PAD_ID]])), 2.0, rtol=1e-6)
    np.testing.assert_allclose(slate_value(choices, jnp.array([[PAD_ID, PAD_ID]])), 0.0)


def test_greedy_adds_the_item_that_raises_the_value_most(problem):
    logits, values, nothing = problem
    choices = Choices(dense_scorer(jnp.asarray(logits)), dense_scorer(jnp.asarray(values)), jnp.asarray(nothing))
    excluded = jnp.zeros((USERS, 1), jnp.int32)
    found = np.asarray(greedy_slate(choices, 3, exclude=excluded))
    for user in range(USERS):
        slate: list[int] = []
        for _ in range(3):
            rest = [item for item in range(1, ITEMS) if item not in slate]
            worth = [by_slate(logits[user], values[user], nothing[user], [*slate, item]) for item in rest]
            slate.append(rest[int(np.argmax(worth))])
        assert found[user].tolist() == slate


def test_rankings_give_their_slates_back(problem):
    logits, values, nothing = problem
    choices = Choices(dense_scorer(jnp.asarray(logits)), dense_scorer(jnp.asarray(values)), jnp.asarray(nothing))
    value, slate = best_slate(choices, 3)
    again = top_k(*gains(choices, value), 3)[1]
    assert np.array_equal(again, slate)
    assert np.array_equal(top_k(*ranked(slate, ITEMS), 3)[1], slate)
