"""Policies that do not learn: random, popularity, and neighbours counted on a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import struct

from recjax.agents.base import Action, Agent, register
from recjax.agents.exploration import greedy, is_possible
from recjax.agents.slates import SlatePolicy, greedy_log_prob, history_items, unwanted_candidates
from recjax.agents.state import check_problem, owned
from recjax.agents.uniform import fill_uniformly, num_allowed, uniform_log_prob
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

    fitted, policy = params, SlatePolicy(exclude_history=exclude_history)

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

    select = policy.select(scores)

    def act(key: Array, state: FixedState, observation: Observation, *, explore: bool = True) -> Action:
        del key, explore
        chosen = select(state, observation)
        return greedy(chosen.queries, chosen.items, state.spec.slate_size, exclude=chosen.exclude)

    def log_prob(state: FixedState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        del explore
        return greedy_log_prob(select(state, observation), slate)

    return Agent(init, act, log_prob=log_prob, scores=scores)


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

    def choices(state: FixedState, observation: Observation) -> tuple[int, Array | None]:
        history = history_items(state.spec, observation) if exclude_history else None
        if observation.candidates is None:
            return state.spec.num_items, history
        return state.spec.num_candidates, unwanted_candidates(observation, history)

    def act(key: Array, state: FixedState, observation: Observation, *, explore: bool = True) -> Action:
        del explore
        batch, (num_choices, exclude) = observation.history.shape[0], choices(state, observation)
        empty = jnp.full((batch, state.spec.slate_size), PAD_ID, jnp.int32)
        slate = fill_uniformly(key, empty, num_choices, exclude)
        allowed = num_allowed(num_choices, batch, exclude)
        chance = 1.0 / allowed.astype(jnp.float32)
        extras = {"propensity": jnp.broadcast_to(chance[:, None], slate.shape)}
        return Action(slate, uniform_log_prob(allowed, state.spec.slate_size), extras)

    def log_prob(state: FixedState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        del explore
        num_choices, exclude = choices(state, observation)
        found = uniform_log_prob(num_allowed(num_choices, len(slate), exclude), slate.shape[-1])
        return jnp.where(is_possible(slate, num_choices, exclude), found, -jnp.inf)

    return Agent(init, act, log_prob=log_prob)


@register("popularity")
def popularity(*, exclude_history: bool = True) -> Agent:
    """The items that occur most often in the training log, ``Items.popularity``, or that rank first by other scores.

    ``init(..., params=...)`` may be given such scores, ``f32[N]``: quality, margin, age.

    Args:
      exclude_history: never show an item of the observed history.
    """

    def prepare(scores: Array | None, items: Items) -> Array:
        return (items.popularity if scores is None else scores)[:, None].astype(jnp.float32)

    def rate(scores: Array, observation: Observation, items: Items) -> tuple[Array, ItemIndex]:
        del items
        return jnp.ones((observation.history.shape[0], 1), jnp.float32), ItemIndex(scores)

    return fixed_policy(rate, exclude_history=exclude_history, prepare=prepare)


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
