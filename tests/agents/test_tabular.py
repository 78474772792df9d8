"""Tabular agents against dynamic programming in float64, on random decision processes.

Transition probabilities are quarters, so a log that holds every outcome as often as it is likely makes the mean
of the errors exact, and the table must reach the solution of Bellman's equation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents
from recjax.types import Spec

STATES, ITEMS, OUTCOMES, GAMMA, EPSILON, TAU = 4, 3, 4, 0.8, 0.4, 0.7
SPEC = Spec(num_items=ITEMS, slate_size=1, history_length=1)


@pytest.fixture(scope="module", params=[0, 1])
def process(request):
    """Rewards and successors ``[S, N, 4]`` of equally likely outcomes, and which of them end the episode."""
    rng = np.random.default_rng(request.param)
    shape = STATES, ITEMS, OUTCOMES
    return rng.normal(size=shape), rng.integers(0, STATES, shape), rng.random(shape) < 0.15


def solved(process, value_of):
    """The fixed point of ``Q = mean over outcomes of r + γ value_of(Q)[s']``."""
    reward, successor, ends = process
    q = np.zeros((STATES, ITEMS))
    for _ in range(300):
        q = (reward + GAMMA * np.where(ends, 0, value_of(q)[successor])).mean(-1)
    return q


def soft(q, temperature=TAU):
    weights = np.exp(q / temperature)
    return weights / weights.sum(-1, keepdims=True)


VALUES = {
    "best": lambda q: q.max(-1),
    "uniform": lambda q: q.mean(-1),
    "epsilon": lambda q: (1 - EPSILON) * q.max(-1) + EPSILON * q.mean(-1),
    "boltzmann": lambda q: (soft(q) * q).sum(-1),
}


def outcomes(kit, process, next_items=1):
    """Every outcome once for each of the items that may be shown next, as windows of one or two steps."""
    reward, successor, ends = process
    shape = (*reward.shape, next_items)
    s, a, _, b = (index.reshape(-1) for index in np.indices(shape))
    r, after, end = (np.broadcast_to(x[..., None], shape).reshape(-1) for x in (reward, successor, ends))
    two = slice(0, 2 if next_items > 1 else 1)
    pair = lambda first, second: np.stack([first, second], axis=1)[:, two]  # noqa: E731
    return kit.windows(
        pair(s, after), pair(a, b)[..., None], pair(r, 0 * r)[..., None], pair(after, after), pair(end, 0 * end)
    )


def state_of(observation):
    return observation.history[:, -1]


def learned(kit, make, log, policy, updates=400):
    agent = make(state_of, STATES, discount=GAMMA, step_size=0.5, policy=policy)
    return np.asarray(kit.fit(agent, SPEC, log, updates)[0].table)


def policy_of(**options):
    return agents.SlatePolicy(exclude_history=False, **options)


def test_q_learning_reaches_value_iteration(kit, process):
    table = learned(kit, agents.q_learning, outcomes(kit, process), policy_of())
    np.testing.assert_allclose(table, solved(process, VALUES["best"]), atol=1e-4)


def test_sarsa_reaches_the_values_of_what_is_shown(kit, process):
    """All items are shown next equally often."""
    table = learned(kit, agents.sarsa, outcomes(kit, process, next_items=ITEMS), policy_of())
    np.testing.assert_allclose(table, solved(process, VALUES["uniform"]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("best", policy_of(epsilon=0.0)),
        ("uniform", policy_of(epsilon=1.0)),
        ("epsilon", policy_of(epsilon=EPSILON)),
        ("boltzmann", policy_of(exploration="boltzmann", temperature=TAU)),
    ],
)
def test_expected_sarsa_reaches_the_values_of_its_own_exploration(kit, process, name, policy):
    table = learned(kit, agents.expected_sarsa, outcomes(kit, process), policy)
    np.testing.assert_allclose(table, solved(process, VALUES[name]), atol=1e-4)


def test_sarsa_learns_nothing_from_a_step_whose_next_action_is_not_known(kit):
    """The first window is cut, the second ends; the third goes on to an item that is worth 1."""
    log = kit.windows(
        [[0, 1], [0, 1], [1, 2]], [[[0], [1]], [[1], [1]], [[1], [2]]], [[[5], [0]], [[7], [0]], [[1], [0]]],
        [[1, 2]] * 3, [[0, 0], [1, 0], [0, 0]], truncated=[[1, 0], [0, 0], [0, 0]],
    )  # fmt: skip
    agent = agents.sarsa(state_of, STATES, discount=0.5, step_size=1.0, policy=policy_of())
    state = agent.init(None, SPEC, kit.make_items(ITEMS), params=jnp.zeros((STATES, ITEMS)).at[2, 2].set(1.0))
    after = np.asarray(jax.jit(agent.learn)(None, state, log).state.table)
    expected = np.zeros((STATES, ITEMS))
    expected[2, 2], expected[0, 1], expected[1, 1] = 1, 7, 1 + 0.5
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_the_next_value_of_a_slate_is_the_mean_of_its_items(kit):
    spec = Spec(num_items=ITEMS, slate_size=2, history_length=1)
    log = kit.windows([[0, 1]], [[[0, 1], [2, 0]]], [[[1, 0], [0, 0]]], [[1, 2]], [[0, 0]])
    table = jnp.zeros((STATES, ITEMS)).at[1].set(jnp.array([2.0, 100.0, 4.0]))
    agent = agents.sarsa(state_of, STATES, discount=0.5, step_size=1.0, policy=policy_of())
    state = agent.init(None, spec, kit.make_items(ITEMS), params=table)
    after = jax.jit(agent.learn)(None, state, log).state.table
    np.testing.assert_allclose(after[0], [1 + 0.5 * 3, 0.5 * 3, 0], rtol=1e-6)
