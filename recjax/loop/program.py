"""The closed loop as three compiled functions: init, chunk and evaluate.

One step of the loop is *act → respond → reward → store → learn* for all users of all
seeds at once. A chunk scans a fixed number of steps in one donated program, so nothing
goes through the host inside it and the replay buffer is written in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Agent
from recjax.envs.base import Environment
from recjax.eval import Exposure
from recjax.loop.config import LoopConfig
from recjax.replay import uniform
from recjax.rewards import Reward
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Step, seed_axes, shared


@struct.dataclass
class Users:
    """The users being served: what is seen of them, and what is not."""

    observation: Observation
    state: PyTree


@struct.dataclass
class LoopState:
    """Everything that a run carries from chunk to chunk; a checkpoint is this and no more.

    Attributes:
      key: one key per seed. Step ``t`` draws from ``fold_in(key, t)``, so the key itself
        never changes.
      users: :class:`Users` with leading ``[users]``.
      world: the environment's parameters where they change with time (``tick``), else None.
      agent: the agent's state.
      replay: the replay buffer's state, None for agents that do not learn.
      step: ``i32[]`` steps done.
    """

    key: Array
    users: Users
    world: PyTree
    agent: PyTree
    replay: PyTree
    step: Array = shared()


class Program:
    """A closed loop, compiled: an environment, an agent and a schedule.

    Seeds are mapped with ``jax.vmap`` over :class:`LoopState`; environment parameters
    are shared by all. Calling a method a second time with states of the same shapes does
    not compile again, also for other hyper-parameters.

    Args:
      env: the environment.
      agent: the agent; its spec is the environment's.
      config: the schedule.
      reward: function of the response, ``f32[..., K]``.
    """

    def __init__(self, env: Environment, agent: Agent, config: LoopConfig, reward: Reward) -> None:
        self.env, self.agent, self.config, self.reward = env, agent, config, reward
        self.buffer = uniform(config.replay_capacity, window=agent.window) if agent.learn else None
        self._compiled: dict[str, Callable] = {}
        self._axes: PyTree = None

    def init(self, key: Array, *, hparams: PyTree = None, params: PyTree = None, vary: bool = False) -> LoopState:
        """The state before the first step.

        Args:
          key: one typed PRNG key; each seed gets ``fold_in(key, seed)``.
          hparams: replaces the agent's hyper-parameters.
          params: warm-starts the agent's network.
          vary: whether the leaves of ``hparams`` have a leading ``[seeds]`` axis, so that
            every seed runs with hyper-parameters of its own.
        """
        keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.arange(self.config.seeds))
        hparams = self.agent.hparams if hparams is None else hparams
        one = jax.eval_shape(
            lambda key, hparams: self._init(key, jax.tree.map(lambda x: x[0], hparams) if vary else hparams, params),
            jax.eval_shape(lambda: keys[0]),
            hparams,
        )
        self._axes = seed_axes(one)
        name = "init, varied" if vary else "init"
        if name not in self._compiled:
            init = jax.vmap(self._init, in_axes=(0, 0 if vary else None, None), out_axes=self._axes)
            self._compiled[name] = jax.jit(init)
        return self._compiled[name](keys, hparams, params)

    def chunk(self, state: LoopState) -> tuple[LoopState, dict[str, Array]]:
        """Runs ``config.chunk`` steps. ``state`` is donated: use the returned one.

        Returns:
          The next state, and scalars of the chunk per seed, ``f32[seeds]``: the metrics of
          :func:`recjax.eval.Exposure.summary` under exploration, and those of learning.
        """
        return self._function("chunk", state)(state, self.env.params, self.env.items)

    def evaluate(self, state: LoopState, key: Array) -> dict[str, Array]:
        """Follows a cohort of new users for ``eval_steps`` slates, without exploring or learning.

        A user who leaves is not replaced, so what a policy loses by driving users away shows
        in ``session_reward``.

        Args:
          state: as after a chunk; not donated.
          key: one typed PRNG key, split over seeds as in :meth:`init`. Programs that are
            given the same key meet the same users.

        Returns:
          Per seed, ``f32[seeds]``: the metrics of :func:`recjax.eval.Exposure.summary` over
          the slates that were shown; ``session_reward``, the reward of a user from arrival
          to leaving, cut at ``eval_steps`` slates; and ``session_length`` in slates, cut likewise.
        """
        keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.arange(self.config.seeds))
        return self._function("evaluate", state)(state, self.env.params, self.env.items, keys)

    def lower(self, state: LoopState) -> Any:
        """The lowered chunk, for reading its memory and cost: ``.compile().memory_analysis()``."""
        return self._function("chunk", state).lower(state, self.env.params, self.env.items)  # type: ignore[attr-defined]

    def _function(self, name: str, state: LoopState) -> Callable:
        if name not in self._compiled:
            axes = self._axes if self._axes is not None else seed_axes(state)
            if name == "chunk":
                mapped = jax.vmap(self._chunk, in_axes=(axes, None, None), out_axes=(axes, 0))
                self._compiled[name] = jax.jit(mapped, donate_argnums=0)
            else:
                self._compiled[name] = jax.jit(jax.vmap(self._evaluate, in_axes=(axes, None, None, 0)))
        return self._compiled[name]

    def _init(self, key: Array, hparams: PyTree, params: PyTree) -> LoopState:
        agent_key, users_key, run_key = jax.random.split(key, 3)
        users = self._arrive(users_key, self.env.params, self.config.users)
        agent = self.agent.init(agent_key, self.env.spec, self.env.items, hparams, params)
        replay = None
        if self.buffer:
            act = lambda: self._interact(run_key, users, agent, self.env.params, explore=True)[1]  # noqa: E731
            replay = self.buffer.init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(act)))
        world = self.env.params if self.env.tick else None
        return LoopState(
            key=run_key, users=users, world=world, agent=agent, replay=replay, step=jnp.zeros((), jnp.int32)
        )

    def _arrive(self, key: Array, params: PyTree, count: int) -> Users:
        observation, state = jax.vmap(self.env.reset, in_axes=(0, None))(jax.random.split(key, count), params)
        return Users(observation=observation, state=state)

    def _interact(
        self, key: Array, users: Users, agent: PyTree, params: PyTree, *, explore: bool
    ) -> tuple[Users, Step]:
        """Act and respond, once for every user; those who are done make room for new ones."""
        act_key, respond_key, arrive_key = jax.random.split(key, 3)
        count = users.observation.history.shape[0]
        slate, extras = self.agent.act(act_key, agent, users.observation, explore=explore)
        observation, state, response, terminated, truncated, _ = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(respond_key, count), users.state, slate, params
        )
        step = Step(
            observation=users.observation,
            slate=slate,
            propensity=extras["propensity"],
            response=response,
            reward=self.reward(response),
            terminated=terminated,
            truncated=truncated,
            next_observation=observation,
        )
        done = terminated | truncated
        users = jax.tree.map(
            lambda fresh, going: jnp.where(done.reshape(done.shape + (1,) * (fresh.ndim - 1)), fresh, going),
            self._arrive(arrive_key, params, count),
            Users(observation=observation, state=state),
        )
        return users, step

    def _chunk(self, state: LoopState, params: PyTree, items: Items) -> tuple[LoopState, dict[str, Array]]:
        def body(carry: tuple[LoopState, Exposure], _: None) -> tuple[tuple[LoopState, Exposure], dict[str, Array]]:
            state, exposure = carry
            interact_key, tick_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
            world = params if state.world is None else state.world
            users, step = self._interact(interact_key, state.users, state.agent, world, explore=True)
            exposure = exposure.update(step.slate, step.response, step.reward, items)
            world = self.env.tick(tick_key, world, step.response) if self.env.tick else None
            state = dataclasses.replace(state, users=users, world=world, step=state.step + 1)
            state, metrics = self._remember_and_learn(learn_key, state, step)
            return (state, exposure), metrics

        (state, exposure), metrics = jax.lax.scan(
            body, (state, Exposure.empty(items.num_items)), None, length=self.config.chunk
        )
        learned = {f"learn/{name}": jnp.nanmean(values) for name, values in metrics.items()}
        return state, exposure.summary(items) | learned

    def _remember_and_learn(self, key: Array, state: LoopState, step: Step) -> tuple[LoopState, dict[str, Array]]:
        buffer, learn, config = self.buffer, self.agent.learn, self.config
        if buffer is None or learn is None:
            return state, {}
        # Written before it is read: in the other order XLA copies the whole buffer every step.
        replay = buffer.add(state.replay, step)

        def update(agent: PyTree, key: Array) -> tuple[PyTree, dict[str, Array]]:
            sample_key, learn_key = jax.random.split(key)
            return learn(learn_key, agent, buffer.sample(sample_key, replay, config.batch_size))

        def updates(agent: PyTree) -> tuple[PyTree, dict[str, Array]]:
            agent, metrics = jax.lax.scan(update, agent, jax.random.split(key, config.updates))
            return agent, jax.tree.map(lambda x: jnp.mean(x.astype(jnp.float32)), metrics)

        def rest(agent: PyTree) -> tuple[PyTree, dict[str, Array]]:
            _, metrics = jax.eval_shape(updates, agent)
            return agent, jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), metrics)

        # The predicate has no seed axis, so this stays a branch under vmap.
        due = (state.step > config.learn_start) & (state.step % config.learn_every == 0)
        agent, metrics = jax.lax.cond(due, updates, rest, state.agent)
        return dataclasses.replace(state, agent=agent, replay=replay), metrics

    def _evaluate(self, state: LoopState, params: PyTree, items: Items, key: Array) -> dict[str, Array]:
        world = params if state.world is None else state.world
        arrive_key, run_key = jax.random.split(key)
        count = self.config.eval_users

        def body(carry: tuple, key: Array) -> tuple[tuple, None]:
            users, world, staying, exposure, session_reward, session_length = carry
            interact_key, tick_key = jax.random.split(key)
            users, step = self._interact(interact_key, users, state.agent, world, explore=False)
            # A user who left sees an empty slate: a new one stands in that row, unobserved.
            seen = staying[:, None]
            slate = jnp.where(seen, step.slate, PAD_ID)
            response = jax.tree.map(lambda x: jnp.where(seen, x, 0), step.response)
            reward = jnp.where(seen, step.reward, 0)
            if self.env.tick:
                world = self.env.tick(tick_key, world, response)
            exposure = exposure.update(slate, response, reward, items)
            session_reward += jnp.sum(reward, axis=-1)
            session_length += staying
            staying &= ~(step.terminated | step.truncated)
            return (users, world, staying, exposure, session_reward, session_length), None

        carry = (
            self._arrive(arrive_key, world, count),
            world,
            jnp.ones(count, bool),
            Exposure.empty(items.num_items),
            jnp.zeros(count, jnp.float32),
            jnp.zeros(count, jnp.int32),
        )
        (*_, exposure, session_reward, session_length), _ = jax.lax.scan(
            body, carry, jax.random.split(run_key, self.config.eval_steps)
        )
        return exposure.summary(items) | {
            "session_reward": jnp.mean(session_reward),
            "session_length": jnp.mean(session_length.astype(jnp.float32)),
        }
