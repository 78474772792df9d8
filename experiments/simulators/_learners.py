"""What a task of learning is, and how policies are trained in it and tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax import agents, envs, loop, rewards
from recjax.types import Array, PyTree, Revealed, seed_axes

TRAINING, TESTING, SEARCHING = 0, 77, 78
"""Keys of the runs, of the users whom they are tested with, and of those with whom the best oracle of a family is
searched. Settings of learners were chosen by runs of other keys."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """A policy of each seed, and how it became what it is.

    Attributes:
      agent: the policy.
      states: of the agent, leaves ``[seeds, ...]``.
      steps: ``int[E]`` slates (vectors) that each seed had shown when it was evaluated.
      curve: ``float[E, seeds]`` mean return of new users then.
    """

    agent: agents.Agent
    states: PyTree
    steps: np.ndarray
    curve: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment, a learner and what others have reached.

    Attributes:
      name: of the task.
      learner: in words.
      make: ``(smoke) -> Environment``; a small one for a smoke run.
      learn: ``(env, seeds, smoke) -> Learned``.
      reward: whose sum from arrival to leaving is the return, as :func:`recjax.rewards.parse` takes it.
      longest: steps after which all sessions have ended.
      bar: the return to be exceeded.
      whose: whose return that is.
      cohort: users whom random policies and oracles serve.
    """

    name: str
    learner: str
    make: Callable[[bool], envs.Environment]
    learn: Callable[[envs.Environment, int, bool], Learned]
    reward: str
    longest: int
    bar: float
    whose: str
    cohort: int = 1024


def finite(env: envs.Environment) -> envs.Environment:
    """The environment to a learner that knows how long sessions last: the last slate has nothing to come.

    Otherwise what comes after it is asked of a network that never saw anything like it.
    """

    def step(key: Array, state: PyTree, slate: Array, params: PyTree, world: PyTree) -> envs.Transition:
        after = envs.Transition(*env.step(key, state, slate, params, world))
        return after._replace(terminated=after.terminated | after.truncated, truncated=after.truncated & False)

    return env._replace(step=step)


def in_a_loop(
    env: envs.Environment, agent: agents.Agent, config: loop.LoopConfig, reward: str, *, scale: float = 1.0
) -> Learned:
    """A learner that acts and learns in a closed loop, from ``scale`` times the rewards of signal ``reward``."""
    found = loop.run(
        env, agent, config, key=jax.random.key(TRAINING), reward=rewards.weighted(**{reward: scale}), metrics=[]
    )
    curve = found.evaluations["session_reward"] / scale
    return Learned(agent, found.state.agent, found.evaluated_at * config.users, curve)


def tested(env: envs.Environment, learned: Learned, task: Task, seeds: int, users: int) -> dict[str, np.ndarray]:
    """Metrics ``float[seeds]`` of what was learned, with new users; ``session_reward`` is the return."""
    program = _tester(env, learned.agent, task, seeds, users)
    state = dataclasses.replace(program.init(jax.random.key(0)), agent=learned.states)
    return _on_host(program.evaluate(state, jax.random.key(TESTING)))


def yardsticks(env: envs.Environment, task: Task, users: int) -> dict[str, dict[str, np.ndarray]]:
    """Metrics ``float[1]`` of the random policy and of the oracles; of a family, of the member that is best."""
    uniform = agents.oracle(_any_vector) if env.spec.action_size else agents.random(exclude_history=False)
    found = {"random": _of_one(env, uniform, None, task, users)}
    for name, oracle in env.oracles.items():
        agent = agents.oracle(oracle.choose)
        setting = None if oracle.settings is None else _best(env, agent, oracle.settings, task, users)
        found[name] = _of_one(env, agent, setting, task, users)
    return found


def _of_one(env: envs.Environment, agent: agents.Agent, setting: PyTree, task: Task, users: int) -> dict[str, Any]:
    program = _tester(env, agent, task, 1, users)
    return _on_host(program.evaluate(program.init(jax.random.key(0), hparams=setting), jax.random.key(TESTING)))


def _best(env: envs.Environment, agent: agents.Agent, settings: PyTree, task: Task, users: int) -> PyTree:
    """The setting that earns the most with other users, the same ones for all."""
    count = len(jax.tree.leaves(settings)[0])
    program = _tester(env, agent, task, count, users // 4, groups=count)
    state = program.init(jax.random.key(0), hparams=settings, per_seed_hparams=True)
    row = int(jnp.argmax(program.evaluate(state, jax.random.key(SEARCHING))["session_reward"]))
    return jax.tree.map(lambda x: x[row], settings)


def _tester(
    env: envs.Environment, agent: agents.Agent, task: Task, seeds: int, users: int, groups: int = 1
) -> loop.Program:
    config = loop.LoopConfig(
        steps=1, users=1, seeds=seeds, replay_capacity=1, eval_users=users, eval_steps=task.longest
    )
    return loop.Program(env, agent._replace(learn=None), config, rewards.parse(task.reward), groups=groups)


def _on_host(found: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def _any_vector(key: Array, users: Revealed, setting: Any) -> Array:
    """Vectors in [-1, 1], as VirtualTaobao takes them."""
    return jax.random.uniform(key, (len(users.observation.history), 27), minval=-1.0)


def stacked(states: Sequence[PyTree]) -> PyTree:
    """States of single seeds, with leaves ``[seeds, ...]`` as a loop has them."""
    return jax.tree.map(
        lambda axis, *leaves: leaves[0] if axis is None else jax.tree.map(lambda *x: jnp.stack(x), *leaves),
        seed_axes(states[0]), *states, is_leaf=lambda axis: axis is None,
    )  # fmt: skip
