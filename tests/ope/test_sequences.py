"""Estimators of episodes and slates: against loops in float64, and exact where every episode is known."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from recjax import ope

DISCOUNT, STEPS, STATES, ACTIONS = 0.9, 3, 2, 2
NEXT = np.array([[0, 1], [1, 0]])
CHANCE = 0.8
"""With which a step leads where it should, and to the other state otherwise."""
REWARD = np.array([[1.0, 0.2], [-0.5, 2.0]])
LOGGING = np.array([[0.6, 0.4], [0.3, 0.7]])
POLICY = np.array([[0.2, 0.8], [0.5, 0.5]])


def transition(state, action):
    return np.where(np.arange(STATES) == NEXT[state, action], CHANCE, 1 - CHANCE)


def q_values():
    """``[STEPS, S, A]``: what is still to come at each step, by backward induction."""
    q = np.zeros((STEPS + 1, STATES, ACTIONS))
    for t in reversed(range(STEPS)):
        v = (POLICY * q[t + 1]).sum(1)
        q[t] = REWARD + DISCOUNT * np.array([[transition(s, a) @ v for a in range(ACTIONS)] for s in range(STATES)])
    return q[:-1]


@pytest.fixture(scope="module")
def episodes():
    """Every episode from state 0, and how often the logging policy meets it."""
    states = [(0, *rest) for rest in itertools.product(range(STATES), repeat=STEPS - 1)]
    every = list(itertools.product(states, itertools.product(range(ACTIONS), repeat=STEPS)))
    state, action = (np.array([episode[part] for episode in every]) for part in range(2))
    chance = LOGGING[state, action].prod(1)
    for t in range(STEPS - 1):
        chance *= np.array(
            [transition(s, a)[n] for s, a, n in zip(state[:, t], action[:, t], state[:, t + 1], strict=True)]
        )
    return state, action, chance


def feedback(state, action, q=None):
    more = {}
    if q is not None:
        t = np.arange(STEPS)
        more = {"predicted": q[t, state, action], "expected": (POLICY[state] * q[t, state]).sum(-1)}
    return ope.feedback(REWARD[state, action], LOGGING[state, action], POLICY[state, action], **more)


@pytest.mark.parametrize("estimator", [ope.tis, ope.pdis])
def test_expected_contributions_are_the_value_of_the_policy(episodes, estimator):
    state, action, chance = episodes
    found = chance @ np.asarray(estimator(feedback(state, action), DISCOUNT))
    assert found == pytest.approx(POLICY[0] @ q_values()[0, 0], abs=1e-5)


@pytest.mark.parametrize("error", [0.0, 0.7])
def test_doubly_robust_needs_no_right_model_but_gains_by_one(episodes, error):
    state, action, chance = episodes
    value = POLICY[0] @ q_values()[0, 0]
    found = np.asarray(ope.sequential_dr(feedback(state, action, q_values() + error), DISCOUNT))
    assert chance @ found == pytest.approx(value, abs=1e-5)
    spread, without = (np.sqrt(chance @ (c - value) ** 2) for c in (found, ope.pdis(feedback(state, action), DISCOUNT)))
    assert error or spread < 0.7 * without


def repeated(episodes, count):
    """A log in which every episode occurs as often as it should, rounded."""
    state, action, chance = episodes
    times = np.round(chance * count).astype(int)
    return np.repeat(state, times, 0), np.repeat(action, times, 0)


def test_marginal_weights_do_not_multiply_up(episodes):
    state, action = repeated(episodes, 20_000)
    of = feedback(state, action)
    found = ope.marginalised(of, jnp.asarray(state), STATES, DISCOUNT)
    assert np.mean(found) == pytest.approx(POLICY[0] @ q_values()[0, 0], abs=2e-3)
    assert np.std(found) < np.std(ope.pdis(of, DISCOUNT))


def test_marginal_weights_by_hand():
    """Half of the log moves on to state 1, and the policy always does."""
    of = ope.feedback(np.eye(2)[[1, 1]] * [[1.0], [4.0]], np.full((2, 2), 0.5), [[1.0, 0.5], [0.0, 0.5]])
    found = ope.marginalised(of, jnp.array([[0, 1], [0, 0]]), 2)
    np.testing.assert_allclose(found, [2.0, 0.0])


def test_estimators_agree_with_loops():
    rng = np.random.default_rng(0)
    shape = (40, 5)
    reward, q, v = rng.normal(size=(3, *shape))
    b, pi = rng.uniform(0.3, 0.9, (2, *shape))
    of = ope.feedback(reward, b, pi, predicted=q, expected=v)
    tis, pdis, dr = np.zeros((3, len(reward)))
    weighted, total = np.zeros((2, 5))
    for i in range(len(reward)):
        rho = 1.0
        for t in range(5):
            dr[i] += DISCOUNT**t * rho * v[i, t]
            rho *= pi[i, t] / b[i, t]
            pdis[i] += DISCOUNT**t * rho * reward[i, t]
            dr[i] += DISCOUNT**t * rho * (reward[i, t] - q[i, t])
            weighted[t], total[t] = weighted[t] + rho * reward[i, t], total[t] + rho
        tis[i] = rho * sum(DISCOUNT**t * reward[i, t] for t in range(5))
    np.testing.assert_allclose(ope.tis(of, DISCOUNT), tis, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ope.pdis(of, DISCOUNT), pdis, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ope.sequential_dr(of, DISCOUNT), dr, rtol=1e-4, atol=1e-5)
    expected = sum(DISCOUNT**t * weighted[t] / total[t] for t in range(5))
    assert np.mean(ope.sn_pdis(of, DISCOUNT)) == pytest.approx(expected, rel=1e-5)


def test_steps_after_the_end_change_nothing():
    rng = np.random.default_rng(1)
    reward, q, v = rng.normal(size=(3, 30, 3))
    b, pi = rng.uniform(0.3, 0.9, (2, 30, 3))
    short = ope.feedback(reward, b, pi, predicted=q, expected=v)
    padded = [np.pad(part, ((0, 0), (0, 2)), constant_values=np.nan) for part in (reward, b, pi, q, v)]
    valid = np.arange(5)[None] < np.full((30, 1), 3)
    long = ope.feedback(*padded[:3], predicted=padded[3], expected=padded[4], valid=valid)
    for estimator in (ope.tis, ope.pdis, ope.sn_pdis, ope.sequential_dr):
        np.testing.assert_allclose(estimator(long, DISCOUNT), estimator(short, DISCOUNT), rtol=1e-5)
    state = rng.integers(0, 2, (30, 3))
    ended = np.pad(state, ((0, 0), (0, 2)), constant_values=-1)
    np.testing.assert_allclose(
        ope.marginalised(long, jnp.asarray(ended), 2), ope.marginalised(short, jnp.asarray(state), 2), rtol=1e-5
    )


def test_fitted_q_is_the_table_of_backward_induction(episodes):
    """As many sweeps as steps on a log without noise but for the process: the values of the first step."""
    state, action = repeated(episodes, 50_000)
    pairs = np.eye(STATES * ACTIONS)
    shown = pairs[state * ACTIONS + action]
    expected = np.einsum("sa,sad->sd", POLICY, pairs.reshape(STATES, ACTIONS, -1))[state]
    arguments = (
        shown[:, :-1],
        REWARD[state, action][:, :-1],
        np.full((len(state), STEPS - 1), DISCOUNT),
        expected[:, 1:],
    )
    flat = [jnp.asarray(part.reshape(-1, *part.shape[2:]), jnp.float32) for part in arguments]
    q = ope.fitted_q(*flat, sweeps=STEPS).reshape(STATES, ACTIONS)
    np.testing.assert_allclose(q, q_values()[0], atol=0.01)
    found = ope.direct(ope.Feedback(flat[1], flat[1], expected=jnp.asarray(expected[:, 0]) @ q.ravel()))
    assert np.mean(found) == pytest.approx(POLICY[0] @ q_values()[0, 0], abs=0.01)


def test_fitted_q_looks_no_further_than_its_sweeps():
    """A state that follows itself with reward 1: 1 + γ + γ² after three sweeps."""
    one = jnp.ones((10, 1))
    weights = ope.fitted_q(one, jnp.ones(10), jnp.full(10, 0.5), one, sweeps=3, ridge=1e-6)
    assert float(weights[0]) == pytest.approx(1.75, rel=1e-5)


# Slates.


@pytest.fixture(scope="module")
def slates():
    """All slates of two of three items, with probabilities of slots and weights of single ones."""
    pairs = np.array(list(itertools.permutations(range(3), 2)))
    first_b, first_pi = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])

    def plackett_luce(p):
        return p[pairs[:, 0]], p[pairs[:, 1]] / (1 - p[pairs[:, 0]])

    b, pi = (np.stack(plackett_luce(p), 1) for p in (first_b, first_pi))
    slot = [
        np.stack([[of.prod(1)[pairs[:, k] == item].sum() for item in pairs[:, k]] for k in range(2)], 1)
        for of in (b, pi)
    ]
    return pairs, b, pi, slot[1] / slot[0]


APPEAL = np.array([0.2, 0.5, 0.9])


def rewards(pairs, behaviour):
    top, below = APPEAL[pairs[:, 0]], APPEAL[pairs[:, 1]]
    return {
        "independent": np.stack([top, 0.5 * below], 1),
        "cascade": np.stack([top, (1 - top) * below], 1),
        "standard": np.stack([top * (1 - 0.5 * below), (1 - top) * below], 1),
    }[behaviour]


FITS = [
    ("sips", "standard"),
    ("sips", "cascade"),
    ("rips", "cascade"),
    ("rips", "independent"),
    ("iips", "independent"),
]
MISFITS = [("rips", "standard"), ("iips", "cascade")]


@pytest.mark.parametrize(
    ("name", "behaviour", "fits"), [(*pair, True) for pair in FITS] + [(*pair, False) for pair in MISFITS]
)
def test_slates_are_estimated_where_users_do_as_assumed(slates, name, behaviour, fits):
    pairs, b, pi, marginal = slates
    reward = rewards(pairs, behaviour)
    of = ope.feedback(reward, b, pi, marginal=marginal)
    found = b.prod(1) @ np.asarray(getattr(ope, name)(of))
    value = pi.prod(1) @ reward.sum(1)
    assert (found == pytest.approx(value, abs=1e-5)) == fits
    assert found == pytest.approx(value, rel=0.2)


def test_cascade_dr_has_no_spread_where_the_model_is_right(slates):
    pairs, b, pi, _ = slates
    reward = rewards(pairs, "cascade")
    q_1 = np.array(
        [reward[pairs[:, 0] == i, 0][0] + (pi[:, 1] * reward[:, 1])[pairs[:, 0] == i].sum() for i in range(3)]
    )
    v_0 = q_1 @ np.array([0.1, 0.3, 0.6])
    v_1 = np.array([(pi[:, 1] * reward[:, 1])[pairs[:, 0] == i].sum() for i in range(3)])
    predicted = np.stack([q_1[pairs[:, 0]], reward[:, 1]], 1)
    expected = np.stack([np.full(len(pairs), v_0), v_1[pairs[:, 0]]], 1)
    of = ope.feedback(reward, b, pi, predicted=predicted, expected=expected)
    value = pi.prod(1) @ reward.sum(1)
    # What is left of the reward of the first slot is the prediction of the second, which the next term takes back.
    assert b.prod(1) @ np.asarray(ope.cascade_dr(of)) == pytest.approx(value, abs=1e-5)
    wrong = of._replace(predicted=0 * of.predicted + 0.3, expected=0 * of.expected + 0.3)
    assert b.prod(1) @ np.asarray(ope.cascade_dr(wrong)) == pytest.approx(value, abs=1e-5)
    assert np.std(ope.cascade_dr(of)) < 1e-5
