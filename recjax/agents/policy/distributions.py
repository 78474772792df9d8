"""What a policy draws its actions from: slates by Plackett-Luce, and vectors by a normal distribution.

Both know the same: to draw and to say the likeliest, exact log-probabilities, entropy and cross-entropy. Those of
slates are passes over the catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.agents.base import Action
from recjax.agents.exploration import ExplorationHyper, boltzmann, greedy, is_possible, plackett_luce
from recjax.agents.slates import Selection, SlatePolicy, greedy_log_prob
from recjax.agents.state import check_problem
from recjax.catalogue import Catalogue, as_scorer, logsumexp, score_at, softmax_mean
from recjax.nn import GaussianPolicy, ScoringNetwork, catalogue_scores
from recjax.types import Array, Items, Observation, PyTree, Spec

LOG_2_PI = 1.8378770664093453


class Distribution(Protocol):
    """Of the actions for a batch of users."""

    def sample(self, key: Array) -> Action:
        """Draws."""
        ...

    def mode(self) -> Action:
        """The action as it is evaluated, which is certain."""
        ...

    def log_prob(self, action: Array) -> Array:
        """``f32[B]`` of actions that are possible; it may be differentiated."""
        ...

    def told(self, action: Array, *, explore: bool) -> Array:
        """``f32[B]`` as ``Agent.log_prob`` says it: ``-inf`` of what is never shown."""
        ...

    def cross_entropy(self, other: Any) -> Array:
        """``f32[B]`` the mean of ``-log p`` of another distribution, where actions are of this one."""
        ...


class Slates(NamedTuple):
    """Slates drawn slot by slot without replacement from the softmax of scores.

    Entropies are those of the first slot, ``-Σ_i π_i log π_i`` over the catalogue.

    Attributes:
      choices: the scores, and what is not shown.
      slots: ``K``.
    """

    choices: Selection
    slots: int

    def sample(self, key: Array) -> Action:
        """See :class:`Distribution`; ``extras["propensity"]: f32[B, K]`` of each slot given those above it."""
        queries, items, exclude, _ = self.choices
        once: Any = {"hparams": ExplorationHyper(temperature=1.0), "step": jnp.int32(0)}
        return boltzmann(key, queries, items, self.slots, exclude=exclude, **once)

    def mode(self) -> Action:
        """The slate of the largest scores."""
        queries, items, exclude, _ = self.choices
        return greedy(queries, items, self.slots, exclude=exclude)

    def log_prob(self, action: Array) -> Array:
        """See :class:`Distribution`; of whole slates in their order."""
        queries, items, exclude, _ = self.choices
        return plackett_luce(queries, items, action, exclude=exclude).sum(-1)

    def told(self, action: Array, *, explore: bool) -> Array:
        """See :class:`Distribution`."""
        if not explore:
            return greedy_log_prob(self.choices, action)
        possible = is_possible(action, as_scorer(self.choices.items).num_items, self.choices.exclude)
        return jnp.where(possible, self.log_prob(action), -jnp.inf)

    def may_show(self, action: Array) -> Array:
        """Whether each slot of slates ``i32[B, K]`` holds what may be shown, ``bool[B, K]``."""
        known = (action >= 0) & (action < as_scorer(self.choices.items).num_items)
        if self.choices.exclude is None:
            return known
        return known & ~jnp.any(action[:, :, None] == self.choices.exclude[:, None, :], axis=-1)

    def of_items(self, action: Array) -> Array:
        """The log-probability of each item of slates ``i32[B, K]`` as a draw of its own, ``f32[B, K]``.

        0, without a gradient, of what may not be shown, such as what a log has shown again.
        """
        queries, items, exclude, _ = self.choices
        possible = self.may_show(action)
        scores = score_at(queries, items, jnp.where(possible, action, 0))
        return jnp.where(possible, scores - logsumexp(queries, items, exclude=exclude)[:, None], 0.0)

    def mean(self, values: tuple[PyTree, Catalogue]) -> Array:
        """The expected value ``f32[B]`` of one item, of values that score the same choices."""
        queries, items, exclude, _ = self.choices
        return softmax_mean((queries, items), values, exclude=exclude)

    def cross_entropy(self, other: Slates) -> Array:
        """See :class:`Distribution`."""
        queries, items, exclude, _ = other.choices
        return logsumexp(queries, items, exclude=exclude) - self.mean((queries, items))


class Vectors(NamedTuple):
    """Vectors whose numbers are normal and independent.

    Attributes:
      means: ``f32[B, A]``.
      log_std: ``f32[A]`` logarithms of the standard deviations.
    """

    means: Array
    log_std: Array

    def sample(self, key: Array) -> Action:
        """See :class:`Distribution`."""
        action = self.means + jnp.exp(self.log_std)[None] * jax.random.normal(key, self.means.shape)
        return Action(action, self.log_prob(action))

    def mode(self) -> Action:
        """The means."""
        return Action(self.means, jnp.zeros(self.means.shape[0]))

    def log_prob(self, action: Array) -> Array:
        """See :class:`Distribution`; a log-density."""
        z = (action - self.means) * jnp.exp(-self.log_std)[None]
        return -jnp.sum(0.5 * (jnp.square(z) + LOG_2_PI) + self.log_std[None], axis=-1)

    def told(self, action: Array, *, explore: bool) -> Array:
        """See :class:`Distribution`."""
        if explore:
            return self.log_prob(action)
        return jnp.where(jnp.all(action == self.means, axis=-1), 0.0, -jnp.inf)

    def cross_entropy(self, other: Vectors) -> Array:
        """See :class:`Distribution`."""
        squares = jnp.exp(2 * self.log_std)[None] + jnp.square(self.means - other.means)
        each = squares * jnp.exp(-2 * other.log_std)[None]
        return jnp.sum(0.5 * (each + LOG_2_PI) + other.log_std[None], axis=-1)


class Actor(Protocol):
    """How a network becomes a policy."""

    @property
    def network(self) -> nn.Module:
        """Whose variables a policy has."""
        ...

    def check(self, spec: Spec, items: Items) -> None:
        """Raises ValueError where it does not fit a problem."""
        ...

    def __call__(self, params: PyTree, spec: Spec, observation: Observation, items: Items) -> Any:
        """The :class:`Distribution` for a batch of users."""
        ...


@dataclasses.dataclass(frozen=True)
class SlateActor:
    """A :class:`recjax.nn.ScoringNetwork` whose scores are logits, over the catalogue or the candidates."""

    network: ScoringNetwork
    exclude_history: bool

    def check(self, spec: Spec, items: Items) -> None:
        """See :class:`Actor`."""
        check_problem(spec, items, self.exclude_history, self.network)

    def __call__(self, params: PyTree, spec: Spec, observation: Observation, items: Items) -> Slates:
        """See :class:`Actor`."""
        return Slates(self.choices(self.network, params, spec, observation, items), spec.slate_size)

    def choices(
        self, network: ScoringNetwork, params: PyTree, spec: Spec, observation: Observation, items: Items
    ) -> Selection:
        """What is chosen from, by the scores of any network."""
        scores = catalogue_scores(network, params, observation, items)
        return SlatePolicy(exclude_history=self.exclude_history).choices(spec, observation, *scores)


@dataclasses.dataclass(frozen=True)
class VectorActor:
    """A :class:`recjax.nn.GaussianPolicy`, for problems whose actions are vectors."""

    network: GaussianPolicy

    def check(self, spec: Spec, items: Items) -> None:
        """See :class:`Actor`."""
        if spec.action_size != self.network.size:
            raise ValueError(
                f"GaussianPolicy.size is {self.network.size}, but Spec.action_size is {spec.action_size}; give the"
                " network that size, or a nn.ScoringNetwork where actions are slates."
            )

    def __call__(self, params: PyTree, spec: Spec, observation: Observation, items: Items) -> Vectors:
        """See :class:`Actor`."""
        found: Any = self.network.apply(params, observation, items)
        return Vectors(*found)


def actor_of(network: Any, exclude_history: bool) -> SlateActor | VectorActor:
    """How a network becomes a policy.

    Raises:
      ValueError: it is neither a :class:`recjax.nn.ScoringNetwork` nor a :class:`recjax.nn.GaussianPolicy`.
    """
    if isinstance(network, GaussianPolicy):
        return VectorActor(network)
    if not isinstance(network, ScoringNetwork):
        raise ValueError(
            f"{type(network).__name__} is no policy; give a nn.ScoringNetwork, whose scores are the logits of items,"
            " or a nn.GaussianPolicy where actions are vectors."
        )
    return SlateActor(network, exclude_history)
