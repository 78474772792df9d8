"""Environments so small that the value of every action is known.

An agent that cannot solve a probe has a defect, and the first probe that fails says where: a
constant reward tests the regression, a delayed one the bootstrap, a choice the action index, a
context the encoder, a truncation the difference between the end of an episode and the end of its
recording, a chain whether the long term is weighed against the short. The idea is Andy Jones's
(https://andyljones.com/posts/rl-debugging.html).

Every probe is a deterministic decision process with slates of one item and rewards through
the signal "click". Its state is observable: the history of state 0 is empty, that of state
``s > 0`` ends with item ``s - 1``; where states differ by their context, all histories are empty.

>>> observations, q = q_values("probe_delay", discount=0.9)
>>> q.tolist()
[[0.9, 0.9], [1.0, 1.0]]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.envs import Environment, Transition, environments
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, Response, Spec

LEAVES = -1
"""Stands for a successor: the user leaves."""


@dataclasses.dataclass(frozen=True)
class Process:
    """A deterministic decision process over states and items.

    Attributes:
      reward: ``[S, N]`` of zeros and ones.
      successor: ``[S, N]`` the next state, or ``LEAVES``.
      context: ``[S, C]``, when that is what tells states apart; users arrive in any state.
        Without it users arrive in state 0 and histories tell states apart.
      horizon: steps after which an episode is cut.
    """

    reward: Any
    successor: Any
    context: Any = None
    horizon: float = np.inf

    def q_values(self, discount: float) -> np.ndarray:
        """``f64[S, N]`` by policy iteration: linear equations, so exact and not a limit."""
        reward, successor = np.array(self.reward, float), np.array(self.successor)
        state = np.arange(len(reward))
        policy = np.zeros(len(reward), int)
        while True:
            transition = np.zeros((len(reward), len(reward)))
            stays = successor[state, policy] != LEAVES
            transition[state[stays], successor[state, policy][stays]] = discount
            value = np.linalg.solve(np.eye(len(reward)) - transition, reward[state, policy])
            q = reward + discount * np.where(successor == LEAVES, 0.0, value[successor])
            if np.all(q.max(axis=1) <= q[state, policy] + 1e-12):
                return q
            policy = q.argmax(axis=1)


def constant() -> Process:
    """One step, one state, reward 1: ``Q = 1``."""
    return Process(reward=[[1, 1]], successor=[[LEAVES, LEAVES]])


def delay() -> Process:
    """Two steps, reward 1 at the end: ``Q = discount``, then ``Q = 1``."""
    return Process(reward=[[0, 0], [1, 1]], successor=[[1, 1], [LEAVES, LEAVES]])


def choice() -> Process:
    """One step of which only item 1 pays: ``Q = (0, 1, 0)``."""
    return Process(reward=[[0, 1, 0]], successor=[[LEAVES] * 3])


def context() -> Process:
    """One step of which the item pays that the context asks for: ``Q`` is the identity."""
    return Process(reward=[[1, 0], [0, 1]], successor=[[LEAVES] * 2] * 2, context=[[-1.0], [1.0]])


def truncation() -> Process:
    """Reward 1 for ever, recorded five steps at a time: ``Q = 1 / (1 - discount)``."""
    return Process(reward=[[1, 1]], successor=[[0, 0]], horizon=5)


def chain() -> Process:
    """Item 0 pays 1 and the user leaves; item 1 pays nothing, and then two steps pay.

    At first ``Q = (1, discount + discount²)``: patience is better above 0.618, the inverse of
    the golden ratio.
    """
    return Process(reward=[[1, 0], [1, 1], [1, 1]], successor=[[LEAVES, 1], [2, 2], [LEAVES, LEAVES]])


_PROCESSES: dict[str, Callable[[], Process]] = {
    f"probe_{process.__name__}": process for process in (constant, delay, choice, context, truncation, chain)
}
PROBES = tuple(_PROCESSES)
"""Registered names of the probes, easiest first."""


def q_values(name: str, discount: float) -> tuple[Observation, np.ndarray]:
    """The exact action values of a probe under its best policy.

    Args:
      name: one of :data:`PROBES`.
      discount: of future rewards, in [0, 1).

    Returns:
      ``(observations, q)``: what a policy sees in each of the ``S`` states, with leading
      ``[S]``, and ``f64[S, N]``. The horizon is no end: values look beyond it.

    Raises:
      ValueError: there is no such probe, or the discount is out of range.
    """
    if name not in _PROCESSES:
        raise ValueError(f"There is no probe named {name!r}; the probes are {', '.join(PROBES)}.")
    if not 0 <= discount < 1:
        raise ValueError(f"discount is {discount}; it must lie in [0, 1).")
    process = _PROCESSES[name]()
    observe = partial(_observe, params=_params(process))
    return jax.vmap(observe)(jnp.arange(len(process.reward))), process.q_values(discount)


@struct.dataclass
class Params:
    """The tables of a :class:`Process` as arrays."""

    reward: Array
    successor: Array
    context: Array | None
    horizon: Array


@struct.dataclass
class State:
    """``i32[]`` state of the process and steps since the user arrived."""

    state: Array
    steps: Array


def _params(process: Process) -> Params:
    return Params(
        reward=jnp.array(process.reward, jnp.float32),
        successor=jnp.array(process.successor, jnp.int32),
        context=None if process.context is None else jnp.array(process.context, jnp.float32),
        horizon=jnp.array(process.horizon, jnp.float32),
    )


def _observe(state: Array, params: Params) -> Observation:
    if params.context is not None:
        pad = jnp.full((1,), PAD_ID, jnp.int32)
        return Observation(history=pad, behaviour=pad, context=params.context[state])
    # State 0 shows item -1, which is PAD_ID.
    behaviour = jnp.where(state > 0, int(Behaviour.CLICK), PAD_ID)
    return Observation(history=(state - 1)[None].astype(jnp.int32), behaviour=behaviour[None].astype(jnp.int32))


def _reset(key: Array, params: Params, world: None) -> tuple[Observation, State]:
    starts = 1 if params.context is None else len(params.context)
    state = State(state=jax.random.randint(key, (), 0, starts), steps=jnp.zeros((), jnp.int32))
    return _observe(state.state, params), state


def _step(key: Array, state: State, slate: Array, params: Params, world: None) -> Transition:
    successor = params.successor[state.state, slate[0]]
    response = Response(click=params.reward[state.state, slate])
    terminated = successor == LEAVES
    after = State(state=jnp.where(terminated, state.state, successor), steps=state.steps + 1)
    truncated = (after.steps >= params.horizon) & ~terminated
    return Transition(_observe(after.state, params), after, response, terminated, truncated, {})


def _environment(name: str) -> Environment:
    process = _PROCESSES[name]()
    num_items = len(process.reward[0])
    return Environment(
        spec=Spec(
            num_items=num_items,
            slate_size=1,
            history_length=1,
            context_size=0 if process.context is None else len(process.context[0]),
        ),
        params=_params(process),
        items=Items(popularity=jnp.ones(num_items), is_new=jnp.zeros(num_items, bool)),
        reset=_reset,
        step=_step,
    )


for _name in PROBES:
    environments.register(_name, partial(_environment, _name))
