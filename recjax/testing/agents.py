"""What every agent owes to the loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.agents import Agent
from recjax.envs import Environment
from recjax.eval import default_metrics
from recjax.loop import Interaction, LoopConfig
from recjax.loop.validate import check
from recjax.testing.environments import check_slates
from recjax.types import PyTree, Step, seed_axes

USERS = 8


def check_agent(agent: Agent, env: Environment, *, params: PyTree = None, rtol: float = 1e-3) -> None:
    """Checks an agent in an environment that keeps its own contract (:func:`check_environment`).

    Shapes and types of ``init``, ``act``, ``learn``, ``log_prob`` and ``memory``; slates of distinct items (or
    candidates); the same key gives the same action; ``log_prob`` says of an action what ``act`` said; learning from
    its own steps leaves a state of the same form; and seeds side by side do what each does alone.

    Args:
      agent: the agent.
      env: where it acts.
      params: what ``init`` starts from, for agents that need it.
      rtol: how far numbers may differ where they are computed in another order.

    Raises:
      ValueError: shapes or types are not those of :class:`recjax.agents.Agent`.
      AssertionError: the agent does something that its contract forbids.
    """
    reward = lambda response: response[env.spec.signals[0].name]  # noqa: E731
    config = LoopConfig(users=USERS, replay_capacity=64 * USERS, batch_size=USERS)
    buffer = agent.memory.make(config.replay_capacity) if agent.learn and agent.memory else None
    start = agent.hparams, params
    check(env, agent, reward, default_metrics(env.spec), buffer, config, start)

    interaction = Interaction(env, agent, reward)
    state = agent.init(jax.random.key(0), env.spec, env.items, *start)
    steps = _Steps(interaction, state)
    for explore in (True, False):
        step = steps(jax.random.key(2), explore)
        _equal(step, steps(jax.random.key(2), explore), "With the same key, act and respond must do the same.", 0.0)
        assert bool(jnp.all(jnp.isfinite(step.log_prob))), f"log_prob of act(explore={explore}) is not finite."
        if not env.spec.action_size:
            check_slates(step, env.spec, f"act(explore={explore})")
        if agent.log_prob is not None:
            found = agent.log_prob(state, step.observation, step.slate, explore=explore)
            _equal(found, step.log_prob, f"log_prob(explore={explore}) does not say what act said.", rtol)
    if agent.learn is not None:
        _check_learning(agent, steps, buffer, rtol)


class _Steps:
    """One step of users who have just arrived, compiled once for each way to act."""

    def __init__(self, interaction: Interaction, state: PyTree) -> None:
        env = interaction.env
        self._state = state

        def step(key: Any, state: PyTree, *, explore: bool) -> Step:
            arrive_key, step_key = jax.random.split(key)
            world = env.world(arrive_key)
            users = interaction.arrive(arrive_key, env.params, world, USERS)
            return interaction.step(step_key, users, state, env.params, world, explore=explore)[1]

        self._step = jax.jit(step, static_argnames="explore")

    def __call__(self, key: Any, explore: bool) -> Step:
        return self._step(key, self._state, explore=explore)


def _check_learning(agent: Agent, steps: _Steps, buffer: Any, rtol: float) -> None:
    assert agent.memory is not None
    assert agent.learn is not None
    step = steps(jax.random.key(3), True)
    memory = buffer.init(step)
    for number in range(max(agent.memory.window, agent.memory.period or 1)):
        memory = buffer.add(memory, steps(jax.random.key(4 + number), True))
    batch = buffer.sample(jax.random.key(5), memory, USERS)
    state = steps._state
    learn = jax.jit(lambda key, state, batch: agent.learn(key, state, batch)[:2])  # type: ignore[misc]
    learned, metrics = learn(jax.random.key(6), state, batch)
    _same_form(learned, state)
    for name, value in metrics.items():
        assert bool(jnp.isfinite(value)), f"The metric {name!r} of learn is {value} at the first update."
    _equal(
        (learned, metrics), learn(jax.random.key(6), state, batch), "With the same key, learn must do the same.", 0.0
    )

    axes = seed_axes(jax.eval_shape(lambda: state))
    two = jax.tree.map(
        lambda axis, leaf: leaf if axis is None else jax.tree.map(lambda x: jnp.stack([x, x]), leaf),
        axes, state, is_leaf=lambda axis: axis is None,
    )  # fmt: skip
    side_by_side = jax.jit(jax.vmap(learn, in_axes=(None, axes, None), out_axes=(axes, 0)))
    _, both = side_by_side(jax.random.key(6), two, batch)
    for seed in range(2):
        alone = jax.tree.map(lambda x, seed=seed: x[seed], both)
        _equal(alone, metrics, "Seeds side by side must do what each does alone.", rtol)


def _same_form(found: PyTree, wanted: PyTree) -> None:
    shapes = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree) for tree in (found, wanted)]
    assert shapes[0] == shapes[1], f"learn must leave a state of the form that init makes; got {shapes[0]}."


def _equal(found: PyTree, wanted: PyTree, message: str, rtol: float) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol, err_msg=message)
