"""Our agents on environments of Gymnasium: these step on the host, acting and learning are compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.adapters.extra import require_gymnasium
from recjax.agents import Action, Agent
from recjax.loop.config import check_counts
from recjax.replay import Buffer
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Response, Signal, Spec, Step

if TYPE_CHECKING:
    import gymnasium

REWARD = Signal("reward", "The reward of the environment")


@dataclasses.dataclass(frozen=True)
class GymnasiumConfig:
    """How long an agent learns on a vector environment of Gymnasium, and how often."""

    steps: int = 10_000
    """Steps of every sub-environment."""
    batch_size: int = 128
    """Windows drawn from replay for one update."""
    replay_capacity: int = 65_536
    """Steps that replay holds, over all sub-environments."""
    learn_start: int = 100
    """Steps before the first update."""
    learn_every: int = 1
    """Steps between updates."""
    updates: int = 1
    """Updates done each time."""

    def __post_init__(self) -> None:
        check_counts(self, GymnasiumConfig, may_be_zero=("learn_start",))


class GymnasiumRun(NamedTuple):
    """What a run leaves.

    Attributes:
      state: the agent's state after the last update.
      returns: ``f64[E]`` undiscounted return of each episode that ended, in the order of their ends.
      lengths: ``i64[E]`` its steps.
      ends: ``i64[E]`` how many steps, over all sub-environments, had been done when it ended.
    """

    state: PyTree
    returns: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray


class GymnasiumUsers:
    """The sub-environments of a vector environment as users, who are each shown one item a step: the action.

    What they observe is ``Observation.context``, histories are empty, and the signal "reward" is what the environment
    pays.

    Attributes:
      spec: static shape of the problem.
      items: the actions; nothing is known of them.

    Args:
      venv: observations are a ``Box``, actions ``Discrete``, and sub-environments reset in the step in which their
        episodes end, such as ``gymnasium.make_vec("CartPole-v1", 8, "sync",
        vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP})``.

    Raises:
      ImportError: Gymnasium is not installed.
      ValueError: the environment is another one.
    """

    def __init__(self, venv: gymnasium.vector.VectorEnv) -> None:
        gymnasium = require_gymnasium()
        mode, same_step = venv.metadata.get("autoreset_mode"), gymnasium.vector.AutoresetMode.SAME_STEP
        if mode is not same_step:
            raise ValueError(
                f"The vector environment has the autoreset mode {mode}; make it with {same_step}, such as"
                ' gymnasium.make_vec(name, num_envs, "sync", vector_kwargs={"autoreset_mode": "SameStep"}).'
            )
        seen, actions = venv.single_observation_space, venv.single_action_space
        if not isinstance(seen, gymnasium.spaces.Box):
            raise ValueError(
                f"Observations are {seen}; they must be a Box. Flatten those of each sub-environment:"
                " gymnasium.make_vec(..., wrappers=[gymnasium.wrappers.FlattenObservation])."
            )
        if not isinstance(actions, gymnasium.spaces.Discrete):
            raise ValueError(f"Actions are {actions}; they must be Discrete.")
        self._venv, self._first = venv, int(actions.start)
        number, width = int(actions.n), int(np.prod(seen.shape, dtype=int))
        self.spec = Spec(number, slate_size=1, history_length=1, context_size=width, signals=(REWARD,))
        self.items = Items(popularity=jnp.ones(number), is_new=jnp.zeros(number, bool))
        self._seen: Observation | None = None

    @property
    def observation(self) -> Observation:
        """What the agent sees now, leaves ``[U, ...]`` of NumPy.

        Raises:
          ValueError: nothing was reset yet.
        """
        if self._seen is None:
            raise ValueError("The sub-environments have not begun; call reset first.")
        return self._seen

    def reset(self, seed: int | None = None) -> Observation:
        """All sub-environments begin anew; with the same seed, they do the same."""
        seen, _ = self._venv.reset(seed=seed)
        self._seen = self._observed(seen)
        return self._seen

    def step(self, action: Action) -> Step:
        """Every sub-environment does one step; those whose episodes end begin anew, which :attr:`observation` shows.

        Raises:
          ValueError: nothing was reset yet.
        """
        before: Observation = self.observation
        chosen: Any = np.asarray(action.slate)
        seen, reward, terminated, truncated, infos = self._venv.step(chosen[:, 0] + self._first)
        last = np.array(seen)
        for row in np.flatnonzero(terminated | truncated):
            last[row] = infos["final_obs"][row]
        self._seen = self._observed(seen)
        earned: Any = np.asarray(reward, np.float32)[:, None]
        return Step(
            observation=before,
            slate=chosen,
            log_prob=action.log_prob,
            extras=action.extras,
            response=Response(reward=earned),
            reward=earned,
            terminated=terminated,
            truncated=truncated & ~terminated,
            next_observation=self._observed(last),
        )

    def _observed(self, seen: Any) -> Observation:
        context: Any = np.asarray(seen, np.float32).reshape(self._venv.num_envs, -1)
        nothing: Any = np.full((self._venv.num_envs, 1), PAD_ID, np.int32)
        return Observation(history=nothing, behaviour=nothing, context=context)


def train_on_gymnasium(
    agent: Agent,
    venv: gymnasium.vector.VectorEnv,
    config: GymnasiumConfig = GymnasiumConfig(),
    *,
    key: Array,
) -> GymnasiumRun:
    """Lets an agent act and learn on a vector environment of Gymnasium, as a loop does on users.

    A step is *act → step → store → learn*: the environment's on the host, the rest in one compiled call.

    Args:
      agent: one that shows slates; its network reads ``Observation.context``.
      venv: see :class:`GymnasiumUsers`.
      config: how long, and how often it learns.
      key: one typed PRNG key; with the same key, everything repeats.

    Raises:
      ImportError: Gymnasium is not installed.
      ValueError: the environment is none that :class:`GymnasiumUsers` takes, or the agent does not learn.
    """
    if agent.learn is None or agent.memory is None:
        raise ValueError("This agent does not learn: it has no learn and no memory.")
    users = GymnasiumUsers(venv)
    init_key, run_key, seed_key = jax.random.split(key, 3)
    buffer = agent.memory.make(config.replay_capacity)
    state = agent.init(init_key, users.spec, users.items, agent.hparams)
    begin = jax.jit(partial(agent.act, explore=True))
    turn = jax.jit(partial(_turn, agent, buffer, config), donate_argnums=0)

    seen = users.reset(_seed(seed_key))
    action, tally, carry = begin(run_key, state, seen), _Tally(venv.num_envs), None
    for number in range(config.steps):
        step = users.step(action)
        carry = (state, buffer.init(jax.tree.map(jnp.asarray, step))) if carry is None else carry
        carry, action = turn(carry, run_key, step, users.observation, number + 1)
        tally.count(step)
    return tally.run(state if carry is None else carry[0])


def evaluate_on_gymnasium(
    agent: Agent, state: PyTree, venv: gymnasium.vector.VectorEnv, *, episodes: int, key: Array
) -> np.ndarray:
    """Returns of an agent that neither explores nor learns.

    Every sub-environment is followed for the same number of episodes, so that short ones are not preferred.

    Args:
      agent: the agent.
      state: its state.
      venv: see :class:`GymnasiumUsers`.
      episodes: of each sub-environment.
      key: one typed PRNG key; with the same key, everything repeats.

    Returns:
      ``f64[U, episodes]`` undiscounted.

    Raises:
      ImportError: Gymnasium is not installed.
      ValueError: the environment is none that :class:`GymnasiumUsers` takes.
    """
    users, act = GymnasiumUsers(venv), jax.jit(partial(agent.act, explore=False))
    act_key, seed_key = jax.random.split(key)
    seen, found = users.reset(_seed(seed_key)), np.zeros((venv.num_envs, episodes))
    ended, number = np.zeros(venv.num_envs, int), 0
    while (going := ended < episodes).any():
        step = users.step(act(jax.random.fold_in(act_key, number), state, seen))
        found[going, ended[going]] += step.reward[going, 0]
        ended[going] += (step.terminated | step.truncated)[going]
        seen, number = users.observation, number + 1
    return found


def _turn(
    agent: Agent,
    buffer: Buffer,
    config: GymnasiumConfig,
    carry: tuple[PyTree, PyTree],
    key: Array,
    step: Step,
    seen: Observation,
    number: Array,
) -> tuple[tuple[PyTree, PyTree], Action]:
    """Stores step ``number``, learns where that is due, and acts."""
    assert agent.memory is not None
    learn_key, act_key = jax.random.split(jax.random.fold_in(key, number))
    state, replay = carry
    # Written before it is read: in the other order XLA copies the whole buffer every step.
    replay = buffer.add(replay, step)
    period = config.learn_every if agent.memory.period is None else agent.memory.period
    state = state if agent.tick is None else agent.tick(state)
    due = (number > config.learn_start) & (number % period == 0)
    updated = partial(_updated, agent, buffer, config, learn_key)
    if buffer.update is None:
        # Only what a branch changes goes through it: XLA would copy the buffer.
        state = jax.lax.cond(due, lambda state: updated((state, replay))[0], lambda state: state, state)
    else:
        state, replay = jax.lax.cond(due, updated, lambda both: both, (state, replay))
    return (state, replay), agent.act(act_key, state, seen, explore=True)


def _updated(
    agent: Agent, buffer: Buffer, config: GymnasiumConfig, key: Array, carry: tuple[PyTree, PyTree]
) -> tuple[PyTree, PyTree]:
    """State and memory after as many updates as are done at a time."""
    learn: Callable[..., Any] | None = agent.learn
    assert learn is not None

    def update(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], None]:
        sample_key, learn_key = jax.random.split(key)
        state, replay = carry
        batch = buffer.sample(sample_key, replay, config.batch_size)
        state, _, priorities = learn(learn_key, state, batch)
        if priorities is not None and buffer.update is not None:
            replay = buffer.update(replay, batch.indices, priorities)
        return (state, replay), None

    return jax.lax.scan(update, carry, jax.random.split(key, config.updates))[0]


def _seed(key: Array) -> int:
    return int(jax.random.bits(key, dtype=jnp.uint32) >> 1)


class _Tally:
    """Counts episodes."""

    def __init__(self, count: int) -> None:
        self._reward, self._length, self._steps = np.zeros(count), np.zeros(count, int), 0
        self._ended: list[tuple[float, int, int]] = []

    def count(self, step: Step) -> None:
        """One more step of every sub-environment."""
        self._reward += np.asarray(step.reward)[:, 0]
        self._length += 1
        self._steps += len(self._reward)
        for row in np.flatnonzero(np.asarray(step.terminated | step.truncated)):
            self._ended.append((self._reward[row], self._length[row], self._steps))
            self._reward[row], self._length[row] = 0.0, 0

    def run(self, state: PyTree) -> GymnasiumRun:
        """What the run leaves."""
        returns, lengths, ends = zip(*self._ended, strict=True) if self._ended else ((), (), ())
        return GymnasiumRun(state, np.array(returns, float), np.array(lengths, int), np.array(ends, int))
