"""The public suites: recjax's own parts pass them, and each break of a contract gets one clear error."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, eval, loop, nn, replay, rewards, testing
from recjax.data import Interactions
from recjax.envs import Transition
from recjax.response import CLICK, CONVERSION, Response, Signal
from recjax.types import Items, Spec

CONFIG = loop.LoopConfig(steps=2, chunk=2, eval_every=2, users=4, seeds=1, eval_users=2, eval_steps=1, learn_start=0)


@pytest.fixture(scope="module")
def env():
    return envs.synthetic(num_items=20, slate_size=3, history_length=4)


def q_network():
    return nn.DotProductQ.of(num_items=20, dim=4)


AGENTS = {
    "random": agents.random,
    "popularity": agents.popularity,
    "dqn with all that may be given": lambda: agents.dqn(
        nn.QuantileDotProductQ.of(num_items=20, dim=4, noisy=True),
        optax.adam(1e-2),
        n_step=2,
        loss=agents.TDLoss(priorities=agents.Priorities()),
    ),
    "boltzmann": lambda: agents.dqn(q_network(), optax.adam(1e-2), policy=agents.SlatePolicy("boltzmann")),
    "q_learning": agents.q_learning,
    "sarsa": agents.sarsa,
    "expected_sarsa": agents.expected_sarsa,
}


@pytest.mark.parametrize("name", AGENTS)
def test_agents_pass(name, env):
    testing.check_agent(AGENTS[name](), env)


@pytest.mark.parametrize("name", [*testing.PROBES, "synthetic"])
def test_environments_pass(name, env):
    testing.check_environment(env if name == "synthetic" else envs.environments.make(name))


@pytest.mark.parametrize(
    "memory",
    [
        replay.uniform(window=1, truncated_share=1.0),
        replay.uniform(window=3),
        replay.rollout(length=4),
        replay.prioritised(window=1, truncated_share=1.0),
        replay.prioritised(window=3, alpha=1.0),
    ],
)
def test_memories_pass(memory):
    testing.check_memory(memory)


def test_metrics_pass(env):
    returns = Signal("days", "Days until the user returns", "d", "slate")
    spec = dataclasses.replace(env.spec, signals=(CLICK, CONVERSION, returns))
    for metric in eval.default_metrics(spec):
        testing.check_metric(metric, spec, env.items)


def test_data_sets_pass():
    testing.check_dataset(testing.walking_log())


def wrong_action(**fields):
    """The random agent with some fields of its action made from the action."""
    return acting(lambda a: a._replace(**{name: make(a) for name, make in fields.items()}))


def acting(change):
    """The random agent with its action changed."""

    def act(key, state, observation, *, explore=True):
        return change(agents.random().act(key, state, observation, explore=explore))

    return agents.random()._replace(act=act, log_prob=None)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (
            wrong_action(slate=lambda a: jnp.concatenate([a.slate, a.slate[:, :1]], 1)),
            r"int32\[4,4\]; it must be int32\[4,3\]",
        ),
        (acting(tuple), r"must return agents.Action\(slate, log_prob, extras\)"),
        (wrong_action(log_prob=lambda a: a.log_prob[:, None]), r"float32\[4,1\]; it must be float32\[4\]"),
        (wrong_action(slate=lambda a: a.slate.astype(jnp.float32)), r"float32\[4,3\]; it must be int32\[4,3\]"),
        (agents.random()._replace(act=lambda key, state: None), "could not be called as its contract says"),
        (agents.random()._replace(learn=lambda key, state, batch: state), "Agent.memory is None"),
        (
            agents.random()._replace(learn=lambda key, state, batch: (state, {}), memory=replay.uniform()),
            r"must return agents.Update\(state, metrics\)",
        ),
        (
            agents.random()._replace(
                learn=lambda key, state, batch: agents.Update(state, {}, batch.probabilities), memory=replay.uniform()
            ),
            "its memory draws all windows alike",
        ),
    ],
)
def test_what_tracing_finds_of_agents(agent, message, env):
    with pytest.raises(ValueError, match=message):
        loop.Program(env, agent, CONFIG, rewards.click).init(jax.random.key(0))


@pytest.mark.parametrize(
    "change", [lambda slate: slate.at[:, 1].set(slate[:, 0]), lambda slate: slate.at[:, 0].set(20)], ids=["repeat", "N"]
)
def test_what_running_finds_of_agents(change, env):
    agent = acting(lambda action: action._replace(slate=change(action.slate)))
    with pytest.raises(ValueError, match=r"showed 8 slates that hold an item outside the catalogue.*steps 1 to 2"):
        loop.run(env, agent, CONFIG, key=jax.random.key(0))
    with pytest.raises(AssertionError, match="slates hold distinct items"):
        testing.check_agent(agent, env)


def test_a_log_prob_that_is_another_is_found(env):
    wrong = agents.random()._replace(log_prob=lambda state, observation, slate, *, explore=True: jnp.zeros(len(slate)))
    with pytest.raises(AssertionError, match="does not say what act said"):
        testing.check_agent(wrong, env)


def tiny(**changes):
    spec = Spec(num_items=5, slate_size=2, history_length=3)

    def reset(key, params, world):
        return spec.empty_observation(), ()

    def step(key, state, slate, params, world):
        off = jnp.array(False)
        return Transition(spec.empty_observation(), state, Response(click=jnp.ones(2)), off, off, {})

    items = Items(popularity=jnp.ones(5), is_new=jnp.zeros(5, bool))
    return envs.Environment(spec, (), items, reset, step)._replace(**changes)


def answering(change):
    return {"step": lambda *arguments: change(tiny().step(*arguments))}


def answer(**fields):
    """An environment whose answer has other fields."""
    return answering(lambda t: t._replace(**fields))


def shows(history, behaviour):
    """An environment whose observation after a step has another history."""
    seen = {"history": jnp.array(history), "behaviour": jnp.array(behaviour)}
    return answering(lambda t: t._replace(observation=t.observation.replace(**seen)))


LONGER = Spec(num_items=5, slate_size=2, history_length=4).empty_observation()
FOUR = Items(popularity=jnp.ones(4), is_new=jnp.zeros(4, bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reset": lambda key, params, world: (LONGER, ())}, r"history of .* is int32\[4\]; it must be int32\[3\]"),
        (answering(lambda t: tuple(t)[:5]), r"must return \(observation, state, response, terminated, trunc"),
        (answer(response=Response(like=jnp.ones(2))), r"signals \['like'\], but Spec.signals declares \['click'\]"),
        (answer(response={"click": jnp.ones(2)}), "must be a Response"),
        (answer(response=Response(click=jnp.ones(3))), r"float32\[3\]; it must be float32\[2\]"),
        (answer(terminated=jnp.zeros(2, bool)), r"terminated of Environment.step is bool\[2\]"),
        (answer(state=jnp.ones(1)), "The state of Environment.step"),
        ({"step": lambda key, state, slate, params: None}, "could not be called as its contract says"),
        ({"tick": lambda key, world, step, params: world}, "init_world is None"),
        ({"items": FOUR}, "Items of Spec.num_items=5 items; got 4"),
    ],
)
def test_what_tracing_finds_of_environments(changes, message):
    with pytest.raises(ValueError, match=message):
        loop.run(tiny(**changes), agents.random(exclude_history=False), CONFIG, key=jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        testing.check_environment(tiny(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shows([1, -1, 2], [1, -1, 1]), "padded on the left"),
        (shows([-1, -1, 7], [-1, -1, 1]), "holds item 7"),
        (shows([-1, -1, -1], [-1, -1, 1]), "padded at the same positions"),
        (answer(terminated=jnp.array(True), truncated=jnp.array(True)), "terminated and truncated at once"),
        (answer(response=Response(click=jnp.array([jnp.nan, 0.0]))), "'click' is infinite or NaN"),
    ],
)
def test_what_running_finds_of_environments(change, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_environment(tiny(**change))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_reward_that_is_no_number_stops_the_run(value, env):
    reward = lambda response: response["click"] * 0 + value  # noqa: E731
    with pytest.raises(RuntimeError, match=r"The reward of \d+ slots was infinite or NaN \(loop, steps 1 to 2, "):
        loop.run(env, agents.random(), CONFIG, key=jax.random.key(0), reward=reward)


def test_a_reward_of_another_shape_is_refused(env):
    with pytest.raises(ValueError, match=r"The reward is float32\[4\]; it must be float32\[4,3\]"):
        loop.run(env, agents.random(), CONFIG, key=jax.random.key(0), reward=lambda answer: answer["click"].sum(-1))


def test_memories_that_break_their_contract():
    good = replay.uniform(window=2, truncated_share=1.0)

    def broken(**functions):
        return good._replace(make=lambda capacity: good.make(capacity)._replace(**functions))

    def too_early(key, state, batch_size):
        return good.make(120).sample(key, state, batch_size)._replace(valid=jnp.ones(batch_size, bool))

    def shifted(key, state, batch_size):
        batch = good.make(120).sample(key, state, batch_size)
        return batch._replace(experience=jax.tree.map(lambda x: x[:, ::-1], batch.experience))

    with pytest.raises(AssertionError, match="is valid after 1 were added"):
        testing.check_memory(broken(sample=too_early))
    with pytest.raises(AssertionError, match="do not follow each other"):
        testing.check_memory(broken(sample=shifted))


def test_memories_whose_priorities_do_nothing_or_mislead():
    good = replay.prioritised(truncated_share=1.0)

    def broken(**functions):
        return good._replace(make=lambda capacity: good.make(capacity)._replace(**functions))

    def misleading(key, state, batch_size):
        batch = good.make(120).sample(key, state, batch_size)
        return batch._replace(probabilities=jnp.full(batch_size, 1 / 120))

    with pytest.raises(AssertionError, match="they must rise"):
        testing.check_memory(broken(update=lambda state, indices, priorities: state))
    with pytest.raises(AssertionError, match="not drawn as often as"):
        testing.check_memory(broken(sample=misleading))


def test_a_metric_that_counts_those_who_left_is_found(env):
    wrong = eval.Accumulator(
        init=lambda spec, items: jnp.zeros(()),
        update=lambda state, step, items: state + len(step.slate),
        compute=lambda state, items: {"users": state},
    )
    with pytest.raises(AssertionError, match="A user who has left counts"):
        testing.check_metric(wrong, env.spec, env.items)


def test_data_sets_with_faults():
    good = testing.walking_log()
    one_hot = np.eye(good.num_items)
    faults = {
        "has no events": {"interactions": Interactions([], [])},
        "test part of .* has no events": {"test": Interactions([], [])},
        "Row 3: numeric is .* must be finite or NaN": {"numeric": np.where(one_hot[3] > 0, np.inf, np.nan)[:, None]},
        r"(?s)Row 1: multi_hot is .* must be 0 or 1": {"multi_hot": 2.0 * one_hot - one_hot[0]},
        r"(?s)Row 0: context is .* must be finite": {"context": np.full((good.num_users, 1), np.nan)},
    }
    for match, change in faults.items():
        with pytest.raises(AssertionError, match=match):
            testing.check_dataset(dataclasses.replace(good, **change))
