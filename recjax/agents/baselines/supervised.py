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

from recjax import replay
from recjax.agents.base import Agent, Update, register
from recjax.agents.baselines.fixed import fixed_policy
from recjax.agents.clicks import ClickPrediction, items_read
from recjax.agents.exploration import ExplorationHyper
from recjax.agents.item_index import cached_index, index_of, recomputed
from recjax.agents.slates import SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters, owned
from recjax.catalogue import BlockScorer, CachedIndex, Catalogue, ItemIndex, as_scorer, build_index
from recjax.fit import Optimizer, descend
from recjax.nn import catalogue_scores, has_item_vectors, item_vectors, normalize
from recjax.replay import Batch
from recjax.types import Array, Items, Observation, PyTree, Spec, shared


@struct.dataclass
class SupervisedState:
    """Everything that the retrained recommender carries from update to update.

    Attributes:
      params: variables of the network.
      opt_state: state of the optimiser.
      hparams: :class:`~recjax.agents.ExplorationHyper`.
      spec: static shape of the problem.
      index: cached item vectors, or None when they are computed at every use.
      acted: ``i32[]`` steps of the environment, by which exploration falls.
      items: features of the catalogue.
    """

    params: PyTree
    opt_state: optax.OptState
    hparams: ExplorationHyper
    spec: Spec = struct.field(pytree_node=False)
    index: CachedIndex | None
    acted: Array = shared()
    items: Items = shared()


@register("greedy")
def supervised_greedy(network: Any, params: PyTree = None, *, exclude_history: bool = True) -> Agent:
    """The best items of a supervised recommender that stays as it was trained.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`, such as
        :class:`recjax.nn.Recommendation`.
      params: its variables; ``init(..., params=...)`` replaces them.
      exclude_history: never show an item of the observed history.
    """

    def rate(params: PyTree, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(network, params[0], observation, items, params[1])

    return fixed_policy(rate, params, exclude_history=exclude_history, network=network, prepare=_with_index(network))


@register("supervised")
def supervised(
    clicks: ClickPrediction,
    optimizer: Optimizer,
    *,
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
    index_every: int | None = None,
) -> Agent:
    """A recommender retrained on the clicks that it and its exploration bring about.

    It explores like :func:`recjax.agents.dqn`, so that comparing the two compares what they learn.

    Args:
      clicks: the network and the loss by which it is retrained.
      optimizer: an optax transformation or :class:`recjax.fit.RowWise`, which needs ``clicks.negatives``.
      policy: how slates follow from logits.
      index_every: updates between full refreshes of cached item vectors, see
        :func:`recjax.agents.dqn`; None computes them whenever they are needed.

    Returns:
      The agent; ``init(..., params=...)`` takes variables of the network. ``learn`` reports
      ``loss``, ``clicks`` (how many slots it learned from) and the two numbers of a cached index.

    Raises:
      ValueError: an argument outside its range.
    """
    if index_every is not None and index_every < 1:
        raise ValueError(f"index_every is {index_every}; it must be at least 1, or None.")
    defaults, network = ExplorationHyper(**policy.hparams()), clicks.network

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> SupervisedState:
        check_problem(spec, items, policy.exclude_history, network)
        params = jax.jit(network.init)(key, spec.empty_observation((1,)), items) if params is None else owned(params)
        return SupervisedState(
            params=params,
            opt_state=optimizer.init(params),
            hparams=hyper_parameters(hparams, defaults),
            acted=jnp.zeros((), jnp.int32),
            items=owned(items),
            spec=spec,
            index=cached_index(network, params, items, index_every),
        )

    def scores(state: SupervisedState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(network, state.params, observation, state.items, index_of(state.index))

    def learn(key: Array, state: SupervisedState, batch: Batch) -> Update:
        drawn = clicks.draw(key, state.items.num_items)

        def loss_fn(params: PyTree) -> tuple[Array, Array]:
            return clicks.loss(params, batch, state.items, drawn)

        done = descend(loss_fn, optimizer, state.params, state.opt_state)
        index, of_index = recomputed(
            state.index, network, done.params, state.items, index_every, *items_read(batch, drawn)
        )
        state = dataclasses.replace(state, params=done.params, opt_state=done.opt_state, index=index)
        return Update(state, {"loss": done.loss, "clicks": done.aux} | of_index)

    act, log_prob = policy.functions(policy.select(scores))
    return Agent(init, act, learn, log_prob, scores, replay.uniform(), defaults, count_step)


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
      network: a :class:`recjax.nn.Recommendation`, or any :class:`recjax.nn.ScoringNetwork` whose
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
        queries, index = catalogue_scores(network, params[0], observation, items, params[1])
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

    return fixed_policy(rate, params, exclude_history=exclude_history, network=network, prepare=_with_index(network))


def _with_index(network: Any) -> Callable[[PyTree, Items], tuple[PyTree, ItemIndex | None]]:
    """Parameters that stay as they are, and the item vectors they make, if they make any."""

    def prepare(params: PyTree, items: Items) -> tuple[PyTree, ItemIndex | None]:
        if not has_item_vectors(network):
            return params, None
        return params, build_index(item_vectors(network, params, items), items.num_items).index

    return prepare
