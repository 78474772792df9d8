"""Explored slates: distinct, uniform where they should be, and with propensities that are the frequencies."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.agents import SlatePolicy, plackett_luce
from recjax.agents.exploration import (
    ExplorationHyper,
    boltzmann,
    epsilon_greedy,
    explorations,
)
from recjax.agents.uniform import fill_uniformly, num_allowed

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


def check_slate_frequencies(slate, log_prob):
    """Every slate is shown as often as its log-probability says, and those shown have nearly all of it."""
    _, first, counts = np.unique(np.asarray(slate), axis=0, return_index=True, return_counts=True)
    chance = np.exp(np.asarray(log_prob, np.float64))[first]
    assert (np.abs(counts / BATCH - chance) < 5 * np.sqrt(chance * (1 - chance) / BATCH) + 1e-9).all()
    assert 0.99 < chance.sum() < 1 + 1e-4


def epsilon_greedy_slates(scores, slots, exclude, epsilon):
    """The probability of every slate, by going through who explores and what is drawn, in float64."""
    allowed = [item for item in range(len(scores)) if item not in exclude]
    best = sorted(allowed, key=lambda item: (-scores[item], item))[:slots]
    chance = dict.fromkeys(itertools.permutations(allowed, slots), 0.0)
    for explores in itertools.product([False, True], repeat=slots):
        empty = [slot for slot in range(slots) if explores[slot]]
        pool = [item for item in allowed if item not in {best[slot] for slot in range(slots) if not explores[slot]}]
        draws = list(itertools.permutations(pool, len(empty)))
        for drawn in draws:
            slate = [drawn[empty.index(slot)] if explores[slot] else best[slot] for slot in range(slots)]
            weight = epsilon ** len(empty) * (1 - epsilon) ** (slots - len(empty))
            chance[tuple(slate)] += weight / len(draws)
    return chance


def boltzmann_slates(scores, slots, exclude, temperature):
    """The probability of every slate, as a product of softmaxes over what is left, in float64."""
    allowed = [item for item in range(len(scores)) if item not in exclude]
    mass = {item: np.exp(scores[item] / temperature) for item in allowed}
    chance = {}
    for slate in itertools.permutations(allowed, slots):
        chance[slate] = 1.0
        for slot, item in enumerate(slate):
            chance[slate] *= mass[item] / sum(mass[other] for other in allowed if other not in slate[:slot])
    return chance


def of_slots(chance, slate):
    """The probability of each slot given those above it, and the marginal one of each slot."""
    starts = [sum(p for other, p in chance.items() if other[:k] == slate[:k]) for k in range(len(slate) + 1)]
    given = [after / before if before else 0.0 for before, after in itertools.pairwise(starts)]
    return given, [sum(p for other, p in chance.items() if other[k] == slate[k]) for k in range(len(slate))]


SMALL = [(5, 2, [], 0.3), (6, 3, [4, 4, -1], 0.6), (3, 3, [], 0.7), (5, 3, [1], 1.0), (5, 2, [4], 0.0)]


@pytest.mark.parametrize(("num_items", "slots", "exclude", "amount"), SMALL)
@pytest.mark.parametrize("name", ["epsilon_greedy", "boltzmann"])
def test_every_reported_probability_is_that_of_the_enumeration(name, num_items, slots, exclude, amount, key):
    """Of all slates, and of those that are drawn: the slate, each slot given those above it, and the propensity."""
    scores = np.array([0.5, -1.0, 2.0, 0.1, 3.0, 0.4])[:num_items]
    if name == "boltzmann":
        amount = amount + 0.2
        chance, hparams = boltzmann_slates(scores, slots, exclude, amount), hyper(temperature=amount)
    else:
        chance = epsilon_greedy_slates(scores, slots, exclude, amount)
        hparams = hyper(epsilon_start=amount, epsilon_end=amount)
    assert sum(chance.values()) == pytest.approx(1)
    exploration = explorations[name]

    def options(batch):
        excluded = jnp.broadcast_to(jnp.array(exclude, jnp.int32), (batch, len(exclude))) if exclude else None
        return jnp.broadcast_to(jnp.asarray(scores, jnp.float32), (batch, num_items)), excluded

    @jax.jit
    def of_all(slates):
        queries, excluded = options(len(slates))
        arguments = {"hparams": hparams, "step": jnp.int32(0), "exclude": excluded}
        functions = exploration.log_prob, exploration.slot_log_probs
        return [jnp.exp(function(queries, jnp.eye(num_items), slates, **arguments)) for function in functions]

    slates = list(chance)
    whole, given = of_all(jnp.asarray(slates, jnp.int32))
    np.testing.assert_allclose(whole, list(chance.values()), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(given, [of_slots(chance, slate)[0] for slate in slates], rtol=1e-4, atol=1e-6)

    @jax.jit
    def drawn(key):
        queries, excluded = options(64)
        arguments = {"hparams": hparams, "step": jnp.int32(0), "exclude": excluded}
        return exploration.draw(key, queries, jnp.eye(num_items), slots, **arguments)

    slate, log_prob, extras = drawn(key)
    shown = [tuple(row) for row in slate.tolist()]
    kind = 1 if name == "epsilon_greedy" else 0
    np.testing.assert_allclose(jnp.exp(log_prob), [chance[row] for row in shown], rtol=1e-4)
    np.testing.assert_allclose(extras["propensity"], [of_slots(chance, row)[kind] for row in shown], rtol=1e-4)


def test_gumbel_top_k_is_boltzmann():
    assert explorations["gumbel_top_k"] == explorations["boltzmann"]


@pytest.mark.parametrize(
    ("num_items", "slots", "exclude", "epsilon"),
    [(6, 3, [4, 4, -1], 0.4), (5, 1, [], 0.5), (3, 3, [], 0.7), (7, 2, [0, 6], 1.0), (6, 3, [1], 0.0)],
)
def test_epsilon_greedy_propensities_are_exact(key, num_items, slots, exclude, epsilon):
    scores = jnp.broadcast_to(jnp.arange(num_items, dtype=jnp.float32), (BATCH, num_items))
    excluded = jnp.broadcast_to(jnp.array(exclude, jnp.int32), (BATCH, len(exclude))) if exclude else None
    hparams = hyper(epsilon_start=epsilon, epsilon_end=epsilon)
    slate, log_prob, extras = jax.jit(
        lambda key: epsilon_greedy(
            key, scores, jnp.eye(num_items), slots, hparams=hparams, step=jnp.int32(0), exclude=excluded
        )
    )(key)
    assert all(len(set(row)) == slots for row in np.asarray(slate[:500]).tolist())
    assert not np.isin(np.asarray(slate), exclude).any()
    check_frequencies(slate, extras["propensity"], num_items)
    check_slate_frequencies(slate, log_prob)


def test_boltzmann_frequencies_are_a_softmax(key):
    scores = jnp.broadcast_to(jnp.array([1.0, 0.0, 2.0, 5.0]), (BATCH, 4))
    exclude = jnp.full((BATCH, 1), 3, jnp.int32)
    slate, log_prob, extras = jax.jit(
        lambda key: boltzmann(
            key, scores, jnp.eye(4), 2, hparams=hyper(temperature=0.8), step=jnp.int32(0), exclude=exclude
        )
    )(key)
    assert (slate[:, 0] != slate[:, 1]).all()
    expected = np.exp(np.array([1.0, 0.0, 2.0]) / 0.8)
    expected /= expected.sum()
    shown = np.asarray(slate)
    first = expected[shown[:, 0]]
    second = expected[shown[:, 1]] / (1 - first)
    np.testing.assert_allclose(extras["propensity"], np.stack([first, second], axis=1), rtol=1e-5)
    np.testing.assert_allclose(log_prob, np.log(first * second), rtol=1e-4, atol=1e-5)
    check_slate_frequencies(slate, log_prob)
    frequency = np.bincount(np.asarray(slate[:, 0]), minlength=3) / BATCH
    np.testing.assert_allclose(frequency, expected, atol=5 * np.sqrt(0.25 / BATCH))


def test_plackett_luce_is_a_product_of_softmaxes():
    """In float64 NumPy, one softmax a slot over what is left, also where the first item has nearly all of the mass."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 40))
    order = np.argsort(scores, axis=1)
    slate = np.concatenate([order[:, :-4:-1], order[:, [7]]], axis=1)
    exclude = order[:, :3]
    scores *= np.array([1, 3, 10, 30, 0])[:, None]
    expected = np.zeros((5, 4))
    for row in range(5):
        gone = list(exclude[row])
        for slot in range(4):
            left = np.setdiff1d(np.arange(40), gone)
            top = scores[row, left].max()
            rest = top + np.log(np.exp(scores[row, left] - top).sum())
            expected[row, slot] = scores[row, slate[row, slot]] - rest
            gone.append(slate[row, slot])
    found = plackett_luce(
        jnp.asarray(scores, jnp.float32), jnp.eye(40), jnp.asarray(slate), exclude=jnp.asarray(exclude)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_items", "limit"), [(7, 31.3), (18, 225.0)], ids=["few are free", "many are free"])
def test_fill_is_uniform_over_the_free_items(num_items, limit, key):
    slate = jnp.broadcast_to(jnp.array([-1, 2, -1], jnp.int32), (BATCH, 3))
    exclude = jnp.broadcast_to(jnp.array([5, 0, 5, -1, 9], jnp.int32), (BATCH, 5))
    filled = np.asarray(jax.jit(fill_uniformly, static_argnums=2)(key, slate, num_items, exclude))
    assert (filled[:, 1] == 2).all()
    pairs, counts = np.unique(filled[:, [0, 2]], axis=0, return_counts=True)
    free = sorted({*range(num_items)} - {0, 2, 5, 9})
    assert sorted(map(tuple, pairs)) == [(a, b) for a in free for b in free if a != b]
    expected = BATCH / len(pairs)
    assert ((counts - expected) ** 2 / expected).sum() < limit, "99.9 % quantile of chi-squared, 11 or 181 degrees"


def test_fill_can_use_the_last_free_item(key):
    filled = fill_uniformly(key, jnp.array([[-1, 0, -1]], jnp.int32), 3)
    assert sorted(np.asarray(filled)[0].tolist()) == [0, 1, 2]


def test_num_allowed_counts_distinct_items_of_the_catalogue():
    exclude = jnp.array([[1, 1, -1, 7], [0, 2, 3, 4], [-1, -1, -1, -1]], jnp.int32)
    assert num_allowed(5, 3, exclude).tolist() == [4, 1, 5]
    assert num_allowed(5, 2, None).tolist() == [5, 5]


def test_num_allowed_of_long_lists_is_that_of_sets(key):
    exclude = jax.random.randint(key, (5, 90), -1, 60)
    expected = [50 - len({i for i in row if 0 <= i < 50}) for row in exclude.tolist()]
    assert num_allowed(50, 5, exclude).tolist() == expected


def test_epsilon_follows_its_schedule(key):
    scores = jnp.broadcast_to(jnp.arange(50, dtype=jnp.float32), (4000, 50))
    hparams = hyper(epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=10)
    act = jax.jit(lambda step: epsilon_greedy(key, scores, jnp.eye(50), 1, hparams=hparams, step=step).slate)
    shares = [float((act(jnp.int32(step)) != 49).mean()) for step in (0, 5, 10)]
    np.testing.assert_allclose(shares, [0.98, 0.49, 0.0], atol=0.04)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"epsilon is 1\.5"):
        SlatePolicy(epsilon=1.5)
    with pytest.raises(ValueError, match="temperature is 0"):
        SlatePolicy(temperature=0)
    with pytest.raises(ValueError, match="'epsilon_greedy'"):
        SlatePolicy("epsilon_gredy")
    assert SlatePolicy(epsilon=(1.0, 0.1, 5)).hparams()["epsilon_steps"] == 5
