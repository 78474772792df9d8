"""Problems small enough to solve by hand: DQN and tabular Q-learning find the exact values.

In the logs written here a state is the last item of the history.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, nn, testing
from recjax.types import Spec, Step

GAMMA = 0.9
POLICY = agents.SlatePolicy(exclude_history=False)
EXPLORE = agents.SlatePolicy(epsilon=1.0, exclude_history=False)
SPEC = Spec(num_items=3, slate_size=1, history_length=1)


def learned(kit, name, sample, updates=250, **options):
    """The table of values ``[S, N]`` that an agent learns from a log, read again and again."""
    if name == "q_learning":
        agent = agents.q_learning(policy=POLICY, discount=GAMMA, step_size=0.5)
        return np.asarray(kit.fit(agent, SPEC, sample, updates)[0].table)
    agent = agents.dqn(
        kit.TableQ(3), optax.sgd(options.pop("rate", 2.0)), loss="mse", policy=POLICY, discount=GAMMA, **options
    )
    return np.asarray(kit.fit(agent, SPEC, sample, updates)[0].params["params"]["module"]["table"])


LEARNERS = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("q_learning", {}),
        ("dqn", {"target": agents.TargetNetwork(period=3)}),
        ("dqn", {"target": agents.TargetNetwork(tau=0.5), "double": False}),
    ],
)


@LEARNERS
def test_termination_zeroes_the_bootstrap_and_truncation_does_not(kit, name, options):
    # State 0 with item 0 pays 1 and leads back to state 0; three users of whom each ends differently.
    ends = kit.windows(
        [[0], [1], [2]], [[[0]], [[0]], [[0]]], [[[1]]] * 3, [[0], [1], [2]], [[0], [1], [1]], [[1], [0], [1]]
    )
    table = learned(kit, name, ends, **options)
    np.testing.assert_allclose(table[:3, 0], [1 / (1 - GAMMA), 1, 1], rtol=1e-3)


@LEARNERS
def test_rewards_are_discounted_along_a_chain(kit, name, options):
    chain = kit.windows([[0], [1], [2]], [[[1]], [[2]], [[0]]], [[[0]], [[0]], [[1]]], [[1], [2], [0]], [[0], [0], [1]])
    table = learned(kit, name, chain, **options)
    np.testing.assert_allclose(table[[0, 1, 2], [1, 2, 0]], [GAMMA**2, GAMMA, 1], rtol=1e-3)


@LEARNERS
def test_the_action_decides(kit, name, options):
    log = kit.windows([[-1]] * 3, [[[0]], [[1]], [[2]]], [[[0.5]], [[2]], [[-1]]], [[0]] * 3, [[1]] * 3)
    table = learned(kit, name, log, **options)
    np.testing.assert_allclose(table[-1], [0.5, 2, -1], rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_steps_reach_the_values_of_one_step(kit, n):
    # A cycle 0 -> 1 -> 2 -> 0 that pays 0, 1, 2 and is cut, by turns, in the middle of a window.
    states = np.arange(6)[:, None] + np.arange(n)[None]
    log = kit.windows(
        states % 3,
        ((states + 1) % 3)[..., None],
        (states % 3).astype(float)[..., None],
        (states + 1) % 3,
        np.zeros_like(states),
        truncated=(np.arange(6)[:, None] >= 3) & (np.arange(n)[None] == 0),
    )
    # Only the item that follows the state is shown, and all others are worth nothing.
    table = learned(kit, "dqn", log, updates=600, n_step=n, target=agents.TargetNetwork(period=2), rate=4.0)
    cycle = np.array([0 + GAMMA * 1 + GAMMA**2 * 2, 1 + GAMMA * 2, 2 + GAMMA**2 * 1]) / (1 - GAMMA**3)
    np.testing.assert_allclose(table[[0, 1, 2], [1, 2, 0]], cycle, rtol=5e-3)


@pytest.mark.parametrize("name", ["q_learning", "dqn"])
def test_every_slot_is_a_slate_of_one(kit, name):
    spec = Spec(num_items=3, slate_size=2, history_length=1)
    log = kit.windows([[-1], [0]], [[[0, 1]], [[2, 1]]], [[[1, 0]], [[3, 0.5]]], [[0], [1]], [[0], [1]])
    if name == "dqn":
        agent = agents.dqn(kit.TableQ(3), optax.sgd(2.0), loss="mse", policy=POLICY, discount=GAMMA)
        table = kit.fit(agent, spec, log, 300)[0].params["params"]["module"]["table"]
    else:
        agent = agents.q_learning(policy=POLICY, discount=GAMMA, step_size=0.5)
        table = kit.fit(agent, spec, log, 100)[0].table
    np.testing.assert_allclose(table[-1, :2], [1 + GAMMA * 3, GAMMA * 3], rtol=1e-3)
    np.testing.assert_allclose(table[0, 1:], [0.5, 3], rtol=1e-3)


@pytest.mark.parametrize("name", ["q_learning", "dqn"])
def test_invalid_rows_and_empty_slots_teach_nothing(kit, name):
    spec = Spec(num_items=3, slate_size=2, history_length=1)
    log = kit.windows(
        [[0], [1]], [[[1, -1]], [[0, 2]]], [[[1, 7]], [[9, 9]]], [[0], [0]], [[1], [1]], valid=[True, False]
    )
    if name == "dqn":
        agent = agents.dqn(kit.TableQ(3), optax.sgd(1.0), loss="mse", policy=POLICY)
        state, metrics = kit.fit(agent, spec, log, 100)
        table = state.params["params"]["module"]["table"]
        np.testing.assert_allclose(metrics["loss"][0], 0.5, rtol=1e-6)
    else:
        agent = agents.q_learning(policy=POLICY, step_size=0.5)
        state, metrics = kit.fit(agent, spec, log, 100)
        table = state.table
    expected = np.zeros((4, 3))
    expected[0, 1] = 1
    np.testing.assert_allclose(table, expected, atol=1e-4)
    np.testing.assert_allclose(metrics["td_error"][0], 1.0, rtol=1e-6)


def test_repeated_pairs_are_averaged(kit):
    log = kit.windows([[0]] * 4, [[[1]]] * 4, [[[0]], [[4]], [[4]], [[8]]], [[0]] * 4, [[1]] * 4, valid=[1, 1, 1, 0])
    agent = agents.q_learning(policy=POLICY, step_size=1.0)
    assert kit.fit(agent, SPEC, log, 1)[0].table[0, 1] == pytest.approx(8 / 3)


def test_a_vmapped_discount_gives_each_seed_its_values(kit):
    log = kit.windows([[0], [1]], [[[1]], [[0]]], [[[1]], [[1]]], [[1], [0]], [[0], [1]])
    agent = agents.dqn(kit.TableQ(3), optax.sgd(1.6), loss="mse", policy=POLICY, target=agents.TargetNetwork(period=2))
    hparams = agents.DQNHyper(discount=jnp.array([0.0, 0.5, 1.0]))
    axes = agents.DQNHyper(discount=0, epsilon_start=None, epsilon_end=None, epsilon_steps=None, temperature=None)
    learned = jax.vmap(lambda h: kit.fit(agent, SPEC, log, 200, h)[0].params, in_axes=(axes,))(hparams)
    tables = learned["params"]["module"]["table"]
    np.testing.assert_allclose(tables[:, 0, 1], [1.0, 1.5, 2.0], rtol=1e-3)


def interact(env, agent, users=16, steps=400, batch=64):
    """A closed loop: the agent explores a probe and learns from replay."""
    buffer = agent.memory.make(2048)
    arrive = lambda key: jax.vmap(env.reset, in_axes=(0, None, None))(jax.random.split(key, users), env.params, None)  # noqa: E731

    def serve(key, agent_state, observation, state):
        act_key, env_key, arrive_key = jax.random.split(key, 3)
        slate, log_prob, extras = agent.act(act_key, agent_state, observation, explore=True)
        after, state, response, terminated, truncated, _ = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(
            jax.random.split(env_key, users), state, slate, env.params, None
        )
        step = Step(observation, slate, log_prob, extras, response, response["click"], terminated, truncated, after)
        done = terminated | truncated
        users_after = jax.tree.map(
            lambda new, old: jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            arrive(arrive_key),
            (after, state),
        )
        return users_after, step

    def body(carry, key):
        (observation, state), agent_state, memory = carry
        serve_key, sample_key, learn_key = jax.random.split(key, 3)
        serving, step = serve(serve_key, agent_state, observation, state)
        memory = buffer.add(memory, step)
        rows = buffer.sample(sample_key, memory, batch)
        agent_state, _, priorities = agent.learn(learn_key, agent_state, rows)
        if priorities is not None:
            memory = buffer.update(memory, rows.indices, priorities)
        return (serving, agent_state, memory), None

    @jax.jit
    def run(key):
        serving, agent_state = arrive(key), agent.init(key, env.spec, env.items)
        step = jax.eval_shape(serve, key, agent_state, *serving)[1]
        memory = buffer.init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), step))
        return jax.lax.scan(body, (serving, agent_state, memory), jax.random.split(key, steps))[0][1]

    return run(jax.random.key(0))


@pytest.mark.parametrize("probe", testing.PROBES)
def test_q_learning_solves(probe):
    env = envs.environments.make(probe)
    observations, expected = testing.q_values(probe, GAMMA)
    state_fn, states = agents.last_item, None
    if probe == "probe_context":
        state_fn, states = lambda observation: (observation.context[:, 0] > 0).astype(jnp.int32), 2
    agent = agents.q_learning(state_fn, states, discount=GAMMA, step_size=0.5, policy=EXPLORE)
    state = interact(env, agent)
    np.testing.assert_allclose(state.table[state_fn(observations)], expected, atol=1e-3)


@pytest.mark.parametrize("name", ["sarsa", "expected_sarsa"])
def test_sarsa_solves_a_probe_for_the_policy_that_acts(name):
    """On the chain a policy that explores always is worth the mean of the items that follow."""
    env = envs.environments.make("probe_chain")
    observations, _ = testing.q_values("probe_chain", GAMMA)
    state = interact(env, agents.agents.make(name, discount=GAMMA, step_size=0.05, policy=EXPLORE), steps=600)
    found = state.table[agents.last_item(observations)]
    np.testing.assert_allclose(found, [[1, GAMMA * (1 + GAMMA)], [1 + GAMMA] * 2, [1, 1]], atol=1e-2)


@pytest.mark.parametrize("probe", ["probe_choice", "probe_context", "probe_truncation", "probe_chain"])
def test_dqn_solves(probe):
    env = envs.environments.make(probe)
    observations, expected = testing.q_values(probe, GAMMA)
    network = nn.MLPQ.of(num_items=env.spec.num_items, dim=8, hidden=(32,), dueling=probe == "probe_choice")
    agent = agents.dqn(
        network, optax.adam(1e-2), target=agents.TargetNetwork(tau=0.1), discount=GAMMA, policy=EXPLORE, loss="mse"
    )
    state = interact(env, agent)
    np.testing.assert_allclose(
        jax.jit(network.apply)(state.params, observations, env.items), expected, atol=0.05 * max(1, expected.max())
    )


def test_everything_at_once_solves_a_probe():
    """Double DQN of quantiles with noise, two steps and prioritised replay; noise stops showing what is no better."""
    env = envs.environments.make("probe_chain")
    observations, expected = testing.q_values("probe_chain", GAMMA)
    network = nn.QuantileDotProductQ.of(env.spec.num_items, dim=8, noisy=True, distribution=nn.Quantiles(8))
    agent = agents.dqn(
        network, optax.adam(2e-2), n_step=2, target=agents.TargetNetwork(tau=0.1), discount=GAMMA,
        policy=agents.SlatePolicy(epsilon=0.0, exclude_history=False),
        loss=agents.TDLoss(priorities=agents.Priorities(beta=(0.4, 1.0, 400))),
    )  # fmt: skip
    state = interact(env, agent)
    found = jax.jit(network.apply)(state.params, observations, env.items)
    assert found[0].argmax() == expected[0].argmax()
    np.testing.assert_allclose(found.max(1), expected.max(1), atol=0.1)
