"""Parts written as an outside package would write them: what is new needs no edit of recjax.

Each test is a small package of its own, in at most 60 lines.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from recjax import agents, data, envs, eval, loop, nn, replay, rewards, testing
from recjax.agents import Action, Agent, Update
from recjax.envs import Environment, Transition
from recjax.response import CLICK, Response, Signal
from recjax.types import PAD_ID, Candidates, Items, Observation, PyTree, Spec, shared

CONFIG = loop.LoopConfig(
    steps=60, chunk=60, eval_every=60, users=16, eval_users=8, eval_steps=4, seeds=2, batch_size=32,
    replay_capacity=1024, learn_start=2,
)  # fmt: skip


def plain_items(count):
    return Items(popularity=jnp.ones(count), is_new=jnp.zeros(count, bool))


def test_reinforce_on_rollouts():
    """REINFORCE with a Plackett-Luce policy over the catalogue, on rollouts, with exact log-probabilities."""

    class State(NamedTuple):
        params: PyTree
        opt_state: PyTree
        items: Items

    def reinforce(network, optimizer, length, discount):
        def scores(state, observation, params=None):
            return nn.catalogue_scores(network, params or state.params, observation, state.items)

        def init(key, spec, items, hparams=None, params=None):
            params = params or network.init(key, spec.empty_observation((1,)), items)
            return State(params, optimizer.init(params), items)

        def log_prob(state, observation, slate, *, explore=True, params=None):
            return agents.plackett_luce(*scores(state, observation, params), slate).sum(-1)

        def act(key, state, observation, *, explore=True):
            queries, items = scores(state, observation)
            slate = agents.boltzmann(
                key, queries, items, 1, hparams=agents.ExplorationHyper(temperature=1.0), step=jnp.int32(0)
            ).slate
            return Action(slate, log_prob(state, observation, slate))

        def learn(key, state, batch):
            step = batch.experience
            reward, goes_on = step.reward.sum(-1), discount * (1.0 - step.terminated)

            def back(after, now):
                value = now[0] + now[1] * after
                return value, value

            _, returns = jax.lax.scan(back, jnp.zeros(len(reward)), (reward.T, goes_on.T), reverse=True)
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (step.observation, step.slate))
            advantage = (returns.T - returns.mean()).reshape(-1)

            def loss(params):
                return -(log_prob(state, *flat, params=params) * advantage).mean()

            value, gradient = jax.value_and_grad(loss)(state.params)
            change, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, change)
            return Update(State(params, opt_state, state.items), {"loss": value})

        return Agent(init, act, learn, log_prob, scores, replay.rollout(length))

    env = envs.environments.make("probe_choice")
    agent = reinforce(nn.MLPQ.of(num_items=3, dim=8), optax.adam(3e-2), length=2, discount=0.9)
    testing.check_agent(agent, env)
    result = loop.run(env, agent, CONFIG, key=jax.random.key(0))
    assert (result.final()["session_reward"] > 0.9).all(), "the paying item of three is found"


def test_a_memory_with_priorities():
    """Windows of one step, drawn in proportion to the priority that the agent last gave them."""

    @struct.dataclass
    class State:
        data: PyTree
        priority: jax.Array  # [T, U]
        cursor: jax.Array = shared()

    def prioritised():
        def make(capacity):
            def init(step):
                users = jax.tree.leaves(step)[0].shape[0]
                rows = capacity // users
                blank = lambda x: jnp.zeros((rows, *x.shape), x.dtype)  # noqa: E731
                return State(jax.tree.map(blank, step), jnp.zeros((rows, users)), jnp.int32(0))

            def add(state, step):
                write = lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row, state.cursor, 0)  # noqa: E731
                new = jnp.full(state.priority.shape[1], jnp.maximum(state.priority.max(), 1.0))
                rows = len(state.priority)
                return State(
                    jax.tree.map(write, state.data, step), write(state.priority, new), (state.cursor + 1) % rows
                )

            def sample(key, state, batch_size):
                share = state.priority.reshape(-1) / state.priority.sum()
                index = jax.random.choice(key, share.size, (batch_size,), p=share)
                take = lambda x: x.reshape(-1, *x.shape[2:])[index][:, None]  # noqa: E731
                valid = jnp.ones(batch_size, bool)
                return replay.Batch(jax.tree.map(take, state.data), valid, index, share[index])

            def update(state, indices, priorities):
                changed = state.priority.reshape(-1).at[indices].set(priorities)
                return state.replace(priority=changed.reshape(state.priority.shape))

            return replay.Buffer(init, add, sample, update)

        return replay.Memory(make)

    testing.check_memory(prioritised())
    dqn = agents.dqn(nn.MLPQ.of(num_items=2, dim=8), optax.adam(1e-2), policy=agents.SlatePolicy(exclude_history=False))

    def learn(key, state, batch):
        update = dqn.learn(key, state, batch)
        return update._replace(priorities=0.1 + batch.experience.reward.sum((-1, -2)))

    agent = dqn._replace(learn=learn, memory=prioritised())
    result = loop.run(envs.environments.make("probe_delay"), agent, CONFIG, key=jax.random.key(0))
    priority = np.asarray(result.state.replay.priority)
    assert set(np.unique(priority.round(3))) >= {np.float32(0.1).round(3), np.float32(1.1).round(3)}


def test_candidates_that_live_for_one_step():
    """Four documents a step, of which the user clicks the newest; a slate holds positions."""
    spec = Spec(num_items=50, slate_size=1, history_length=2, num_candidates=4)

    def observe(key, spec=spec):
        ids = jax.random.choice(key, 50, (4,), replace=False).astype(jnp.int32)
        ids = ids.at[3].set(PAD_ID)  # One place is empty.
        return spec.empty_observation().replace(candidates=Candidates(ids, {"age": ids[:, None] / 50.0}))

    def reset(key, params, world):
        observation = observe(key)
        return observation, observation.candidates.ids

    def step(key, ids, slate, params, world):
        observation = observe(key)
        click = (ids[slate] == ids.max()).astype(jnp.float32)
        never = jnp.zeros((), bool)
        return Transition(observation, observation.candidates.ids, Response(click=click), never, never, {})

    env = Environment(spec, (), plain_items(50), reset, step)
    testing.check_environment(env)
    testing.check_agent(agents.random(), env)
    newest = agents.popularity()
    env = env._replace(items=env.items.replace(popularity=jnp.arange(50.0)))
    testing.check_agent(newest, env)
    assert (loop.run(env, newest, CONFIG, key=jax.random.key(0)).final()["ctr"] == 1.0).all()
    random = loop.run(env, agents.random(), CONFIG, key=jax.random.key(0))
    np.testing.assert_allclose(random.online["ctr"], 1 / 3, atol=0.05)
    assert (random.online["coverage"] > 0.9).all(), "metrics count items, not positions"


def shop():
    """Items of which three are in stock; what is sold is gone for everybody."""
    spec = Spec(num_items=6, slate_size=2, history_length=2, signals=(CLICK,))

    def reset(key, params, world):
        return spec.empty_observation(), jnp.zeros(())

    def step(key, state, slate, params, world):
        click = (world[slate] > 0).astype(jnp.float32) * params[slate]
        never = jnp.zeros((), bool)
        return Transition(spec.empty_observation(), state, Response(click=click), never, never, {})

    def tick(key, stock, step, params):
        sold = jnp.zeros_like(stock).at[step.slate.reshape(-1)].add(step.response["click"].reshape(-1), mode="drop")
        return jnp.maximum(stock - sold, 0)

    return Environment(
        spec, jnp.ones(6), plain_items(6), reset, step, init_world=lambda key, params: jnp.full(6, 100.0), tick=tick
    )


def test_stock_in_the_world():
    env = shop()
    testing.check_environment(env)
    result = loop.run(env, agents.random(exclude_history=False), CONFIG, key=jax.random.key(0))
    assert result.state.world.shape == (CONFIG.seeds, 6)
    assert (result.state.world == 0).all(), "everything is sold"
    sold = result.online["ctr"] * CONFIG.steps * CONFIG.users * 2
    assert (sold >= 600).all()
    assert (sold <= 600 + 6 * CONFIG.users * 2).all(), "at most one slate of each user meets the last piece"


def test_four_seeds_of_a_big_world_hold_one_catalogue():
    """A million items: stock is of each seed, and what never changes is there once."""
    count, width, seeds = 1_000_000, 8, 4
    small, spec = shop(), Spec(num_items=count, slate_size=2, history_length=2)

    def step(key, state, slate, params, world):
        answer = small.step(key, state, slate % 6, params[:6, 0], world)
        return answer._replace(observation=spec.empty_observation())

    env = small._replace(
        spec=spec,
        items=plain_items(count),
        params=jnp.ones((count, width)),
        step=step,
        reset=lambda key, params, world: (spec.empty_observation(), jnp.zeros(())),
    )
    config = loop.LoopConfig(steps=2, chunk=2, eval_every=2, users=2, seeds=seeds, eval_users=2, eval_steps=1)
    program = loop.Program(env, agents.popularity(exclude_history=False), config, rewards.click)
    state = program.init(jax.random.key(0))
    memory = program.lower(state).compile().memory_analysis()
    catalogue = count * width * 4
    features = sum(leaf.nbytes for leaf in jax.tree.leaves(env.items))
    scores = 4 * count  # What the policy ranks by.
    assert memory.argument_size_in_bytes < catalogue + 2 * features + scores + 1e6
    assert memory.temp_size_in_bytes < catalogue


def test_a_signal_with_its_reward_and_metric():
    like = Signal("like", "1 where the slot was liked")
    spec = Spec(num_items=8, slate_size=2, history_length=2, signals=(CLICK, like))

    def step(key, state, slate, params, world):
        response = Response(click=jnp.ones(2), like=(slate == 3).astype(jnp.float32))
        return Transition(spec.empty_observation(), state, response, jnp.array(True), jnp.array(False), {})

    env = Environment(spec, (), plain_items(8), lambda key, params, world: (spec.empty_observation(), ()), step)
    testing.check_environment(env)
    agent = agents.dqn(
        nn.MLPQ.of(num_items=8, dim=8), optax.adam(2e-2), discount=0.0,
        policy=agents.SlatePolicy(epsilon=0.5, exclude_history=False),
    )  # fmt: skip
    result = loop.run(env, agent, CONFIG, key=jax.random.key(0), reward=rewards.weighted(like=1.0))
    np.testing.assert_allclose(result.final()["like_per_slot"], 0.5)
    assert eval.default_metrics(spec)[1].definitions["like_per_slot"].definition.endswith("the slot was liked.")
    with pytest.raises(ValueError, match="There is no signal 'share' in this response; it has: click, like"):
        loop.run(env, agent, CONFIG, key=jax.random.key(0), reward="share=1")


def test_offline_learning_of_a_dqn_from_a_log():
    """In a log of walks along a ring, the value of the item that follows is the highest."""
    dataset = testing.walking_log(items=10)
    steps = data.transitions(dataset.interactions, length=3)
    spec = Spec(num_items=10, slate_size=1, history_length=3)

    class Table(linen.Module):
        @linen.compact
        def __call__(self, observation, items):
            table = self.param("table", linen.initializers.zeros, (11, 10))
            return table[observation.history[:, -1]]

    agent = agents.dqn(nn.DenseNetwork(Table()), optax.adam(5e-2), n_step=2, discount=0.5)
    config = loop.OfflineConfig(updates=300, chunk=100, batch_size=64)
    result = loop.learn_offline(agent, steps, spec, plain_items(10), config, key=jax.random.key(0))
    last = jnp.arange(10)
    history = jnp.stack([last - 2, last - 1, last], axis=1) % 10
    observed = Observation(history=history, behaviour=jnp.zeros((10, 3), jnp.int32))
    slate = agent.act(jax.random.key(0), result.state, observed, explore=False).slate
    rows = {name: int(row) for row, name in enumerate(dataset.items.names)}
    following = [rows[str((int(name) + 1) % 10)] for name in dataset.items.names]
    table = result.state.params["params"]["module"]["table"]
    np.testing.assert_array_equal(np.argmax(table[:10], axis=1), following)
    assert slate.shape == (10, 1)
    assert result.metrics["loss"][-1] < result.metrics["loss"][0]


def test_a_metric_of_ones_own():
    """How many of the users who were shown anything were shown an even item first."""
    even = eval.Accumulator(
        init=lambda spec, items: (jnp.zeros(()), jnp.zeros(())),
        update=lambda state, step, items: (
            state[0] + jnp.sum((step.slate[:, 0] >= 0) & (step.slate[:, 0] % 2 == 0)),
            state[1] + jnp.sum(step.slate[:, 0] >= 0),
        ),
        compute=lambda state, items: {"even_first": state[0] / state[1]},
        definitions={"even_first": eval.Metric("depends", "share", "[0, 1]", "Slates with an even item first.")},
    )
    env = envs.synthetic(num_items=40, slate_size=3, history_length=4)
    testing.check_metric(even, env.spec, env.items)
    metrics = (*eval.default_metrics(env.spec), even)
    result = loop.run(env, agents.random(), CONFIG, key=jax.random.key(0), metrics=metrics)
    np.testing.assert_allclose(result.online["even_first"], 0.5, atol=0.08)
    assert result.final()["even_first"].shape == (CONFIG.seeds,)
