"""Policies from supervised learning: fixed, retrained on the loop's own data, and with a prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from recjax.agents.base import Agent, register
from recjax.agents.baselines import fixed_policy
from recjax.agents.exploration import ExplorationHyper, act_on_scores, exploration_fields
from recjax.agents.scores import check_problem, owned
from recjax.catalogue import BlockScorer, Catalogue, ItemIndex, as_scorer
from recjax.nn import catalogue_scores, normalize
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Sample, Spec, shared


@struct.dataclass
class SupervisedState:
    """Everything that the retrained recommender carries from update to update.

    Attributes:
      params: variables of the network.
      opt_state: state of the optimiser.
      hparams: :class:`~recjax.agents.ExplorationHyper`.
      spec: static shape of the problem.
      step: ``i32[]`` updates done.
      items: features of the catalogue.
    """

    params: PyTree
    opt_state: optax.OptState
    hparams: ExplorationHyper
    spec: Spec = struct.field(pytree_node=False)
    step: Array = shared()
    items: Items = shared()


@register("greedy")
def supervised_greedy(network: Any, params: PyTree = None, *, exclude_history: bool = True) -> Agent:
    """The best items of a supervised recommender that stays as it was trained.

    Args:
      network: a Flax module ``(observation, items) -> f32[B, N]``, such as
        :class:`recjax.nn.Recommendation`.
      params: its variables; ``init(..., params=...)`` replaces them.
      exclude_history: never show an item of the observed history.
    """

    def rate(params: PyTree, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(network, params, observation, items)

    return fixed_policy(rate, params, exclude_history=exclude_history, network=network)


@register("supervised")
def supervised(
    network: Any,
    optimizer: optax.GradientTransformation,
    *,
    exploration: str = "epsilon_greedy",
    exclude_history: bool = True,
    epsilon: float | tuple[float, float, int] = (0.3, 0.05, 1000),
    temperature: float = 0.1,
) -> Agent:
    """A recommender retrained on the clicks that it and its exploration bring about.

    The loss is the cross-entropy of a softmax over the whole catalogue, averaged over the
    clicked slots of the first step of each window. Clicks alone count as positive; what was
    shown and not clicked is one of the other classes, no more. It explores like
    :func:`recjax.agents.dqn`, so that comparing the two compares what they learn.

    Args:
      network: a Flax module ``(observation, items) -> f32[B, N]`` of logits, such as
        :class:`recjax.nn.Recommendation`.
      optimizer: an optax transformation.
      exploration: a name in ``explorations``.
      exclude_history: never show an item of the observed history.
      epsilon: default ε, a constant or ``(start, end, steps)``, linear in updates.
      temperature: default temperature of Boltzmann exploration, in units of logits.

    Returns:
      The agent; ``init(..., params=...)`` takes variables of the network. ``learn`` reports
      ``loss`` and ``clicks``, how many slots it learned from.

    Raises:
      ValueError: an argument outside its range.
    """
    defaults = ExplorationHyper(**exploration_fields(epsilon, temperature))

    def init(
        key: Array, spec: Spec, items: Items, hparams: ExplorationHyper | None = None, params: PyTree = None
    ) -> SupervisedState:
        check_problem(spec, items, exclude_history, network)
        params = network.init(key, spec.empty_observation((1,)), items) if params is None else owned(params)
        return SupervisedState(
            params=params,
            opt_state=optimizer.init(params),
            hparams=jax.tree.map(lambda x: jnp.array(x, jnp.float32), defaults if hparams is None else hparams),
            step=jnp.zeros((), jnp.int32),
            items=owned(items),
            spec=spec,
        )

    def scores(state: SupervisedState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(network, state.params, observation, state.items)

    def learn(key: Array, state: SupervisedState, sample: Sample) -> tuple[SupervisedState, dict[str, Array]]:
        del key
        step = jax.tree.map(lambda x: x[:, 0], sample.steps)
        clicked = step.response.click * ((step.slate != PAD_ID) & sample.valid[:, None])
        clicks = jnp.sum(clicked)

        def loss_fn(params: PyTree) -> Array:
            log_probs = jax.nn.log_softmax(network.apply(params, step.observation, state.items))
            shown = jnp.take_along_axis(log_probs, jnp.maximum(step.slate, 0), axis=1)
            return -jnp.sum(shown * clicked) / jnp.maximum(clicks, 1.0)

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "clicks": clicks}
        return dataclasses.replace(state, params=params, opt_state=opt_state, step=state.step + 1), metrics

    act = act_on_scores(scores, exploration, exclude_history)
    return Agent(init, act, learn, scores, hparams=defaults)


@register("similarity_prior")
def similarity_prior(
    network: Any,
    params: PyTree = None,
    *,
    prior: str | Callable[[Observation, Items], Array] = "policy",
    exclude_history: bool = True,
) -> Agent:
    """The items that maximise similarity times a policy prior, ``argmax_i s(u, i) · P(u, i)``.

    ``s(u, i) = (1 + cos(u, i)) / 2`` in [0, 1] for the user and item vectors of the network:
    a cosine may be negative, and the product of a negative number and a probability would
    prefer the items that the prior holds least likely. ``P`` is

    * ``"policy"``: the softmax of the network's own logits. Both factors then rise with the
      cosine, so the order is that of the network alone; the others differ.
    * ``"popularity"``: the item's share of the training log.
    * a function ``(observation, items) -> f32[B, N]`` of probabilities, such as the policy
      of another network.

    Args:
      network: a :class:`recjax.nn.Recommendation`, or any Flax module whose
        ``catalogue(observation, items)`` returns queries and an
        :class:`~recjax.catalogue.ItemIndex`.
      params: its variables; ``init(..., params=...)`` replaces them.
      prior: ``P``.
      exclude_history: never show an item of the observed history.

    Raises:
      ValueError: a prior that is none of the above; at ``act``, a network without item
        vectors.
    """
    if not callable(prior) and prior not in ("policy", "popularity"):
        raise ValueError(f"prior is {prior!r}; use 'policy', 'popularity' or a function of (observation, items).")
    tiny = float(jnp.finfo(jnp.float32).tiny)

    def rate(params: PyTree, observation: Observation, items: Items) -> tuple[PyTree, BlockScorer]:
        queries, index = catalogue_scores(network, params, observation, items)
        if not isinstance(index, ItemIndex):
            raise ValueError(f"{type(network).__name__} has no item vectors; use a two-tower network.")
        vectors, logits = normalize(index.vectors), as_scorer(index)
        given = prior(observation, items) if callable(prior) else None

        def log_prior(queries: Array, given: Array | None, start: Array | int, size: int) -> Array:
            if prior == "policy":  # The normaliser of the softmax is the same for all items of a user.
                return logits.score_block(queries, start, size)
            weights = items.popularity[None] if given is None else given
            return jnp.log(jnp.maximum(lax.dynamic_slice_in_dim(weights, start, size, axis=-1), tiny))

        def score_block(user_queries_given: PyTree, start: Array | int, size: int) -> Array:
            user, queries, given = user_queries_given
            cosine = user @ lax.dynamic_slice_in_dim(vectors, start, size).T
            return jnp.log(jnp.maximum((1 + cosine) / 2, tiny)) + log_prior(queries, given, start, size)

        return (normalize(queries), queries, given), BlockScorer(score_block, index.num_items)

    return fixed_policy(rate, params, exclude_history=exclude_history, network=network)
