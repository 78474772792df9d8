"""What every registered agent must do; a new agent is added to ``MAKE`` or the first test fails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from recjax import agents, nn
from recjax.catalogue import top_k
from recjax.replay import Batch
from recjax.types import Observation, Response, Spec, Step, seed_axes

SPEC = Spec(num_items=30, slate_size=4, history_length=5, context_size=2)
USERS = 16


@struct.dataclass
class Neighbours:
    """Stands for a fitted model: items near those of the history."""

    similarity: jax.Array

    def scores(self, history):
        return jnp.where(history[..., None] < 0, 0.0, self.similarity[history]).sum(-2)


def q_network():
    return nn.DotProductQ.of(num_items=SPEC.num_items, dim=8)


def critic():
    return nn.StateValue.of(num_items=SPEC.num_items, dim=8)


def recommendation():
    return nn.Recommendation.of(num_items=SPEC.num_items, dim=8)


def of_vectors(name, actor, **options):
    nearest = agents.NearestItems(np.random.default_rng(0).normal(size=(SPEC.num_items, 4)), neighbours=6)
    networks = actor(4, widths=(8,)), agents.VectorCritic(widths=(8,))
    return agents.agents.make(name, *networks, optax.adam(1e-3), optax.adam(1e-2), nearest=nearest, **options)


def neighbours():
    distance = jnp.arange(SPEC.num_items)[:, None] - jnp.arange(SPEC.num_items)[None]
    return Neighbours(jnp.exp(-jnp.abs(distance).astype(jnp.float32)))


MAKE = {
    "random": lambda: agents.agents.make("random"),
    "popularity": lambda: agents.agents.make("popularity"),
    "neighbours": lambda: agents.agents.make("neighbours", neighbours()),
    "greedy": lambda: agents.agents.make("greedy", recommendation()),
    "supervised": lambda: agents.agents.make("supervised", agents.ClickPrediction(recommendation()), optax.adam(1e-2)),
    "similarity_prior": lambda: agents.agents.make("similarity_prior", recommendation(), prior="popularity"),
    "dqn": lambda: agents.agents.make(
        "dqn", q_network(), optax.adam(1e-2), n_step=2, policy=agents.SlatePolicy("boltzmann")
    ),
    "slate_q": lambda: agents.agents.make(
        "slate_q", nn.DotProductSlateQ.of(num_items=SPEC.num_items, dim=8), optax.adam(1e-2), n_step=2
    ),
    "q_learning": lambda: agents.agents.make("q_learning"),
    "sarsa": lambda: agents.agents.make("sarsa"),
    "expected_sarsa": lambda: agents.agents.make("expected_sarsa"),
    "reinforce": lambda: agents.agents.make("reinforce", q_network(), optax.adam(1e-2), length=2),
    "rloo": lambda: agents.agents.make("rloo", q_network(), optax.adam(1e-2), length=2),
    "a2c": lambda: agents.agents.make("a2c", q_network(), critic(), optax.adam(1e-2), length=2),
    "ppo": lambda: agents.agents.make("ppo", q_network(), critic(), optax.adam(1e-2), length=2),
    "sac_discrete": lambda: agents.agents.make("sac_discrete", q_network(), q_network(), optax.adam(1e-2)),
    "bc": lambda: agents.agents.make("bc", recommendation(), optax.adam(1e-2)),
    "bcq": lambda: agents.agents.make("bcq", q_network(), recommendation(), optax.adam(1e-2)),
    "cql": lambda: agents.agents.make("cql", q_network(), optax.adam(5e-2)),
    "iql": lambda: agents.agents.make("iql", recommendation(), q_network(), critic(), optax.adam(1e-2)),
    "crr": lambda: agents.agents.make("crr", recommendation(), q_network(), optax.adam(1e-2)),
    "epsilon_greedy_bandit": lambda: agents.agents.make("epsilon_greedy_bandit", agents.Means()),
    "ucb": lambda: agents.agents.make("ucb", agents.Means()),
    "thompson": lambda: agents.agents.make("thompson", agents.Linear(agents.context_features, agents.item_models())),
    "square_cb": lambda: agents.agents.make("square_cb", agents.Means()),
    "ddpg": lambda: of_vectors("ddpg", agents.VectorActor, noise=1.0),
    "td3": lambda: of_vectors("td3", agents.VectorActor, noise=1.0),
    "sac": lambda: of_vectors("sac", agents.GaussianActor),
}
POLICIES = ("reinforce", "rloo", "a2c", "ppo", "sac_discrete", "bc", "iql", "crr")
STOCHASTIC = ("random", "supervised", "dqn", "slate_q", "q_learning", "sarsa", "expected_sarsa", *POLICIES)
STOCHASTIC += ("epsilon_greedy_bandit", "thompson", "square_cb", "ddpg", "td3", "sac")
SAME_CODE = {"rloo": "reinforce", "a2c": "ppo", "bc": "iql", "crr": "iql", "cql": "bcq"}
"""Agents that differ from others in the formula of their loss alone, which has tests of its own."""
NEEDS_PARAMS = ("greedy", "similarity_prior")
RATES_NO_ITEMS = ("random", "ddpg", "td3", "sac")


def test_every_registered_agent_is_here():
    assert set(MAKE) == set(agents.agents)


def observations(shape, seed=0):
    rng = np.random.default_rng(seed)
    history = rng.integers(0, SPEC.num_items, (*shape, SPEC.history_length))
    # Every length of history occurs, padded on the left.
    length = np.arange(np.prod(shape)).reshape(shape) % (SPEC.history_length + 1)
    history = np.where(np.arange(SPEC.history_length) < SPEC.history_length - length[..., None], -1, history)
    return Observation(
        history=jnp.asarray(history, jnp.int32),
        behaviour=jnp.asarray(np.where(history < 0, -1, 1), jnp.int32),
        context=jnp.asarray(rng.normal(size=(*shape, SPEC.context_size)), jnp.float32),
    )


def samples(n):
    rng = np.random.default_rng(3)
    shape = (USERS, n)
    click = jnp.asarray(rng.random((*shape, SPEC.slate_size)) < 0.4, jnp.float32)
    slate = jnp.asarray(rng.integers(0, SPEC.num_items, (*shape, SPEC.slate_size)), jnp.int32)
    ends = lambda: jnp.asarray(rng.random(shape) < 0.2)  # noqa: E731
    steps = Step(
        observations(shape), slate, jnp.zeros(shape), None, Response(click=click), click, ends(), ends(),
        observations(shape, 1),
    )  # fmt: skip
    return Batch(steps, jnp.ones(USERS, bool).at[0].set(False), jnp.arange(USERS), jnp.full(USERS, 1.0 / USERS))


@pytest.fixture(scope="module", params=list(MAKE))
def case(request, kit):
    """Name, agent, its compiled functions and a state."""
    name = request.param
    agent, items = MAKE[name](), kit.make_items(SPEC.num_items)
    params = None
    if name in NEEDS_PARAMS:
        params = jax.jit(recommendation().init)(jax.random.key(5), SPEC.empty_observation((1,)), items)
    init = jax.jit(lambda key: agent.init(key, SPEC, items, agent.hparams, params))
    act = jax.jit(agent.act, static_argnames="explore")
    learn = jax.jit(agent.learn) if agent.learn else None
    return name, agent, init, act, learn, init(jax.random.key(0))


@pytest.mark.parametrize("explore", [True, False])
def test_slates(case, explore):
    name, agent, _, act, _, state = case
    observation = observations((USERS,))
    slate, log_prob, extras = act(jax.random.key(1), state, observation, explore=explore)
    assert slate.shape == (USERS, SPEC.slate_size)
    assert slate.dtype == jnp.int32
    for shown, history in zip(np.asarray(slate), np.asarray(observation.history), strict=True):
        assert len(set(shown.tolist())) == SPEC.slate_size
        assert ((shown >= 0) & (shown < SPEC.num_items)).all()
        assert not set(shown.tolist()) & set(history.tolist())
    assert log_prob.shape == (USERS,)
    assert (np.asarray(log_prob) <= 1e-6).all()
    if agent.log_prob is None:
        return
    propensity = np.asarray(extras["propensity"])
    assert propensity.shape == slate.shape
    assert propensity.dtype == np.float32
    assert ((propensity > 0) & (propensity <= 1)).all()
    if not explore and name != "random":
        assert (propensity == 1).all()
        assert (np.asarray(log_prob) == 0).all()


def test_scores_are_what_the_greedy_slate_ranks(case):
    name, agent, _, act, _, state = case
    assert (agent.scores is None) == (name in RATES_NO_ITEMS)
    if agent.scores is None:
        pytest.skip("does not rate items")
    observation = observations((USERS,))
    rank = lambda state: top_k(*agent.scores(state, observation), SPEC.slate_size, exclude=observation.history)  # noqa: E731
    slate, *_ = act(jax.random.key(1), state, observation, explore=False)
    np.testing.assert_array_equal(slate, jax.jit(rank)(state)[1])


@pytest.mark.parametrize("explore", [True, False])
def test_log_prob_is_that_of_the_slate_shown(case, explore):
    name, agent, _, act, _, state = case
    if agent.log_prob is None:
        pytest.skip("its probabilities cannot be told")
    observation = observations((USERS,))
    action = act(jax.random.key(1), state, observation, explore=explore)
    log_prob = jax.jit(agent.log_prob, static_argnames="explore")
    found = log_prob(state, observation, action.slate, explore=explore)
    np.testing.assert_allclose(found, action.log_prob, rtol=1e-4, atol=1e-4)
    seen = jnp.where(observation.history[:, -1:] < 0, -1, observation.history[:, -1:])
    for impossible in (action.slate.at[:, 1].set(action.slate[:, 0]), action.slate.at[:, 0].set(seen[:, 0])):
        assert (log_prob(state, observation, impossible, explore=explore) == -jnp.inf).all(), name


def test_same_key_same_slate_and_keys_differ(case):
    name, _, _, act, _, state = case
    observation = observations((USERS,))
    draw = lambda seed: np.asarray(act(jax.random.key(seed), state, observation, explore=True)[0])  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any() == (name in STOCHASTIC)


def test_learning_reduces_the_error_of_one_sample(case):
    name, agent, _, _, learn, state = case
    if learn is None or name in SAME_CODE:
        pytest.skip(f"is {SAME_CODE[name]} but for its loss" if learn else "does not learn")
    sample, measure = samples(agent.memory.window), []
    for _ in range(20):
        state, metrics, _ = learn(jax.random.key(0), state, sample)
        assert all(value.shape == () and np.isfinite(value) for value in metrics.values())
        measure.append(float(metrics["loss" if "loss" in metrics else "td_error"]))
    assert measure[-1] < 0.9 * measure[0]


def test_a_tick_counts_a_step_of_the_environment(case):
    _, agent, *_, state = case
    if agent.tick is None:
        pytest.skip("counts nothing")
    assert int(agent.tick(agent.tick(state)).acted) == int(state.acted) + 2


def test_a_second_call_does_not_compile_again(case):
    _, agent, _, act, learn, state = case
    act(jax.random.key(1), state, observations((USERS,)), explore=True)
    before = act._cache_size(), learn and learn._cache_size()
    if learn:
        sample = samples(agent.memory.window)
        state, *_ = learn(jax.random.key(1), state, sample)
        state, *_ = learn(jax.random.key(2), state, sample)
        assert learn._cache_size() == 1
    act(jax.random.key(3), state, observations((USERS,), seed=4), explore=True)
    assert act._cache_size() == before[0]


def test_seeds_run_side_by_side(case):
    name, agent, init, act, learn, _ = case
    if name in SAME_CODE:
        pytest.skip(f"is {SAME_CODE[name]} but for its loss")
    keys = jax.random.split(jax.random.key(9), 2)
    axes = seed_axes(jax.eval_shape(init, keys[0]))
    sample = samples(agent.memory.window) if learn else None
    observation = observations((USERS,))

    @jax.jit
    def run(keys):
        seeds = jax.vmap(init, out_axes=axes)(keys)
        if learn:
            run_learn = lambda key, state: agent.learn(key, state, sample).state  # noqa: E731
            seeds = jax.vmap(run_learn, in_axes=(0, axes), out_axes=axes)(keys, seeds)
        explore = lambda key, state: agent.act(key, state, observation, explore=True)[0]  # noqa: E731
        return jax.vmap(explore, in_axes=(0, axes))(keys, seeds)

    for key, slate in zip(keys, run(keys), strict=True):
        state = init(key)
        if learn:
            state, *_ = learn(key, state, sample)
        np.testing.assert_array_equal(slate, act(key, state, observation, explore=True)[0])


def test_fixed_policies_need_parameters(kit):
    for name in NEEDS_PARAMS:
        with pytest.raises(ValueError, match="needs trained parameters"):
            MAKE[name]().init(jax.random.key(0), SPEC, kit.make_items(SPEC.num_items))
