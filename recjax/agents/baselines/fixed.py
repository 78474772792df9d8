"""Policies that do not learn: random, popularity, and neighbours counted on a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Agent, register
from recjax.agents.exploration import Slate, fill_uniformly, greedy, num_allowed
from recjax.agents.scores import check_problem, excluded, owned
from recjax.catalogue import Catalogue, ItemIndex, dense_scorer
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, shared


@struct.dataclass
class FixedState:
    """The state of a policy that does not learn, which seeds have in common.

    Attributes:
      spec: static shape of the problem.
      params: what the policy scores with, or None.
      items: features of the catalogue.
    """

    spec: Spec = struct.field(pytree_node=False)
    params: PyTree = shared()
    items: Items = shared()


def fixed_policy(
    rate: Callable[[PyTree, Observation, Items], tuple[PyTree, Catalogue]],
    params: PyTree = None,
    *,
    exclude_history: bool = True,
    network: Any = None,
    prepare: Callable[[PyTree, Items], PyTree] | None = None,
) -> Agent:
    """The agent that shows the best items of a score and never changes.

    Args:
      rate: ``(params, observation, items) -> (queries, items)`` as the operations of
        :mod:`recjax.catalogue` take them.
      params: what it scores with; ``init(..., params=...)`` replaces it.
      exclude_history: never show an item of the observed history.
      network: the module whose parameters these are, if there is one; ``init`` then
        insists on having them.
      prepare: ``(params, items) -> params``, applied once by ``init``: what is the same at
        every step.
    """

    fitted = params

    def init(key: Array, spec: Spec, items: Items, hparams: PyTree = None, params: PyTree = None) -> FixedState:
        del key, hparams
        check_problem(spec, items, exclude_history, network)
        params = fitted if params is None else params
        if network is not None and params is None:
            raise ValueError("This policy needs trained parameters: pass params to the factory or to init.")
        return FixedState(
            params=owned(params if prepare is None else prepare(params, items)), items=owned(items), spec=spec
        )

    def scores(state: FixedState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return rate(state.params, observation, state.items)

    def act(key: Array, state: FixedState, observation: Observation, *, explore: bool) -> Slate:
        del key, explore
        return greedy(
            *scores(state, observation), state.spec.slate_size, exclude=excluded(observation, exclude_history)
        )

    return Agent(init, act, scores=scores)


@register("random")
def random(*, exclude_history: bool = True) -> Agent:
    """Uniform slates without repeats, whether exploring or not.

    The propensity is the exact marginal probability of an item in its slot: one over the
    number of items allowed.

    Args:
      exclude_history: never show an item of the observed history.
    """

    def init(key: Array, spec: Spec, items: Items, hparams: PyTree = None, params: PyTree = None) -> FixedState:
        del key, hparams, params
        check_problem(spec, items, exclude_history)
        return FixedState(params=None, items=owned(items), spec=spec)

    def act(key: Array, state: FixedState, observation: Observation, *, explore: bool) -> Slate:
        del explore
        batch, exclude = observation.history.shape[0], excluded(observation, exclude_history)
        empty = jnp.full((batch, state.spec.slate_size), PAD_ID, jnp.int32)
        slate = fill_uniformly(key, empty, state.spec.num_items, exclude)
        chance = 1.0 / num_allowed(state.spec.num_items, batch, exclude).astype(jnp.float32)
        return slate, {"propensity": jnp.broadcast_to(chance[:, None], slate.shape)}

    return Agent(init, act)


@register("popularity")
def popularity(*, exclude_history: bool = True) -> Agent:
    """The items that occur most often in the training log, ``Items.popularity``.

    Args:
      exclude_history: never show an item of the observed history.
    """

    def rate(params: PyTree, observation: Observation, items: Items) -> tuple[Array, ItemIndex]:
        del params
        one = jnp.ones((observation.history.shape[0], 1), jnp.float32)
        return one, ItemIndex(items.popularity[:, None].astype(jnp.float32))

    return fixed_policy(rate, exclude_history=exclude_history)


@register("neighbours")
def neighbours(model: Any, *, exclude_history: bool = True) -> Agent:
    """What a fitted model of :mod:`recjax.models` scores highest for the observed history.

    Args:
      model: a pytree with a method ``scores(history: i32[B, L]) -> f32[B, N]``, such as a
        fitted ``ItemKNN``; ``init(..., params=...)`` replaces it.
      exclude_history: never show an item of the observed history.
    """

    def rate(model: Any, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        del items
        return dense_scorer(model.scores(observation.history))

    return fixed_policy(rate, model, exclude_history=exclude_history)
