"""What the states of agents have in common: the problem that they fit, hyper-parameters, copies."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from recjax.nn import check_scores, warm_start
from recjax.types import Items, PyTree, Spec

T = TypeVar("T")


def check_problem(spec: Spec, items: Items, exclude_history: bool, network: Any = None) -> None:
    """Refuses problems whose slates could not be filled or whose sizes disagree.

    Raises:
      ValueError: actions are vectors; the catalogue is smaller than a history and a slate while
        histories are excluded; spec, items and network count different items; or the network is no
        :class:`recjax.nn.ScoringNetwork`.
    """
    if spec.action_space == "vector":
        raise ValueError(f"This agent shows slates, but Spec.action_size is {spec.action_size}: actions are vectors.")
    sizes = {"spec": spec.num_items, "items": items.num_items}
    if network is not None:
        check_scores(network)
        if network.num_items is not None:
            sizes["network"] = network.num_items
    if len(set(sizes.values())) > 1:
        raise ValueError(f"Spec, items and network must have the same number of items; got {sizes}.")
    if exclude_history and spec.num_items < spec.history_length + spec.slate_size:
        raise ValueError(
            f"With exclude_history=True a slate of {spec.slate_size} beside a history of {spec.history_length} needs"
            f" {spec.history_length + spec.slate_size} items, but the catalogue has {spec.num_items};"
            " use exclude_history=False."
        )


def hyper_parameters(given: T | None, defaults: T) -> T:
    """The hyper-parameters of a state as ``f32`` arrays: those given, or the defaults."""
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32), defaults if given is None else given)


def started(own: PyTree, params: PyTree) -> PyTree:
    """What a network begins with: ``params`` whole where they are of its form, else their towers in its own.

    Args:
      own: variables as ``network.init`` returns them.
      params: those to start from, or None.
    """
    if params is None:
        return own
    alike = jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)
    return owned(params if alike else warm_start(own, params))


def count_step(state: T) -> T:
    """The state of an agent that explores, after one more step of the environment: ``acted`` grows by 1."""
    return state.replace(acted=state.acted + 1)  # type: ignore[attr-defined]


def owned(tree: PyTree) -> PyTree:
    """A copy, so that donating an agent's state never deletes what the caller still holds."""
    return jax.tree.map(jnp.array, tree)
