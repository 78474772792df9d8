"""The closed loop as three compiled functions: init, chunk and evaluate.

One step of the loop is *act → respond → reward → store → learn* for all users of all
seeds at once. A chunk scans a fixed number of steps in one donated program, so nothing
goes through the host inside it and the replay buffer is written in place.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Agent
from recjax.envs.base import Environment
from recjax.eval import Accumulator, default_metrics
from recjax.loop.config import LoopConfig
from recjax.loop.faults import Faults
from recjax.loop.interact import Interaction, Users, follow, traced_once, with_items
from recjax.loop.memory import check_memory, memory_of
from recjax.loop.validate import Checked, check
from recjax.prng import inlined
from recjax.replay import Buffer, misfits, step_storage, stored
from recjax.rewards import Reward
from recjax.types import Array, Items, PyTree, Step, seed_axes, shared


@struct.dataclass
class LoopState:
    """Everything that a run carries from chunk to chunk; a checkpoint is this and no more.

    Attributes:
      key: one key per seed. Step ``t`` draws from ``fold_in(key, t)``, so the key itself
        never changes.
      users: :class:`Users` with leading ``[users]``.
      world: what changes for all users, None where nothing does.
      agent: the agent's state.
      replay: the replay buffer's state, None for agents that do not learn.
      faults: what must not happen, counted.
      step: ``i32[]`` steps done.
    """

    key: Array
    users: Users
    world: PyTree
    agent: PyTree
    replay: PyTree
    faults: Faults
    step: Array = shared()


def code_of(env: Environment) -> tuple:
    """What a compiled loop of an environment follows from, beside the arrays that it is given."""
    return env.spec, env.reset, env.step, env.init_world, env.tick


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
      metrics: what is accumulated; :func:`recjax.eval.default_metrics` unless given.
      groups: into how many groups the seeds are divided; each has the keys that it would have alone, so that
        groups with other hyper-parameters meet the same users and the same chance.
    """

    def __init__(
        self,
        env: Environment,
        agent: Agent,
        config: LoopConfig,
        reward: Reward,
        metrics: Sequence[Accumulator] | None = None,
        groups: int = 1,
    ) -> None:
        if config.seeds % groups:
            raise ValueError(f"{config.seeds} seeds cannot be divided into {groups} groups.")
        self.env, self.agent, self.config, self.reward, self.groups = env, agent, config, reward, groups
        self.metrics = tuple(default_metrics(env.spec) if metrics is None else metrics)
        self.storage = step_storage(env.spec)
        self.buffer: Buffer | None = None
        if agent.learn and agent.memory:
            self.buffer = stored(agent.memory.make(config.replay_capacity), self.storage)
        self._checked: Checked | None = None
        self._interaction = Interaction(env, agent, reward)
        self._compiled: dict[str, Callable] = {}
        self._axes: PyTree = None

    def elsewhere(self, env: Environment) -> Program:
        """The program in an environment that differs in ``params`` alone; what was compiled serves both.

        Raises:
          ValueError: they differ in more.
        """
        if code_of(env) != code_of(self.env):
            raise ValueError("The environments differ in more than their params; make a Program of the other one.")
        other = copy.copy(self)
        other.env, other._interaction = env, self._interaction._replace(env=env)
        # The first state is made of the params that are held; all else is given them.
        other._compiled = {name: one for name, one in self._compiled.items() if not name.startswith("init")}
        return other

    @property
    def updates_per_chunk(self) -> int:
        """Updates of one seed in a chunk, once learning has begun."""
        return self.config.chunk // self._learn_every * self.config.updates if self.buffer else 0

    def init(
        self, key: Array, *, hparams: PyTree = None, params: PyTree = None, per_seed_hparams: bool = False
    ) -> LoopState:
        """The state before the first step.

        Args:
          key: one typed PRNG key; each seed gets ``fold_in(key, seed)``.
          hparams: replaces the agent's hyper-parameters.
          params: warm-starts the agent's network.
          per_seed_hparams: whether the leaves of ``hparams`` have a leading ``[seeds]`` axis, so that
            every seed runs with hyper-parameters of its own.

        Raises:
          ValueError: as :meth:`shapes`; the state does not fit into memory.
        """
        keys = self._keys(key)
        hparams = self.agent.hparams if hparams is None else hparams
        of_seed = jax.tree.map(lambda x: x[0], hparams) if per_seed_hparams else hparams
        one = self.shapes(hparams=of_seed, params=params)
        check_memory(memory_of(one, self.config))
        self._axes = seed_axes(one)
        name = "init, hparams per seed" if per_seed_hparams else "init"
        if name not in self._compiled:
            in_axes = (0, 0 if per_seed_hparams else None, None)
            self._compiled[name] = jax.jit(jax.vmap(self._init, in_axes=in_axes, out_axes=self._axes))
        return self._compiled[name](keys, hparams, params)

    def shapes(self, *, hparams: PyTree = None, params: PyTree = None) -> LoopState:
        """Shapes of the state of one seed; nothing is computed, and the arguments may be shapes, too.

        Raises:
          ValueError: environment, agent, reward or metrics do not keep their contract, found by tracing each once.
        """
        hparams = self.agent.hparams if hparams is None else hparams

        def init(key: Array, hparams: PyTree, params: PyTree) -> LoopState:
            if self._checked is None:
                start = (hparams, params)
                self._checked = check(self.env, self.agent, self.reward, self.metrics, self.buffer, self.config, start)
            return self._init(key, hparams, params)

        return jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), hparams, params)

    def chunk(self, state: LoopState) -> tuple[LoopState, dict[str, Array]]:
        """Runs ``config.chunk`` steps. ``state`` is donated: use the returned one.

        Returns:
          The next state, and scalars of the chunk per seed, ``f32[seeds]``: the accumulated metrics
          under exploration, and those of learning.
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
          Per seed, ``f32[seeds]``: the accumulated metrics of the slates that were shown;
          ``session_reward``, the reward of a user from arrival to leaving, cut at
          ``eval_steps`` slates; and ``session_length`` in slates, cut likewise.
        """
        return self._function("evaluate", state)(state, self.env.params, self.env.items, self._keys(key))

    def compile(self, state: LoopState, key: Array) -> None:
        """Compiles :meth:`evaluate`, and :meth:`chunk` where there are steps, for such a state: no call waits for it.

        Args:
          state: as after :meth:`init`; it is not changed.
          key: as for :meth:`evaluate`.
        """
        arguments = state, self.env.params, self.env.items
        if self.config.steps:
            self._function("chunk", state).lower(*arguments).compile()  # type: ignore[attr-defined]
        self._function("evaluate", state).lower(*arguments, self._keys(key)).compile()  # type: ignore[attr-defined]

    @property
    def is_constant(self) -> bool:
        """Whether every evaluation by one key gives the same: the agent does not learn and nothing else changes."""
        return self.agent.learn is None and self.env.init_world is None

    @property
    def is_compiled(self) -> bool:
        """Whether a state has been evaluated, or compiled for, already."""
        return "evaluate" in self._compiled

    def lower(self, state: LoopState) -> Any:
        """The lowered chunk, for reading its memory and cost: ``.compile().memory_analysis()``."""
        return self._function("chunk", state).lower(state, self.env.params, self.env.items)  # type: ignore[attr-defined]

    @property
    def checked(self) -> Checked:
        """The shapes of a step and what learning reports, as :meth:`init` has found them."""
        if self._checked is None:
            raise ValueError("Call Program.init before its other methods; it traces what they are made of.")
        return self._checked

    @property
    def _learn_every(self) -> int:
        period = self.agent.memory.period if self.agent.memory else None
        return self.config.learn_every if period is None else period

    def _keys(self, key: Array) -> Array:
        """One key a seed, the same ones in each group."""
        seeds = jnp.tile(jnp.arange(self.config.seeds // self.groups), self.groups)
        return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(seeds)

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
        env = self.env
        world = env.world(jax.random.fold_in(users_key, 0))
        users = self._interaction.arrive(inlined(users_key), env.params, world, self.config.users)
        stored_parts = jax.eval_shape(partial(misfits, self.storage), self.checked.step) if self.buffer else ()
        blank = lambda shape: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)  # noqa: E731
        return LoopState(
            key=run_key,
            users=users,
            world=world,
            agent=self.agent.init(agent_key, env.spec, env.items, hparams, params),
            replay=self.buffer.init(blank(self.checked.step)) if self.buffer else None,
            faults=Faults.none(self.checked.learn_metrics, stored_parts),
            step=jnp.zeros((), jnp.int32),
        )

    def _chunk(self, state: LoopState, params: PyTree, items: Items) -> tuple[LoopState, dict[str, Array]]:
        def body(carry: tuple[LoopState, list], _: None) -> tuple[tuple[LoopState, list], dict[str, Array]]:
            state, sums = carry
            interact_key, tick_key, learn_key = jax.random.split(jax.random.fold_in(inlined(state.key), state.step), 3)
            users, step = self._interaction.step(
                interact_key, state.users, state.agent, params, state.world, explore=True
            )
            shown = with_items(step)
            state = dataclasses.replace(
                state,
                users=users,
                world=self._interaction.tick(tick_key, state.world, shown, params),
                agent=state.agent if self.agent.tick is None else self.agent.tick(state.agent),
                faults=state.faults.of_step(step, self.env.spec),
                step=state.step + 1,
            )
            sums = [metric.update(one, shown, items) for metric, one in zip(self.metrics, sums, strict=True)]
            state, learned = self._remember_and_learn(learn_key, state, step)
            return (state, sums), learned

        sums = [metric.init(self.env.spec, items) for metric in self.metrics]
        (state, sums), learned = jax.lax.scan(body, (state, sums), None, length=self.config.chunk)
        return state, self._computed(sums, items) | {f"learn/{name}": jnp.nanmean(x) for name, x in learned.items()}

    def _computed(self, sums: list, items: Items) -> dict[str, Array]:
        computed: dict[str, Array] = {}
        for metric, one in zip(self.metrics, sums, strict=True):
            computed |= metric.compute(one, items)
        return computed

    def _remember_and_learn(self, key: Array, state: LoopState, step: Step) -> tuple[LoopState, dict[str, Array]]:
        if self.buffer is None:
            return state, {}
        # Written before it is read: in the other order XLA copies the whole buffer every step.
        faults = state.faults.of_storage(step, self.storage)
        state = dataclasses.replace(state, replay=self.buffer.add(state.replay, step), faults=faults)
        # The predicate has no seed axis, so this stays a branch under vmap.
        due = (state.step > self.config.learn_start) & (state.step % self._learn_every == 0)
        before = self._learning(state, state.replay)
        learning, metrics = jax.lax.cond(
            due,
            lambda learning: self._updates(key, learning, state.replay),
            lambda learning: (learning, dict.fromkeys(self.checked.learn_metrics, jnp.float32(jnp.nan))),
            before,
        )
        replay = learning.pop("replay", state.replay)
        return dataclasses.replace(state, replay=replay, **learning), metrics

    def _learning(self, state: LoopState, replay: PyTree) -> dict[str, PyTree]:
        """What updates change: replay too where they set priorities, and else not, so that none of it is copied."""
        learning = {"agent": state.agent, "faults": state.faults}
        return learning | {"replay": replay} if self.checked.has_priorities else learning

    def _updates(
        self, key: Array, learning: dict[str, PyTree], replay: PyTree
    ) -> tuple[dict[str, PyTree], dict[str, Array]]:
        buffer = self.buffer
        assert buffer is not None
        assert self.agent.learn is not None
        learn = traced_once(self.agent.learn)

        def update(learning: dict[str, PyTree], key: Array) -> tuple[dict[str, PyTree], dict[str, Array]]:
            sample_key, learn_key = jax.random.split(key)
            held = learning.get("replay", replay)
            batch = buffer.sample(sample_key, held, self.config.batch_size)
            agent, metrics, priorities = learn(learn_key, learning["agent"], batch)
            learning = learning | {"agent": agent}
            if priorities is not None and buffer.update is not None:
                learning["replay"] = buffer.update(held, batch.indices, priorities)
            return learning, metrics

        learning, metrics = jax.lax.scan(update, learning, jax.random.split(key, self.config.updates))
        metrics = jax.tree.map(lambda x: x.astype(jnp.float32), metrics)
        faults = learning["faults"].of_updates(metrics)
        return learning | {"faults": faults}, jax.tree.map(jnp.mean, metrics)

    def _evaluate(self, state: LoopState, params: PyTree, items: Items, key: Array) -> dict[str, Array]:
        arrive_key, run_key = jax.random.split(inlined(key))
        count = self.config.eval_users
        interaction = self._interaction._replace(env=self.env._replace(params=params))
        users = interaction.arrive(arrive_key, params, state.world, count)
        keys = jax.vmap(jax.random.split, out_axes=1)(jax.random.split(run_key, self.config.eval_steps))

        def visit(carry: tuple, step: Step, staying: Array) -> tuple[tuple, None]:
            sums, session_reward, session_length = carry
            sums = [metric.update(one, step, items) for metric, one in zip(self.metrics, sums, strict=True)]
            return (sums, session_reward + jnp.sum(step.reward, axis=-1), session_length + staying), None

        sums = [metric.init(self.env.spec, items) for metric in self.metrics]
        carry = sums, jnp.zeros(count, jnp.float32), jnp.zeros(count, jnp.int32)
        (sums, session_reward, session_length), _ = follow(
            interaction, state.agent, users, state.world, (keys[0], keys[1]), visit, carry, explore=False
        )
        return self._computed(sums, items) | {
            "session_reward": jnp.mean(session_reward),
            "session_length": jnp.mean(session_length.astype(jnp.float32)),
        }
