"""What every environment owes to the loop."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.agents import Action, Agent, oracle
from recjax.envs import Environment
from recjax.loop import Interaction, follow, validate
from recjax.loop.faults import is_slate
from recjax.types import PAD_ID, Observation, PyTree, Spec, Step

USERS, STEPS = 8, 6


def check_environment(env: Environment, *, users: int = USERS, steps: int = STEPS) -> None:
    """Checks an environment under random actions.

    Shapes and types of ``reset``, ``step``, ``init_world`` and ``tick``; histories of known items, padded on the
    left, whose behaviours are padded alike; known candidates; finite signals, and flags of 0 and 1; never
    ``terminated`` and ``truncated`` at once; the same key gives the same; a user does alone what it does among
    others; and oracles show slates.

    Args:
      env: the environment.
      users: users that are followed.
      steps: slates that each of them is shown.

    Raises:
      ValueError: shapes or types are not those of :class:`recjax.envs.Environment`.
      AssertionError: the environment does something that its contract forbids.
    """
    validate.check_environment(env)
    first, again = (_rollout(env, jax.random.key(0), users, steps) for _ in range(2))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other, err_msg="With the same key, an environment must do the same.")
    arrived, step = first
    assert step.next_observation is not None
    for observation in (arrived, step.next_observation):
        _check_histories(observation, env.spec.num_items)
        _check_candidates(observation, env.spec.num_items)
    for signal in env.spec.signals:
        values = step.response[signal.name]
        assert bool(jnp.all(jnp.isfinite(values))), f"The signal {signal.name!r} is infinite or NaN."
        is_flag = not signal.is_flag or bool(jnp.all((values == 0) | (values == 1)))
        assert is_flag, f"The signal {signal.name!r} is_flag, but has values other than 0 and 1."
    both = step.terminated & step.truncated
    assert not bool(jnp.any(both)), "A step is terminated and truncated at once; it is one or the other."
    _check_alone(env)
    _check_oracles(env, users)


def random_agent(env: Environment) -> Agent:
    """Uniform slates (or candidates that exist), and normal vectors where actions are vectors."""
    spec = env.spec

    def act(key: Any, state: PyTree, observation: Observation, *, explore: bool = True) -> Action:
        count = observation.history.shape[0]
        if spec.action_size:
            return Action(jax.random.normal(key, (count, spec.action_size)), jnp.zeros(count))
        noise = jax.random.uniform(key, (count, spec.num_candidates or spec.num_items))
        if observation.candidates is not None:
            noise = jnp.where(observation.candidates.mask, noise, -1.0)
        value, slate = jax.lax.top_k(noise, spec.slate_size)
        return Action(jnp.where(value < 0, PAD_ID, slate), jnp.zeros(count))

    return Agent(init=lambda key, spec, items, hparams=None, params=None: (), act=act)


def _rollout(env: Environment, key: Any, users: int, steps: int) -> tuple[Observation, Step]:
    """The observations of arrival, and every step of a cohort, leaves ``[steps, users, ...]``."""
    slots = 1 if env.spec.action_size else env.spec.slate_size
    interaction = Interaction(env, random_agent(env), reward=lambda response: jnp.zeros((users, slots)))

    @jax.jit
    def run(key: Any) -> tuple[Observation, Step]:
        arrive_key, world_key, *keys = jax.random.split(key, 4)
        world = env.world(world_key)
        arrived = interaction.arrive(arrive_key, env.params, world, users)
        both = jax.random.split(keys[0], steps), jax.random.split(keys[1], steps)
        visit = lambda carry, step, staying: (carry, step)  # noqa: E731
        return arrived.observation, follow(interaction, (), arrived, world, both, visit, None, explore=True)[1]

    return run(key)


def _check_histories(observation: Observation, num_items: int) -> None:
    history, behaviour = np.asarray(observation.history), np.asarray(observation.behaviour)
    known = (history >= PAD_ID) & (history <= num_items)
    assert known.all(), f"A history holds item {history[~known][0]}; items are 0 .. {num_items - 1}, padding {PAD_ID}."
    padded = history == PAD_ID
    assert (np.diff(padded.astype(int), axis=-1) <= 0).all(), "Histories are padded on the left, and nowhere else."
    assert (padded == (behaviour == PAD_ID)).all(), "history and behaviour must be padded at the same positions."


def _check_candidates(observation: Observation, num_items: int) -> None:
    if observation.candidates is None:
        return
    ids = np.asarray(observation.candidates.ids)
    known = (ids >= PAD_ID) & (ids < num_items)
    assert known.all(), f"A candidate is item {ids[~known][0]}; items are 0 .. {num_items - 1}, padding {PAD_ID}."


def _check_alone(env: Environment) -> None:
    """A user answers alone as among others."""
    keys, world = jax.random.split(jax.random.key(1), 3), env.world(jax.random.key(2))
    size = env.spec.action_size or env.spec.slate_size
    slate = jnp.zeros(size) if env.spec.action_size else jnp.arange(size)

    def visit(key: Any, params: PyTree, world: PyTree) -> tuple[Any, Any]:
        observation, state = env.reset(key, params, world)
        return observation, tuple(env.step(key, state, slate, params, world))

    together = jax.jit(jax.vmap(visit, in_axes=(0, None, None)))(keys, env.params, world)
    alone = jax.jit(visit)
    for row in range(len(keys)):
        own = alone(keys[row], env.params, world)
        for one, other in zip(jax.tree.leaves(own), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(
                one, other[row], rtol=1e-4, atol=1e-5, err_msg="A user must answer alone as among others."
            )


def _check_oracles(env: Environment, users: int) -> None:
    """Oracles show slates that a policy could have shown."""
    for name, one in env.oracles.items():
        setting = jax.tree.map(lambda x: jnp.asarray(x)[0], one.settings)
        interaction = Interaction(env, oracle(one.choose, setting), reward=lambda response: jnp.zeros(()))
        step = jax.jit(partial(_first_step, interaction, users))(jax.random.key(3), setting)
        _check_actions(step, env.spec, f"The oracle {name!r}")


def _first_step(interaction: Interaction, users: int, key: Any, agent: PyTree) -> Step:
    keys = jax.random.split(key, 3)
    params, world = interaction.env.params, interaction.env.world(keys[0])
    arrived = interaction.arrive(keys[1], params, world, users)
    return interaction.serve(jax.random.split(keys[2]), arrived, agent, params, world, explore=False)[1]


def _check_actions(step: Step, spec: Spec, whose: str) -> None:
    if spec.action_size:
        assert bool(jnp.all(jnp.isfinite(step.slate))), f"{whose} chose a vector that is infinite or NaN."
        return
    check_slates(step, spec, whose)


def check_slates(step: Step, spec: Spec, whose: str) -> None:
    """Raises AssertionError where somebody showed what is no slate."""
    right = is_slate(step, spec)
    wrong = np.asarray(step.slate)[int(jnp.argmin(right))]
    assert bool(jnp.all(right)), (
        f"{whose} showed {wrong.tolist()}: slates hold distinct items in 0 .. num_items - 1 (distinct candidates),"
        " PAD_ID in empty slots."
    )
