"""The compiled loop: what it computes, what it costs, and that it is compiled once."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import recjax.testing  # noqa: F401 (registers the probe environments)
from recjax import agents, envs, nn, replay
from recjax.envs import Environment
from recjax.loop import LoopConfig, Program
from recjax.replay.ring import windows
from recjax.rewards import click
from recjax.types import PAD_ID, Items, Response, Spec, seed_axes

CONFIG = LoopConfig(
    steps=8, chunk=4, eval_every=4, users=6, eval_users=5, eval_steps=6, seeds=2,
    batch_size=8, replay_capacity=600, learn_start=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def env():
    return envs.synthetic(num_items=30, slate_size=3, history_length=5)


@pytest.fixture(scope="module")
def agent():
    return agents.dqn(
        nn.DotProductQ.of(num_items=30, dim=4), optax.adam(1e-2), n_step=2, target=agents.TargetNetwork(period=3)
    )


@pytest.fixture(scope="module")
def program(env, agent):
    return Program(env, agent, CONFIG, click)


@pytest.fixture
def key():
    return jax.random.key(7)


def leaves_equal(a, b):
    def same(x, y):
        x, y = (jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for v in (x, y))
        return bool(jnp.array_equal(x, y, equal_nan=jnp.issubdtype(x.dtype, jnp.floating)))

    return jax.tree.all(jax.tree.map(same, a, b))


def test_same_key_repeats_and_seeds_differ(program, key):
    first, metrics = program.chunk(program.init(key))
    again, _ = program.chunk(program.init(key))
    assert leaves_equal(first, again)
    other, _ = program.chunk(program.init(jax.random.key(8)))
    assert not leaves_equal(first.users, other.users)
    slates = first.replay.data.slate
    assert not jnp.array_equal(slates[0], slates[1])
    assert metrics["reward"].shape == (CONFIG.seeds,)


def test_shared_fields_have_no_seed_axis(program, key):
    state, _ = program.chunk(program.init(key))
    assert state.step.shape == ()
    assert int(state.step) == CONFIG.chunk
    assert state.replay.cursor.shape == ()
    assert state.agent.step.shape == ()
    assert state.agent.items.popularity.shape == (30,)
    assert state.key.shape == (CONFIG.seeds,)


def test_second_call_does_not_compile_again(program, key):
    state = program.init(key)
    state, _ = program.chunk(state)
    program.evaluate(state, key)
    other = jax.random.fold_in(key, 1)
    with jax.no_tracing():
        state, _ = program.chunk(state)
    sizes = {name: function._cache_size() for name, function in program._compiled.items()}
    program.evaluate(state, other)
    program.init(other)
    assert {name: function._cache_size() for name, function in program._compiled.items()} == sizes
    assert (sizes["chunk"], sizes["evaluate"]) == (1, 1)


def test_what_users_and_agents_do_is_traced_once_for_all_programs(env, agent, key):
    """Checks, chunks and evaluations of two programs; ``act`` twice, as it explores or not."""
    traced = Counter()

    def counted(name, function):
        def call(*arguments, **options):
            traced[name] += 1
            return function(*arguments, **options)

        return call

    env = env._replace(step=counted("step", env.step), reset=counted("reset", env.reset))
    agent = agent._replace(act=counted("act", agent.act), learn=counted("learn", agent.learn))
    config = dataclasses.replace(CONFIG, eval_users=CONFIG.users)
    for _ in range(2):
        program = Program(env, agent, config, click)
        state, _ = program.chunk(program.init(key))
        program.evaluate(state, key)
    assert traced == {"step": 1, "reset": 1, "act": 2, "learn": 1}


def test_what_cannot_be_hashed_is_traced_anew(env, agent, key):
    @dataclasses.dataclass
    class Unhashable:
        function: object

        def __call__(self, *arguments):
            return self.function(*arguments)

    program, plain = (
        Program(env._replace(step=step), agent, CONFIG, click) for step in (Unhashable(env.step), env.step)
    )
    states = [each.chunk(each.init(key))[0] for each in (program, plain)]
    assert leaves_equal(*states)


def test_another_discount_is_the_same_program(program, agent, key):
    program.chunk(program.init(key))
    before = program._compiled["chunk"]._cache_size()
    myopic = agent.hparams.replace(discount=0.0)
    state, _ = program.chunk(program.init(key, hparams=myopic))
    assert program._compiled["chunk"]._cache_size() == before
    np.testing.assert_array_equal(state.agent.hparams.discount, [0.0, 0.0])


def test_each_seed_can_have_its_own_hyper_parameters(program, agent, key):
    hparams = jax.tree.map(lambda x: jnp.full(CONFIG.seeds, x, jnp.float32), agent.hparams)
    hparams = hparams.replace(discount=jnp.array([0.0, 0.9]))
    varied, _ = program.chunk(program.init(key, hparams=hparams, per_seed_hparams=True))
    alone, _ = program.chunk(program.init(key, hparams=agent.hparams.replace(discount=0.9)))
    one = lambda tree: jax.tree.map(lambda x: x[1], tree)  # noqa: E731
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        one(varied.agent.params), one(alone.agent.params),
    )  # fmt: skip


def test_replay_is_written_in_place(env, agent, key):
    config = dataclasses.replace(CONFIG, replay_capacity=60_000)
    program = Program(env, agent, config, click)
    state = program.init(key)
    buffer = sum(leaf.nbytes for leaf in jax.tree.leaves(state.replay.data))
    memory = program.lower(state).compile().memory_analysis()
    assert memory.temp_size_in_bytes < buffer / 4
    assert memory.alias_size_in_bytes >= buffer


def test_small_dtypes_of_replay_change_nothing(env, agent, key):
    small, plain = (Program(env, agent, CONFIG, click) for _ in range(2))
    plain.storage = replay.Storage(lambda step: step, lambda step: step)
    plain.buffer = agent.memory.make(CONFIG.replay_capacity)
    ends = []
    for program in (small, plain):
        state, metrics = program.chunk(program.init(key))
        state, metrics = program.chunk(state)
        ends.append((state.users.observation, state.agent.params, metrics))
        assert state.replay.data.observation.history.dtype == (jnp.int8 if program is small else jnp.int32)
    assert leaves_equal(ends[0][0], ends[1][0])
    # Compilers may fuse two programs in two ways; what is drawn from replay is compared bit by bit elsewhere.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)


def inside_loops(text: str) -> list[str]:
    """Lines of compiled HLO that run in the body of a loop, or in what it calls."""
    parts = dict(re.findall(r"^%?([\w.-]+) \([^\n]*\{\n(.*?)^\}", text, flags=re.DOTALL | re.MULTILINE))
    called = {
        name: re.findall(r"(?:calls|to_apply|body|condition|\w+_computation)=%?([\w.-]+)", part)
        + [one.strip(" %") for group in re.findall(r"branch_computations=\{(.*?)\}", part) for one in group.split(",")]
        for name, part in parts.items()
    }
    inside, waiting = set(), re.findall(r"body=%?([\w.-]+)", text)
    while waiting:
        name = waiting.pop()
        if name not in inside:
            inside.add(name)
            waiting += called[name]
    return [line for name in inside for line in parts[name].splitlines()]


def test_what_stays_the_same_is_computed_once_a_chunk(key):
    """Nothing is sorted in a step, and while nothing learns no vectors of all items are made in one."""
    env = envs.synthetic(num_items=97, slate_size=3, history_length=5)
    agent = agents.dqn(nn.DotProductQ.of(num_items=97, dim=11), optax.adam(1e-2))
    made = r"= f32\[(\d+,)?97,1[12]\]\S* (?!parameter|get-tuple-element)"
    for learns in (False, True):
        program = Program(env, agent if learns else agent._replace(learn=None), CONFIG, click)
        text = program.lower(program.init(key)).compile().as_text()
        lines = inside_loops(text)
        assert any(" sort(" in line for line in text.splitlines())
        assert not any(" sort(" in line for line in lines)
        assert any(re.search(made, line) for line in text.splitlines())
        assert any(re.search(made, line) for line in lines) == learns


def test_state_is_donated(program, key):
    state = program.init(key)
    program.chunk(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.replay.data))


def test_learning_begins_after_learn_start(env, agent, key):
    config = dataclasses.replace(CONFIG, learn_start=4)
    program = Program(env, agent, config, click)
    state = program.init(key)
    initial = jax.tree.map(jnp.copy, state.agent.params)
    state, metrics = program.chunk(state)
    assert leaves_equal(state.agent.params, initial)
    assert np.isnan(metrics["learn/loss"]).all()
    state, metrics = program.chunk(state)
    assert int(state.agent.step) == 4
    assert np.isfinite(metrics["learn/loss"]).all()


def test_agents_that_do_not_learn_keep_no_replay(env, key):
    program = Program(env, agents.random(), CONFIG, click)
    state, metrics = program.chunk(program.init(key))
    assert state.replay is None
    assert not any(name.startswith("learn/") for name in metrics)


def counting_env(horizon=3, leave=False) -> Environment:
    """Every slate is clicked in slot 0; users leave, or are cut off, after ``horizon`` slates."""
    spec = Spec(num_items=4, slate_size=2, history_length=3)
    items = Items(popularity=jnp.ones(4), is_new=jnp.zeros(4, bool))

    def observe(history):
        return spec.empty_observation().replace(history=history, behaviour=jnp.where(history == PAD_ID, PAD_ID, 1))

    def reset(key, params, world):
        history = jnp.full(3, PAD_ID)
        return observe(history), (history, jnp.zeros((), jnp.int32))

    def step(key, state, slate, params, world):
        history, count = state
        history = jnp.concatenate([history[1:], slate[:1]])
        done = count + 1 >= horizon
        response = Response(click=jnp.array([1.0, 0.0]))
        left = jnp.asarray(leave)
        return observe(history), (history, count + 1), response, done & left, done & ~left, {}

    return Environment(spec, (), items, reset, step)


@pytest.mark.parametrize("leave", [True, False])
def test_next_observation_is_from_before_the_reset(leave, key):
    config = dataclasses.replace(CONFIG, users=2, replay_capacity=16, seeds=1)
    learner = agents.random(exclude_history=False)._replace(
        learn=lambda key, state, batch: agents.Update(state, {}), memory=replay.uniform()
    )
    program = Program(counting_env(leave=leave), learner, config, click)
    state, _ = program.chunk(program.init(key))
    ring = jax.tree.map(
        lambda axis, x: x if axis is None else x[0], seed_axes(state.replay), state.replay, is_leaf=lambda x: x is None
    )
    every = jnp.arange(8) % 4, jnp.arange(8) // 4
    log, is_whole = windows(ring, *every, 1)
    assert is_whole.all()
    log = jax.tree.map(lambda x: x[:, 0].reshape(2, 4, *x.shape[2:]).swapaxes(0, 1), log)
    done, other = (log.terminated, log.truncated) if leave else (log.truncated, log.terminated)
    np.testing.assert_array_equal(done[:4], [[False] * 2, [False] * 2, [True] * 2, [False] * 2])
    assert not other.any()
    # The last step of an episode leads to a full history, and the next one begins with none.
    if not leave:  # What follows where a user has left has no meaning.
        assert (log.next_observation.history[2] >= 0).all()
    assert (log.observation.history[3] == PAD_ID).all()
    np.testing.assert_array_equal(log.next_observation.history[0], log.observation.history[1])


@pytest.mark.parametrize("leave", [True, False])
def test_evaluation_follows_users_until_they_are_done(leave, key):
    program = Program(counting_env(leave=leave), agents.random(exclude_history=False), CONFIG, click)
    metrics = program.evaluate(program.init(key), key)
    np.testing.assert_allclose(metrics["session_length"], 3.0)
    np.testing.assert_allclose(metrics["session_reward"], 3.0)
    np.testing.assert_allclose(metrics["ctr"], 0.5)
    np.testing.assert_allclose(metrics["click_rate"], 1.0)
    assert np.isnan(metrics["conversion_rate"]).all()


def test_evaluation_neither_learns_nor_explores(program, key):
    state, _ = program.chunk(program.init(key))
    before = jax.tree.map(jnp.copy, state)
    first = program.evaluate(state, key)
    assert leaves_equal(state, before)
    assert leaves_equal(first, program.evaluate(state, key))


def test_policies_meet_the_same_users(env, program, key):
    other = Program(env, agents.popularity(), CONFIG, click)
    a, b = program.init(key).users, other.init(key).users
    assert leaves_equal(a, b)


def test_tick_changes_what_all_users_share(key):
    env = counting_env()._replace(
        init_world=lambda key, params: jnp.zeros(()),
        tick=lambda key, world, step, params: world + step.response["click"].sum(),
    )
    program = Program(env, agents.random(exclude_history=False), CONFIG, click)
    state, _ = program.chunk(program.init(key))
    np.testing.assert_array_equal(state.world, np.full(2, 4.0 * CONFIG.users))


def test_looking_ahead_pays_where_it_must(key):
    """In the chain an impatient user-facing policy earns 1 and a patient one 2, per session."""
    env = envs.environments.make("probe_chain")
    agent = agents.dqn(
        nn.MLPQ.of(num_items=env.spec.num_items, dim=8), optax.adam(5e-3),
        target=agents.TargetNetwork(period=20), discount=0.9,
        policy=agents.SlatePolicy(epsilon=0.5, exclude_history=False),
    )  # fmt: skip
    config = LoopConfig(
        steps=400, chunk=400, eval_every=400, users=16, eval_users=4, eval_steps=8, seeds=2, batch_size=64,
        replay_capacity=16_000, learn_start=5, updates=2,
    )  # fmt: skip
    program = Program(env, agent, config, click)
    patient, _ = program.chunk(program.init(key))
    myopic, _ = program.chunk(program.init(key, hparams=agent.hparams.replace(discount=0.0)))
    np.testing.assert_allclose(program.evaluate(patient, key)["session_reward"], 2.0)
    np.testing.assert_allclose(program.evaluate(myopic, key)["session_reward"], 1.0)
