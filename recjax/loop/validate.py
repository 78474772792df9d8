"""Checks that environment, agent, reward and metrics keep their contracts, by tracing each once.

What is wrong is told before anything is compiled, in the words of the contract, rather than by Python
inside a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.agents.base import Action, Agent, Update
from recjax.envs.base import Environment
from recjax.eval import Accumulator
from recjax.loop.config import LoopConfig
from recjax.loop.interact import traced_once, with_items
from recjax.prng import inlined
from recjax.replay import Buffer
from recjax.rewards import Reward
from recjax.types import Items, Observation, PyTree, Response, Revealed, Spec, Step


class Checked(NamedTuple):
    """What tracing has found.

    Attributes:
      step: shapes of one step of all users, as replay stores it.
      learn_metrics: names of the metrics of ``learn``.
      has_priorities: whether ``learn`` returns priorities.
    """

    step: Step
    learn_metrics: tuple[str, ...] = ()
    has_priorities: bool = False


def check(
    env: Environment,
    agent: Agent,
    reward: Reward,
    metrics: Sequence[Accumulator],
    buffer: Buffer | None,
    config: LoopConfig,
    start: tuple[PyTree, PyTree] = (None, None),
) -> Checked:
    """Traces one step of a loop of an agent that starts from ``(hparams, params)``.

    Raises:
      ValueError: what does not keep its contract, what it should be, and what it is.
    """
    user = check_environment(env)
    observation = _batched(user.observation, config.users)
    seen = observation
    if agent.is_oracle:
        seen = Revealed(observation, _batched(user.state, config.users), env.params, user.world)
    state, action = check_agent(agent, env, seen, start)
    response = _batched(user.response, config.users)
    rewards = _trace("reward", reward, response)
    wanted = _shape((config.users, 1 if env.spec.action_size else env.spec.slate_size))
    _expect("The reward", rewards, wanted, "one number a slot (one a vector)")
    flags: Any = _shape((config.users,), bool)
    step = Step(observation, *action, response, rewards, flags, flags, observation)
    check_metrics(metrics, env, step)
    if agent.learn is None:
        return Checked(step)
    return check_learning(agent, state, step, buffer, config)


def check_environment(env: Environment) -> Any:
    """Traces ``init_world``, ``reset``, ``step`` and ``tick`` for one user; returns the shapes of a transition.

    Raises:
      ValueError: what does not keep the contract of :class:`recjax.envs.Environment`.
    """
    spec, key = env.spec, _key()
    if not isinstance(env.items, Items) or env.items.num_items != spec.num_items:
        found = env.items.num_items if isinstance(env.items, Items) else type(env.items).__name__
        raise ValueError(f"Environment.items must be Items of Spec.num_items={spec.num_items} items; got {found}.")
    if env.tick is not None and env.init_world is None:
        raise ValueError("Environment.tick changes a world, but init_world is None; give what the world is at step 0.")
    world = _trace("Environment.init_world", env.world, key)
    arrived = _trace("Environment.reset", traced_once(env.reset), key, env.params, world)
    observation, state = _fields("Environment.reset", arrived, ("observation", "state"))
    _check_observation("Environment.reset", observation, spec)
    size = _shape((spec.action_size,)) if spec.action_size else _shape((spec.slate_size,), jnp.int32)
    names = ("observation", "state", "response", "terminated", "truncated", "info")
    answer = _trace("Environment.step", traced_once(env.step), key, state, size, env.params, world)
    after, state_after, response, terminated, truncated, info = _fields("Environment.step", answer, names)
    _check_observation("Environment.step", after, spec)
    _expect("The observation of Environment.step", after, observation, "that of Environment.reset")
    _expect("The state of Environment.step", state_after, state, "that of Environment.reset")
    _check_response(response, spec)
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        _expect(f"{name} of Environment.step", flag, _shape((), bool), "bool[], one flag for one user")
    if not isinstance(info, dict):
        raise ValueError(f"info of Environment.step must be a dictionary of scalars; got {type(info).__name__}.")
    users = Revealed(_batched(observation, 2), _batched(state, 2), env.params, world)
    for name, oracle in env.oracles.items():
        setting = jax.tree.map(lambda x: _shape(x.shape[1:], x.dtype), oracle.settings)
        slate = _trace(f"Environment.oracles[{name!r}]", oracle.choose, key, users, setting)
        _expect(f"The slate of Environment.oracles[{name!r}]", slate, _batched(size, 2), "one action a user")
    return _User(observation, state, response, world)


class _User(NamedTuple):
    observation: Observation
    state: PyTree
    response: Response
    world: PyTree


def check_agent(
    agent: Agent, env: Environment, seen: PyTree, start: tuple[PyTree, PyTree]
) -> tuple[PyTree, tuple[Any, Any, Any]]:
    """Traces ``init``, ``act`` and ``log_prob`` for what is seen of a batch of users.

    Returns:
      Shapes of the state and of the action.

    Raises:
      ValueError: what does not keep the contract of :class:`recjax.agents.Agent`.
    """
    spec = env.spec
    users = (seen.observation if agent.is_oracle else seen).history.shape[0]
    state = _trace("Agent.init", lambda key: agent.init(key, spec, env.items, *start), _key())
    for explore in (True, False):
        name = f"Agent.act(explore={explore})"
        act = partial(traced_once(agent.act, "explore"), explore=explore)
        action = _trace(name, act, _key(), state, seen)
        if not isinstance(action, Action):
            raise ValueError(f"{name} must return agents.Action(slate, log_prob, extras); got {_describe(action)}.")
        width, kind = (spec.action_size, jnp.float32) if spec.action_size else (spec.slate_size, jnp.int32)
        meaning = "a vector a user" if spec.action_size else "Spec.slate_size items a user"
        _expect(f"slate of {name}", action.slate, _shape((users, width), kind), meaning)
        _expect(f"log_prob of {name}", action.log_prob, _shape((users,)), "one log-probability a user")
    if agent.log_prob is not None:
        found = _trace("Agent.log_prob", agent.log_prob, state, seen, action.slate)
        _expect("Agent.log_prob", found, _shape((users,)), "one log-probability a user")
    return state, tuple(action)


def check_learning(agent: Agent, state: PyTree, step: PyTree, buffer: Buffer | None, config: LoopConfig) -> Checked:
    """Traces the memory and ``learn``.

    Raises:
      ValueError: what does not keep the contract of :class:`recjax.agents.Agent` or :class:`recjax.replay.Buffer`.
    """
    if buffer is None or agent.learn is None:
        raise ValueError("The agent learns, but Agent.memory is None; give e.g. memory=replay.uniform().")
    memory = _trace("Buffer.init", buffer.init, step)
    after = _trace("Buffer.add", buffer.add, memory, step)
    _expect("The state of Buffer.add", after, memory, "that of Buffer.init")
    batch = _trace("Buffer.sample", lambda key, state: buffer.sample(key, state, config.batch_size), _key(), after)
    update = _trace("Agent.learn", traced_once(agent.learn), _key(), state, batch)
    if not isinstance(update, Update):
        raise ValueError(f"Agent.learn must return agents.Update(state, metrics); got {_describe(update)}.")
    _expect("The state of Agent.learn", update.state, state, "that of Agent.init")
    for name, value in update.metrics.items():
        if value.shape != ():
            raise ValueError(f"Metrics of Agent.learn are scalars; {name!r} has shape {value.shape}.")
    if update.priorities is not None and buffer.update is None:
        raise ValueError(
            "Agent.learn returns priorities, but its memory draws all windows alike (Buffer.update is None);"
            " give a memory with priorities, or return None."
        )
    if update.priorities is not None and buffer.update is not None:
        updated = _trace("Buffer.update", buffer.update, after, batch.indices, update.priorities)
        _expect("The state of Buffer.update", updated, memory, "that of Buffer.init")
    return Checked(step, tuple(sorted(update.metrics)), update.priorities is not None)


def check_metrics(metrics: Sequence[Accumulator], env: Environment, step: PyTree) -> None:
    """Traces each accumulator.

    Raises:
      ValueError: what does not keep the contract of :class:`recjax.eval.Accumulator`, or two metrics of one name.
    """
    shown = _trace("slate", with_items, step)
    names: list[str] = []
    for number, metric in enumerate(metrics):
        name = f"metrics[{number}]"
        state = _trace(f"{name}.init", lambda metric=metric: metric.init(env.spec, env.items))
        after = _trace(f"{name}.update", metric.update, state, shown, env.items)
        _expect(f"The state of {name}.update", after, state, "that of its init")
        computed = _trace(f"{name}.compute", metric.compute, after, env.items)
        for key, value in computed.items():
            if value.shape != ():
                raise ValueError(f"Metrics are scalars; {key!r} of {name}.compute has shape {value.shape}.")
        names += computed
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Two accumulators compute a metric of the same name: {', '.join(twice)}.")


def _check_observation(where: str, observation: Any, spec: Spec) -> None:
    if not isinstance(observation, Observation):
        raise ValueError(f"The observation of {where} must be an Observation; got {_describe(observation)}.")
    wanted = jax.eval_shape(spec.empty_observation)
    for name in ("history", "behaviour", "context", "time"):
        _expect(f"{name} of the observation of {where}", getattr(observation, name), getattr(wanted, name), "Spec")
    ids = None if observation.candidates is None else observation.candidates.ids
    expected = None if wanted.candidates is None else wanted.candidates.ids
    _expect(f"candidates.ids of the observation of {where}", ids, expected, "Spec")
    if spec.candidate_size:
        known = observation.candidates.features  # type: ignore[union-attr]
        _expect(f"candidates.features of the observation of {where}", known, wanted.candidates.features, "Spec")


def _check_response(response: Any, spec: Spec) -> None:
    if not isinstance(response, Response):
        raise ValueError(f"The response of Environment.step must be a Response; got {_describe(response)}.")
    declared = {signal.name: signal for signal in spec.signals}
    if set(response) != set(declared):
        raise ValueError(
            f"Environment.step answers with the signals {sorted(response)}, but Spec.signals declares"
            f" {sorted(declared)}; declare what it answers with."
        )
    for name, values in response.items():
        slots = 1 if spec.action_size else spec.slate_size
        wanted = _shape((slots,)) if declared[name].per == "slot" else _shape(())
        _expect(f"The signal {name!r} of Environment.step", values, wanted, f"one value a {declared[name].per}")


def _trace(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes of a result; errors of the traced code say where they come from."""
    try:
        return jax.eval_shape(function, *arguments)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{name} could not be called as its contract says: {type(error).__name__}: {error}."
        ) from error


def _fields(name: str, found: Any, names: tuple[str, ...]) -> tuple:
    if not isinstance(found, tuple) or len(found) != len(names):
        raise ValueError(f"{name} must return ({', '.join(names)}); got {_describe(found)}.")
    return found


def _expect(what: str, found: Any, wanted: Any, why: str) -> None:
    """Compares shapes and dtypes."""
    if _describe(found) != _describe(wanted):
        raise ValueError(f"{what} is {_describe(found)}; it must be {_describe(wanted)} ({why}).")


def _describe(tree: Any) -> str:
    """Shapes and dtypes, such as ``i32[4]`` or ``(f32[], bool[])``."""
    if tree is None:
        return "None"
    leaves, structure = jax.tree.flatten(tree)
    if jax.tree_util.treedef_is_leaf(structure):
        is_array = isinstance(tree, jax.Array | jax.ShapeDtypeStruct)
        return f"{tree.dtype.name}[{','.join(map(str, tree.shape))}]" if is_array else type(tree).__name__
    return str(jax.tree.unflatten(structure, [_Name(_describe(leaf)) for leaf in leaves]))


class _Name(str):
    __slots__ = ()
    __repr__ = str.__str__


def _key() -> Any:
    """As programs give, so that what is traced here is not traced again."""
    return jax.eval_shape(lambda: inlined(jax.random.key(0)))


def _shape(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _batched(tree: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), tree)
