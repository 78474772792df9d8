"""The policies that a study compares, by name.

A policy is an agent with the parameters and hyper-parameters it starts from. Its factory
gets a :class:`PolicyContext`, so a policy of one's own is a function and a registration:

>>> from recjax import agents
>>> from recjax.study import Policy, policies
>>> @policies.register("never_seen")
... def never_seen(context):
...     return Policy(agents.random(exclude_history=True))
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import jax.numpy as jnp
import optax

from recjax import agents
from recjax.agents import Agent
from recjax.catalogue import row_adam
from recjax.fit import Optimizer, RowWise, adamw, learning_rates, rows_pay
from recjax.models.collaborative import ItemKNN
from recjax.nn import DotProductSlateQ, Recommendation, has_item_vectors, q_networks
from recjax.registry import Registry
from recjax.study.config import StudyConfig
from recjax.study.quality import rested_policy
from recjax.types import Array, Items, Observation, PyTree

policies: Registry = Registry("policy")


@dataclasses.dataclass(frozen=True)
class Policy:
    """An agent and what it starts from.

    Attributes:
      agent: the agent; policies that share one (the same object) share a compiled program.
      params: parameters that warm-start it.
      hparams: hyper-parameters that replace its defaults.
    """

    agent: Agent
    params: PyTree = None
    hparams: PyTree = None


@dataclasses.dataclass(frozen=True)
class PolicyContext:
    """What a policy may be built from.

    Attributes:
      config: the study.
      recommendation: the supervised model.
      params: its parameters, trained on what the log says is liked.
      next_item_params: its parameters, trained on whatever the log has next.
      neighbours: item neighbours counted on the log.
      quality: ``f32[N]`` how often items are liked, see :func:`recjax.study.quality.quality`.
    """

    config: StudyConfig
    recommendation: Recommendation
    params: PyTree
    next_item_params: PyTree
    neighbours: ItemKNN
    quality: Any

    @functools.cached_property
    def dqn(self) -> Agent:
        """One agent for every discount, so that they share a compiled program."""
        return self.make_dqn()

    def make_dqn(self, **options: Any) -> Agent:
        """DQN as the study configures it, with further options of :func:`recjax.agents.dqn`."""
        learn, model = self.config.learn, self.recommendation
        network = q_networks.make(self.config.network.q_network, item=model.item, user=model.user)
        return agents.dqn(
            network,
            self.optimizer(max_grad_norm=10.0),
            n_step=learn.n_step,
            discount=learn.discount,
            double=learn.double,
            loss=learn.loss,
            target=agents.TargetNetwork(period=learn.target_period),
            policy=self.slate_policy,
            index_every=learn.index_every if self.row_wise and has_item_vectors(network) else None,
            **options,
        )

    @functools.cached_property
    def same_for_all(self) -> Agent:
        """The items that rank first by scores, popularity unless others are given; one agent for all such policies."""
        return agents.popularity()

    @functools.cached_property
    def greedy(self) -> Agent:
        """The supervised model as a policy, whatever it was trained on."""
        return agents.supervised_greedy(self.recommendation)

    @functools.cached_property
    def slate_q(self) -> Agent:
        """SlateQ as the study configures it, for every discount, so that they share a compiled program."""
        learn, model = self.config.learn, self.recommendation
        return agents.slate_q(
            DotProductSlateQ(item=model.item, user=model.user, value_unit=learn.value_unit),
            self.optimizer(max_grad_norm=10.0),
            n_step=learn.n_step,
            discount=learn.discount,
            loss=learn.loss,
            surrogates=agents.Surrogates(learn.surrogates) if learn.surrogates else None,
            target=agents.TargetNetwork(period=learn.target_period),
            policy=self.slate_policy,
        )

    @property
    def row_wise(self) -> bool:
        """Whether learning policies update only the item rows that they read."""
        return updates_rows(self.config, self.recommendation.num_items)

    def optimizer(self, max_grad_norm: float | None = None) -> Optimizer:
        """What every learning policy learns by."""
        config, learn = self.config, self.config.learn
        updates = max(1, (config.steps - config.learn_start) // config.learn_every * config.updates)
        rate = learning_rates.make(learn.schedule, learn.learning_rate, updates)
        if self.row_wise:
            return RowWise(row_adam(rate), optax.adam(rate), max_grad_norm=max_grad_norm)
        return adamw(rate, max_grad_norm=max_grad_norm)

    @property
    def slate_policy(self) -> agents.SlatePolicy:
        """How every learning policy makes slates and explores."""
        learn = self.config.learn
        epsilon = learn.epsilon_start, learn.epsilon_end, learn.epsilon_steps
        return agents.SlatePolicy(learn.exploration, epsilon, learn.boltzmann_temperature)

    @property
    def negatives(self) -> int | None:
        """Sampled negatives of predicting clicks; None for the whole catalogue."""
        return self.config.learn.negatives if self.row_wise else None


def updates_rows(config: StudyConfig, num_items: int) -> bool:
    """Whether learning policies of a study update only the item rows that they read."""
    read = config.batch_size * (config.slate_size + config.history_length)
    return rows_pay(num_items, read) if config.learn.row_wise is None else config.learn.row_wise


def build_recommendation(config: StudyConfig, num_items: int) -> Recommendation:
    """The supervised model of a study, untrained."""
    network = config.network
    return Recommendation.of(num_items, network.dim, encoder=network.encoder, temperature=network.temperature)


def check_policy(name: str) -> None:
    """Raises ValueError where neither a policy has that name, nor an agent that is made with its defaults."""
    if name in policies or name not in agents.agents:
        policies[name]
        return
    try:
        inspect.signature(agents.agents[name]).bind()
    except TypeError as error:
        raise ValueError(
            f"The agent {name!r} is not made with its defaults ({error}); register a policy that makes it, see"
            " recjax.study.policies, and name that."
        ) from None


def make_policy(name: str, context: PolicyContext) -> Policy:
    """The policy of that name; an agent that was registered without one is made with its defaults.

    Raises:
      ValueError: neither a policy nor an agent has that name.
    """
    if name not in policies and name in agents.agents:
        return Policy(agents.agents.make(name))
    return policies.make(name, context)


def explain(name: str) -> str:
    """The first sentence that the documentation of a policy, or of an agent, says of it; nothing where it has none."""
    if name not in policies and name not in agents.agents:
        return ""
    source: Any = policies[name] if name in policies else agents.agents[name]
    paragraph = " ".join((inspect.getdoc(source) or "").partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()


@policies.register("random")
def _random(context: PolicyContext) -> Policy:
    """Slates drawn uniformly from all items."""
    return Policy(agents.random())


@policies.register("popularity")
def _popularity(context: PolicyContext) -> Policy:
    """The items that the log has most often, the same for everybody but for what they had."""
    return Policy(context.same_for_all)


@policies.register("neighbours")
def _neighbours(context: PolicyContext) -> Policy:
    """The items that appear in the log beside those of the history, counted, not trained."""
    return Policy(agents.neighbours(context.neighbours), params=context.neighbours)


@policies.register("greedy")
def _greedy(context: PolicyContext) -> Policy:
    """The best items of the supervised model, trained on what the log says is liked; it never changes."""
    return Policy(context.greedy, params=context.params)


@policies.register("next_item")
def _next_item(context: PolicyContext) -> Policy:
    """The same as greedy, trained on whatever users took next, liked or not."""
    return Policy(context.greedy, params=context.next_item_params)


@policies.register("supervised")
def _supervised(context: PolicyContext) -> Policy:
    """The supervised model, retrained in the loop on the clicks that its own slates earn."""
    agent = agents.supervised(
        agents.ClickPrediction(context.recommendation, negatives=context.negatives),
        context.optimizer(),
        policy=context.slate_policy,
        index_every=context.config.learn.index_every if context.row_wise else None,
    )
    return Policy(agent, params=context.params)


@policies.register("similarity_prior")
def _similarity_prior(context: PolicyContext) -> Policy:
    """Similarity of user and item in the supervised model, times how often the log has the item beside the history."""

    def neighbours_policy(observation: Observation, items: Items) -> Array:
        scores = context.neighbours.scores(observation.history) + 1e-6
        return scores / jnp.sum(scores, axis=-1, keepdims=True)

    return Policy(agents.similarity_prior(context.recommendation, prior=neighbours_policy), params=context.params)


@policies.register("quality")
def _quality(context: PolicyContext) -> Policy:
    """The items that the log says are liked most often, the same for everybody but for what they had."""
    return Policy(context.same_for_all, params=context.quality)


@policies.register("quality_rested")
def _quality_rested(context: PolicyContext) -> Policy:
    """The same, less the topics that a user's own clicks have made boring."""
    return Policy(rested_policy(context.recommendation), params=(context.quality, context.params))


@policies.register("slate_q")
def _slate_q(context: PolicyContext) -> Policy:
    """Q-learning from the loop: shows the slate whose choices are worth most, now and later."""
    return Policy(context.slate_q, params=context.params)


@policies.register("myopic")
def _myopic(context: PolicyContext) -> Policy:
    """The same as slate_q with a discount of 0: it learns what a slate earns, and nothing beyond."""
    return Policy(context.slate_q, params=context.params, hparams=context.slate_q.hparams.replace(discount=0.0))


@policies.register("dqn")
def _dqn(context: PolicyContext) -> Policy:
    """Deep Q-learning from the loop, slot by slot: shows the items with the highest value of reward now and later."""
    return Policy(context.dqn, params=context.params)


@policies.register("dqn_myopic")
def _dqn_myopic(context: PolicyContext) -> Policy:
    """The same as dqn with a discount of 0."""
    return Policy(context.dqn, params=context.params, hparams=context.dqn.hparams.replace(discount=0.0))


@policies.register("joint")
def _joint(context: PolicyContext) -> Policy:
    """The same as dqn, with towers that also learn to predict clicks."""
    weight = context.config.learn.supervised_weight
    predicted = agents.ClickPrediction(context.recommendation, weight, context.negatives)
    return Policy(context.make_dqn(clicks=predicted), params=context.params)
