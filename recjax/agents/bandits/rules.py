"""The rules by which bandits explore: by chance, by optimism, by posterior sampling, by the gap to the best."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from recjax.agents.bandits import inverse_gap
from recjax.agents.bandits.bandit import Bandit, BanditState
from recjax.agents.bandits.regressions import Estimate, Means, Regression
from recjax.agents.base import Action, Agent, register
from recjax.agents.exploration import greedy, is_possible
from recjax.agents.slates import Selection, SlatePolicy, greedy_log_prob
from recjax.agents.uniform import num_allowed
from recjax.catalogue import as_scorer, top_k
from recjax.prng import threefry
from recjax.types import Array, Observation


@register("epsilon_greedy_bandit")
def epsilon_greedy_bandit(
    regression: Regression,
    *,
    regularisation: float = 1.0,
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
) -> Agent:
    """The items that are said to earn the most, explored without asking how sure that is: the control of all bandits.

    With :class:`Means` it is the ε-greedy bandit of the textbooks.

    Args:
      regression: what is learned, see :func:`ucb`.
      regularisation: default λ of ridge regression, above 0.
      policy: how slates follow from expected rewards.

    Returns:
      The agent, as :func:`ucb`.

    Raises:
      ValueError: an argument outside its range.
    """
    bandit = Bandit(regression, policy)
    return bandit.agent(*policy.functions(bandit.select), regularisation=regularisation)


@register("ucb")
def ucb(
    regression: Regression, *, width: float = 1.0, regularisation: float = 1.0, exclude_history: bool = True
) -> Agent:
    """Optimism: the items that earn the most if all is as good as it may be, ``mean + width * deviation``.

    With :class:`Means` it is UCB1, with :class:`Linear` LinUCB: one model with ``Linear(item_features)``, one for each
    user with ``Linear(item_features, user_models(...))``, and one for each item, the "disjoint" form, with
    ``Linear(context_features, item_models())``. A slate is the K items with the largest bounds; every slot that was
    shown teaches its reward.

    All users of a step act on what was known before it. Every step is learned from once, and only once the loop
    learns: give ``LoopConfig(learn_start=0)``.

    Args:
      regression: what is learned: :class:`Means`, :class:`Linear` or :class:`NeuralLinear`.
      width: default number of deviations, at least 0; 1 is UCB1's own for rewards in [0, 1].
      regularisation: default λ of ridge regression, above 0.
      exclude_history: never show an item of the observed history.

    Returns:
      The agent. With ``explore=False`` it shows the largest means. ``learn`` reports ``loss``, the mean squared error
      of what was expected before.

    Raises:
      ValueError: an argument outside its range; at ``init``, features that do not tell items apart.

    References:
      Auer et al., "Finite-time Analysis of the Multiarmed Bandit Problem", Machine Learning 47, 2002; Li et al., "A
      Contextual-Bandit Approach to Personalized News Article Recommendation", WWW 2010.
    """
    bandit = Bandit(regression, SlatePolicy(exclude_history=exclude_history))

    def bounds(state: BanditState, observation: Observation) -> Selection:
        rate = lambda estimate, noise, choices: estimate.mean + state.hparams.width * estimate.deviation  # noqa: E731
        return bandit.select(state, observation, rate)

    def act(key: Array, state: BanditState, observation: Observation, *, explore: bool = True) -> Action:
        del key
        return best_of((bounds if explore else bandit.select)(state, observation), state)

    def log_prob(state: BanditState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        return greedy_log_prob((bounds if explore else bandit.select)(state, observation), slate)

    return bandit.agent(act, log_prob, width=width, regularisation=regularisation)


@register("thompson")
def thompson(
    regression: Regression, *, width: float = 1.0, regularisation: float = 1.0, exclude_history: bool = True
) -> Agent:
    """Thompson sampling: each user is shown what is best under a model drawn from those that may be true.

    With :class:`Linear` it is linear Thompson sampling, with :class:`NeuralLinear` the neural-linear bandit. What is
    drawn is ``θ + width * S ε`` with ``ε ~ N(0, I)``, for each user and model. The probability of a slate is an
    integral without a closed form: there is no ``log_prob``, and that of an action is 0.

    Args:
      regression: see :func:`ucb`; not :class:`Means`, whose items have no deviation before they were shown.
      width: default standard deviation of the noise of rewards, at least 0.
      regularisation: see :func:`ucb`.
      exclude_history: see :func:`ucb`.

    Returns:
      The agent, as :func:`ucb`.

    Raises:
      ValueError: an argument outside its range; at ``init``, as :func:`ucb`.

    References:
      Agrawal, Goyal, "Thompson Sampling for Contextual Bandits with Linear Payoffs", ICML 2013; Riquelme, Tucker,
      Snoek, "Deep Bayesian Bandits Showdown", ICLR 2018.
    """
    if isinstance(regression, Means):
        raise ValueError(
            "Thompson sampling of Means has nothing to draw from before an item was shown; use"
            " Linear(context_features, item_models()), which is a mean for each item where there is no context."
        )
    bandit = Bandit(regression, SlatePolicy(exclude_history=exclude_history))
    draw, deviate = (jax.random.bits, _of_each_item) if regression.per_item else (jax.random.normal, _of_one_model)

    def act(key: Array, state: BanditState, observation: Observation, *, explore: bool = True) -> Action:
        if not explore:
            return Action(best_of(bandit.select(state, observation), state).slate, jnp.zeros(len(observation.history)))

        def rate(estimate: Estimate, noise: Array, choices: Array) -> Array:
            return estimate.mean + state.hparams.width * deviate(estimate, noise, choices)

        numbers = 2 if regression.per_item else regression.width(state.model)
        noise = draw(key, (len(observation.history), numbers))
        chosen = bandit.select(state, observation, rate, noise)
        _, slate = top_k(chosen.queries, chosen.items, state.spec.slate_size, exclude=chosen.exclude)
        return Action(slate, jnp.zeros(len(slate)))

    return bandit.agent(act, None, width=width, regularisation=regularisation)


def _of_one_model(estimate: Estimate, noise: Array, choices: Array) -> Array:
    """``φᵀ S ε``, with the same ``ε`` for all items of a user."""
    del choices
    return jnp.sum(estimate.spread * noise[:, None], axis=-1)


def _of_each_item(estimate: Estimate, noise: Array, choices: Array) -> Array:
    """The deviation times a normal number of user and item, which are the same in whatever block they are computed."""
    key = (noise[:, :1], noise[:, 1:2])
    counter = choices.astype(jnp.uint32)
    radius, angle = ((bits >> 8) * 2.0**-24 for bits in threefry(key, (jnp.zeros_like(counter), counter)))
    normal = jnp.sqrt(-2 * jnp.log1p(-radius)) * jnp.cos(2 * jnp.pi * angle)
    return estimate.deviation * normal


@register("square_cb")
def square_cb(
    regression: Regression, *, gamma: float = 10.0, regularisation: float = 1.0, exclude_history: bool = True
) -> Agent:
    """SquareCB: an item is shown the more rarely, the worse it is said to be (inverse gap weighting).

    It needs to know what is expected, not how sure that is, and its probabilities are exact. The γ of step ``t`` is
    ``gamma * sqrt(A t)`` with ``A`` items to choose from: the theory has ``sqrt(A T / R)``, with ``R`` what the
    regression loses in all.

    Args:
      regression: what is learned, see :func:`ucb`.
      gamma: default of the factor, at least 0; larger ones explore less.
      regularisation: see :func:`ucb`.
      exclude_history: see :func:`ucb`.

    Returns:
      The agent, as :func:`ucb`.

    Raises:
      ValueError: an argument outside its range; at ``init``, as :func:`ucb`.

    References:
      Foster, Rakhlin, "Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles", ICML 2020.
    """
    bandit = Bandit(regression, SlatePolicy(exclude_history=exclude_history))

    def weighting(state: BanditState, chosen: Selection, users: int) -> dict[str, Any]:
        items = num_allowed(as_scorer(chosen.items).num_items, users, chosen.exclude)
        return {"gamma": state.hparams.gamma * jnp.sqrt(items * (state.acted + 1.0)), "exclude": chosen.exclude}

    def act(key: Array, state: BanditState, observation: Observation, *, explore: bool = True) -> Action:
        chosen = bandit.select(state, observation)
        if not explore:
            return best_of(chosen, state)
        options = weighting(state, chosen, len(observation.history))
        return inverse_gap.draw(key, chosen.queries, chosen.items, state.spec.slate_size, **options)

    def log_prob(state: BanditState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        chosen = bandit.select(state, observation)
        if not explore:
            return greedy_log_prob(chosen, slate)
        options = weighting(state, chosen, len(slate))
        each = inverse_gap.slot_log_probs(chosen.queries, chosen.items, slate, **options)
        possible = is_possible(slate, as_scorer(chosen.items).num_items, chosen.exclude)
        return jnp.where(possible, jnp.sum(each, axis=1), -jnp.inf)

    return bandit.agent(act, log_prob, gamma=gamma, regularisation=regularisation)


def best_of(chosen: Selection, state: BanditState) -> Action:
    """The slate that is rated best, without chance."""
    return greedy(chosen.queries, chosen.items, state.spec.slate_size, exclude=chosen.exclude)
