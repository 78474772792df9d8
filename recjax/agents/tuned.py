"""Arguments of an agent as hyper-parameters: numbers that may be traced, and differ from seed to seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Action, Agent, Update
from recjax.types import Array, Items, Observation, PyTree, Spec

NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a number must be known that is traced."""


@struct.dataclass
class TunedState:
    """The state of a :func:`tuned` agent.

    Attributes:
      values: the hyper-parameters, ``f32[]`` or ``i32[]`` by name.
      inner: the state of the agent that they make.
    """

    values: dict[str, Array]
    inner: Any


def tuned(make: Callable[..., Agent], **values: float) -> Agent:
    """An agent whose hyper-parameters are the numbers that it is made of.

    ``make`` is called wherever the agent is used, with numbers that may be traced: learning rates, the period or the
    share of a target network, weights of losses. So one compiled loop serves all of them, and seeds side by side may
    have values of their own (``per_seed_hparams`` of :func:`recjax.loop.run_program`). A period of a target network
    that differs between seeds costs a copy of the network an update.

    Args:
      make: ``(**values) -> Agent``. All that it makes has the same shapes and the same memory. It may leave out what
        the agent itself reads from its state, such as ``discount``: a name that is no argument of ``make`` is a field
        of the agent's own hyper-parameters.
      **values: default hyper-parameters.

    Returns:
      The agent. ``Agent.hparams`` is a dictionary of the values, and its state a :class:`TunedState`.

    Raises:
      ValueError: a name is neither an argument of ``make`` nor a hyper-parameter of the agent, a value is refused, or
        ``make`` needs to know a value, as it does those that shapes follow from.

    >>> import optax
    >>> from recjax import agents, nn
    >>> make = lambda learning_rate: agents.dqn(nn.DotProductQ.of(num_items=50, dim=8), optax.adam(learning_rate))
    >>> tuned(make, learning_rate=1e-3, discount=0.9).hparams
    {'learning_rate': 0.001, 'discount': 0.9}
    """
    arguments = inspect.signature(make).parameters
    takes_any = any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values())
    own = [name for name in values if takes_any or name in arguments]
    template = make(**{name: values[name] for name in own})
    for name in values:
        if name not in own and not hasattr(template.hparams, name):
            raise ValueError(
                f"{name!r} is neither an argument of the function that makes the agent"
                f" ({', '.join(arguments) or 'it has none'}) nor one of its hyper-parameters, {template.hparams!r}."
            )

    _check_traceable(make, {name: values[name] for name in own})

    def agent_of(given: dict[str, Any]) -> Agent:
        agent = make(**{name: given[name] for name in own})
        others = {name: value for name, value in given.items() if name not in own}
        return agent._replace(hparams=agent.hparams.replace(**others)) if others else agent

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> TunedState:
        given = {name: jnp.asarray(value) for name, value in (values if hparams is None else hparams).items()}
        agent = agent_of(given)
        return TunedState(given, agent.init(key, spec, items, agent.hparams, params))

    def act(key: Array, state: TunedState, observation: Observation, *, explore: bool = True) -> Action:
        return agent_of(state.values).act(key, state.inner, observation, explore=explore)

    def learn(key: Array, state: TunedState, batch: Any) -> Update:
        agent = agent_of(state.values)
        assert agent.learn is not None
        update = agent.learn(key, state.inner, batch)
        return update._replace(state=state.replace(inner=update.state))  # type: ignore[attr-defined]

    def log_prob(state: TunedState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        agent = agent_of(state.values)
        assert agent.log_prob is not None
        return agent.log_prob(state.inner, observation, slate, explore=explore)

    def scores(state: TunedState, observation: Observation) -> Any:
        agent = agent_of(state.values)
        assert agent.scores is not None
        return agent.scores(state.inner, observation)

    def tick(state: TunedState) -> TunedState:
        agent = agent_of(state.values)
        assert agent.tick is not None
        return state.replace(inner=agent.tick(state.inner))  # type: ignore[attr-defined]

    return template._replace(
        init=init,
        act=act,
        learn=learn if template.learn else None,
        log_prob=log_prob if template.log_prob else None,
        scores=scores if template.scores else None,
        tick=tick if template.tick else None,
        hparams=dict(values),
    )


def _check_traceable(make: Callable[..., Agent], values: dict[str, float]) -> None:
    """Raises ValueError where ``make`` needs to know a value."""
    for name in values:

        def made(value: Array, name: str = name) -> Array:
            make(**(values | {name: value}))
            return value

        try:
            jax.eval_shape(made, values[name])
        except NEEDS_VALUES as error:
            raise ValueError(
                f"The function that makes the agent needs to know {name}, which may be traced. Where shapes follow from"
                " it (n_step, widths), each value is an agent of its own: use functools.partial, or"
                f" shapes=({name!r},) of a sweep. Where the agent reads it from its state (discount, epsilon_end),"
                " leave it out there."
            ) from error
