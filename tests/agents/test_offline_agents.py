"""Offline agents against their formulas in float64, and on logs of which the best policy is known."""

from __future__ import annotations

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, loop, nn
from recjax.agents.offline.values import likely
from recjax.agents.slates import Selection
from recjax.catalogue import dense_scorer, top_k
from recjax.types import Observation, Response, Spec, Step

ITEMS = 3
SPEC = Spec(num_items=ITEMS, slate_size=1, history_length=1)
ANY = {"exclude_history": False}
GAMMA = 0.9
STATES, SHOWN, REWARDS, AFTER, ENDS = [0, 0, 1, 1], [0, 1, 2, 0], [1.0, 0.0, 2.0, -1.0], [1, 1, 0, 0], [0, 0, 1, 0]


class Table(linen.Module):
    """A number for each of two last items, and each item where there are several; the same as ``start``."""

    start: tuple

    @linen.compact
    def __call__(self, observation, items):
        table = self.param("table", lambda _: jnp.asarray(self.start, jnp.float32))
        return table[observation.history[:, -1]]


ACTOR = ((0.2, -0.3, 0.1), (0.5, 0.0, -1.0))
VALUES = ((0.4, 0.9, -0.2), (0.3, -0.6, 0.8))
STATE_VALUES = (0.5, 0.1)


def scoring(start):
    return nn.DenseNetwork(Table(start))


def table_of(params, name):
    found = params[name]["params"]
    return np.asarray(found.get("module", found)["table"], np.float64)


def log(kit):
    nest = lambda x: [[each] for each in x]  # noqa: E731
    return kit.windows(nest(STATES), nest(nest(SHOWN)), nest(nest(REWARDS)), nest(AFTER), nest(ENDS))


def descended(kit, agent):
    """``(state before, state after, metrics)`` of one step of size 1."""
    state = agent.init(jax.random.key(0), SPEC, kit.make_items(ITEMS))
    update = jax.jit(agent.learn)(jax.random.key(1), state, log(kit))
    return state, update.state, update.metrics


def check(kit, agent, expected):
    """Each table has moved against the slope of the loss of the formula, a function of that table alone."""
    before, after, metrics = descended(kit, agent)
    for name, (loss, start) in expected.items():
        start = np.asarray(start, np.float64)
        slope = np.zeros_like(start)
        for place in np.ndindex(start.shape):
            way = np.zeros_like(start)
            way[place] = 1e-5
            slope[place] = (loss(start + way) - loss(start - way)) / 2e-5
        moved = table_of(after.params, name) - table_of(before.params, name)
        np.testing.assert_allclose(moved, -slope, atol=3e-6, err_msg=name)
    return metrics


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def log_prob(table):
    return np.log(softmax(np.asarray(table)))[STATES, SHOWN]


def huber(error):
    return np.where(np.abs(error) <= 1, error**2 / 2, np.abs(error) - 0.5)


Q, PI = np.array(VALUES), softmax(np.array(ACTOR))
GOES_ON = GAMMA * (1 - np.array(ENDS))


def test_behaviour_cloning_is_the_cross_entropy(kit):
    agent = agents.bc(scoring(ACTOR), optax.sgd(1.0), **ANY)
    metrics = check(kit, agent, {"actor": (lambda table: -log_prob(table).mean(), ACTOR)})
    np.testing.assert_allclose(metrics["loss"], -log_prob(ACTOR).mean(), rtol=1e-5)


def test_cql_is_its_formula(kit):
    agent = agents.cql(scoring(VALUES), optax.sgd(1.0), discount=GAMMA, conservatism=0.6, **ANY)
    target = REWARDS + GOES_ON * Q[AFTER].max(-1)

    def loss(table):
        return huber(target - table[STATES, SHOWN]).mean() - 0.6 * log_prob(table).mean()

    metrics = check(kit, agent, {"q": (loss, VALUES)})
    np.testing.assert_allclose(metrics["loss"], loss(Q), rtol=1e-5)
    np.testing.assert_allclose(metrics["gap"], -log_prob(VALUES).mean(), rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_bcq_is_its_formula(kit, threshold):
    agent = agents.bcq(scoring(VALUES), scoring(ACTOR), optax.sgd(1.0), discount=GAMMA, threshold=threshold, **ANY)
    allowed = np.where(PI / PI.max(-1, keepdims=True) >= threshold, Q, -np.inf)
    target = REWARDS + GOES_ON * Q[AFTER, allowed[AFTER].argmax(-1)]
    of_values = lambda table: huber(target - table[STATES, SHOWN]).mean()  # noqa: E731
    check(kit, agent, {"q": (of_values, VALUES), "behaviour": (lambda table: -log_prob(table).mean(), ACTOR)})
    state = agent.init(jax.random.key(0), SPEC, kit.make_items(ITEMS))
    shown = agent.act(jax.random.key(0), state, kit.observe([0, 1]), explore=True).slate[:, 0]
    np.testing.assert_array_equal(shown, allowed.argmax(-1))


def test_iql_is_its_formula(kit):
    value, temperature, expectile = Table(STATE_VALUES), 0.5, 0.8
    options = {"discount": GAMMA, "expectile": expectile, "temperature": temperature}
    agent = agents.iql(scoring(ACTOR), scoring(VALUES), value, optax.sgd(1.0), **options, **ANY)
    shown, v = Q[STATES, SHOWN], np.array(STATE_VALUES)

    def of_value(table):
        advantage = shown - table[STATES]
        return (np.where(advantage < 0, 1 - expectile, expectile) * advantage**2).mean()

    weight = np.minimum(np.exp((shown - v[STATES]) / temperature), 100.0)
    target = REWARDS + GOES_ON * v[AFTER]
    expected = {
        "value": (of_value, STATE_VALUES),
        "q": (lambda table: (0.5 * (target - table[STATES, SHOWN]) ** 2).mean(), VALUES),
        "actor": (lambda table: -(weight * log_prob(table)).mean(), ACTOR),
    }
    metrics = check(kit, agent, expected)
    np.testing.assert_allclose(
        metrics["loss"], sum(loss(np.array(start)) for loss, start in expected.values()), rtol=1e-5
    )


def test_crr_is_its_formula(kit):
    temperature = 0.1
    agent = agents.crr(scoring(ACTOR), scoring(VALUES), optax.sgd(1.0), discount=GAMMA, temperature=temperature, **ANY)
    target = REWARDS + GOES_ON * (PI * Q).sum(-1)[AFTER]
    advantage = Q[STATES, SHOWN] - (PI * Q).sum(-1)[STATES]
    weight = np.minimum(np.exp(advantage / temperature), 20.0)
    assert (weight == 20).any(), "one is capped"
    expected = {
        "q": (lambda table: (0.5 * (target - table[STATES, SHOWN]) ** 2).mean(), VALUES),
        "actor": (lambda table: -(weight * log_prob(table)).mean(), ACTOR),
    }
    check(kit, agent, expected)


def test_likely_items_keep_their_values_and_come_first():
    values, logits = (jnp.asarray(x, jnp.float32) for x in ([[3.0, 2.0, 1.0]], [[-5.0, 1.0, 0.9]]))
    found = likely(Selection(*dense_scorer(values), None), Selection(*dense_scorer(logits), None), jnp.log(0.5))
    _, ids = top_k(found.queries, found.items, 3)
    assert ids.tolist() == [[1, 2, 0]]
    asked = found.items.score_ids(found.queries, jnp.array([[0, 2]]))
    assert asked[0, 0] < -1e4
    assert asked[0, 1] == 1.0


def biased_log(episodes=400):
    """Two steps, of which the first shows item 1 at times; what it leads to pays more, and item 2 is never shown."""
    rng = np.random.default_rng(0)
    first, second = rng.choice([0, 1], episodes, p=[0.7, 0.3]), rng.choice([0, 1], episodes)
    states = np.stack([np.full(episodes, -1), first], 1).reshape(-1)
    shown = np.stack([first, second], 1).reshape(-1)
    paid = np.stack([0.3 * (first == 0), 1.0 * (first == 1) * (second == 1)], 1).reshape(-1)
    ends = np.tile([False, True], episodes)
    observation = Observation(
        history=jnp.asarray(states, jnp.int32)[:, None],
        behaviour=jnp.where(states[:, None] < 0, -1, 1).astype(jnp.int32),
    )
    reward = jnp.asarray(paid, jnp.float32)[:, None]
    return Step(
        observation, jnp.asarray(shown, jnp.int32)[:, None], jnp.full(len(shown), jnp.nan), None,
        Response(click=reward), reward, jnp.asarray(ends), jnp.zeros(len(ends), bool),
    )  # fmt: skip


class OfLast(linen.Module):
    """Numbers that depend on the last item alone."""

    size: int

    @linen.compact
    def __call__(self, observation, items):
        found = linen.Dense(self.size)(jax.nn.one_hot(observation.history[:, -1] + 1, 1 + ITEMS))
        return found if self.size > 1 else found[:, 0]


def offline(name):
    network = nn.DenseNetwork(OfLast(ITEMS))
    parts = {"bc": (), "bcq": (network,), "cql": (), "iql": (network, OfLast(1)), "crr": (network,)}[name]
    options = {
        "bcq": {"threshold": 0.2},
        "cql": {"conservatism": 0.1},
        "iql": {"expectile": 0.9, "temperature": 0.1, "target": agents.TargetNetwork(tau=0.1)},
    }.get(name, {})
    optimizer = optax.adam(optax.linear_schedule(5e-2, 0.0, 300))
    return agents.agents.make(name, network, *parts, optimizer, **options, **ANY)


@pytest.mark.parametrize("name", ["bc", "bcq", "cql", "iql", "crr"])
def test_a_log_teaches_more_than_it_shows(kit, name):
    """Imitation shows what the log shows most often; the others what leads to most, and nothing that is not there."""
    agent = offline(name)
    config = loop.OfflineConfig(updates=300, chunk=300, batch_size=64)
    state = loop.learn_offline(agent, biased_log(), SPEC, kit.make_items(ITEMS), config, key=jax.random.key(0)).state
    shown = agent.act(jax.random.key(0), state, kit.observe([-1, 1]), explore=False).slate[:, 0]
    if name == "bc":
        slates = jnp.array([[0], [1], [2]])
        told = jnp.exp(agent.log_prob(state, kit.observe([-1] * 3), slates))
        np.testing.assert_allclose(told, [0.7, 0.3, 0.0], atol=0.08)
        assert shown[0] == 0
    else:
        np.testing.assert_array_equal(shown, [1, 1])


def test_what_was_shown_again_is_not_learned_from(kit):
    """An item of the history can never be shown, so nothing is gained by making it likelier."""
    agent = agents.bc(scoring(ACTOR), optax.sgd(1.0))
    state = agent.init(jax.random.key(0), SPEC, kit.make_items(ITEMS))
    again = kit.windows([[0]], [[[0]]], [[[1.0]]], [[1]], [[0]])
    update = agent.learn(jax.random.key(0), state, again)
    np.testing.assert_array_equal(table_of(update.state.params, "actor"), table_of(state.params, "actor"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda q, **o: agents.cql(q, o["opt"], conservatism=-1.0), "conservatism is -1.0"),
        (lambda q, **o: agents.bcq(q, q, o["opt"], threshold=1.5), "threshold is 1.5"),
        (lambda q, **o: agents.iql(q, q, Table(STATE_VALUES), o["opt"], expectile=1.0), "expectile is 1.0"),
        (lambda q, **o: agents.crr(q, q, o["opt"], temperature=0.0), "temperature is 0.0"),
        (lambda q, **o: agents.bc(Table(ACTOR), o["opt"]), r"Table is no nn\.ScoringNetwork"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(scoring(VALUES), opt=optax.sgd(1.0))
