"""Explored slates: distinct, uniform where they should be, and with propensities that are the frequencies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.agents.exploration import (
    ExplorationHyper,
    boltzmann,
    epsilon_greedy,
    exploration_fields,
    explorations,
    fill_uniformly,
    num_allowed,
)

BATCH = 60_000


def hyper(**fields):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), ExplorationHyper(**fields))


def check_frequencies(slate, propensity, num_items):
    """Every (slot, item) is shown as often as its propensity says, which sums to one."""
    slate, propensity = np.asarray(slate), np.asarray(propensity)
    for slot in range(slate.shape[1]):
        total = 0.0
        for item in range(num_items):
            here = slate[:, slot] == item
            if not here.any():
                continue
            claimed = propensity[here, slot]
            np.testing.assert_allclose(claimed, claimed[0], rtol=1e-5)
            p = float(claimed[0])
            assert abs(here.mean() - p) < 5 * np.sqrt(p * (1 - p) / BATCH) + 1e-9
            total += p
        assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("num_items", "slots", "exclude", "epsilon"),
    [(6, 3, [4, 4, -1], 0.4), (5, 1, [], 0.5), (3, 3, [], 0.7), (7, 2, [0, 6], 1.0), (6, 3, [1], 0.0)],
)
def test_epsilon_greedy_propensities_are_exact(key, num_items, slots, exclude, epsilon):
    scores = jnp.broadcast_to(jnp.arange(num_items, dtype=jnp.float32), (BATCH, num_items))
    excluded = jnp.broadcast_to(jnp.array(exclude, jnp.int32), (BATCH, len(exclude))) if exclude else None
    hparams = hyper(epsilon_start=epsilon, epsilon_end=epsilon)
    slate, extras = jax.jit(
        lambda key: epsilon_greedy(
            key, scores, jnp.eye(num_items), slots, hparams=hparams, step=jnp.int32(0), exclude=excluded
        )
    )(key)
    assert all(len(set(row)) == slots for row in np.asarray(slate[:500]).tolist())
    assert not np.isin(np.asarray(slate), exclude).any()
    check_frequencies(slate, extras["propensity"], num_items)


def test_boltzmann_frequencies_are_a_softmax(key):
    scores = jnp.broadcast_to(jnp.array([1.0, 0.0, 2.0, 5.0]), (BATCH, 4))
    exclude = jnp.full((BATCH, 1), 3, jnp.int32)
    slate, extras = jax.jit(
        lambda key: boltzmann(
            key, scores, jnp.eye(4), 2, hparams=hyper(temperature=0.8), step=jnp.int32(0), exclude=exclude
        )
    )(key)
    assert (slate[:, 0] != slate[:, 1]).all()
    expected = np.exp(np.array([1.0, 0.0, 2.0]) / 0.8)
    expected /= expected.sum()
    np.testing.assert_allclose(extras["propensity"], expected[np.asarray(slate)], rtol=1e-5)
    frequency = np.bincount(np.asarray(slate[:, 0]), minlength=3) / BATCH
    np.testing.assert_allclose(frequency, expected, atol=5 * np.sqrt(0.25 / BATCH))


def test_fill_is_uniform_over_the_free_items(key):
    slate = jnp.broadcast_to(jnp.array([-1, 2, -1], jnp.int32), (BATCH, 3))
    exclude = jnp.broadcast_to(jnp.array([5, 0, 5, -1, 9], jnp.int32), (BATCH, 5))
    filled = np.asarray(jax.jit(fill_uniformly, static_argnums=2)(key, slate, 7, exclude))
    assert (filled[:, 1] == 2).all()
    pairs, counts = np.unique(filled[:, [0, 2]], axis=0, return_counts=True)
    free = [1, 3, 4, 6]
    assert sorted(map(tuple, pairs)) == [(a, b) for a in free for b in free if a != b]
    expected = BATCH / 12
    assert ((counts - expected) ** 2 / expected).sum() < 31.3, "99.9 % quantile of chi-squared, 11 degrees"


def test_fill_can_use_the_last_free_item(key):
    filled = fill_uniformly(key, jnp.array([[-1, 0, -1]], jnp.int32), 3)
    assert sorted(np.asarray(filled)[0].tolist()) == [0, 1, 2]


def test_num_allowed_counts_distinct_items_of_the_catalogue():
    exclude = jnp.array([[1, 1, -1, 7], [0, 2, 3, 4], [-1, -1, -1, -1]], jnp.int32)
    assert num_allowed(5, 3, exclude).tolist() == [4, 1, 5]
    assert num_allowed(5, 2, None).tolist() == [5, 5]


def test_epsilon_follows_its_schedule(key):
    scores = jnp.broadcast_to(jnp.arange(50, dtype=jnp.float32), (4000, 50))
    hparams = hyper(epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=10)
    act = jax.jit(lambda step: epsilon_greedy(key, scores, jnp.eye(50), 1, hparams=hparams, step=step)[0])
    shares = [float((act(jnp.int32(step)) != 49).mean()) for step in (0, 5, 10)]
    np.testing.assert_allclose(shares, [0.98, 0.49, 0.0], atol=0.04)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"epsilon is 1\.5"):
        exploration_fields(1.5, 1.0)
    with pytest.raises(ValueError, match="temperature is 0"):
        exploration_fields(0.1, 0)
    with pytest.raises(ValueError, match="'epsilon_greedy'"):
        explorations["epsilon_gredy"]
    assert exploration_fields((1.0, 0.1, 5), 2.0)["epsilon_steps"] == 5
