"""Offline policies: the log imitated, as it is or where it turned out well."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from recjax.agents.base import Agent, register
from recjax.agents.offline.learner import Networks, OfflineAgent, OfflineHyper, Transitions
from recjax.agents.policy.distributions import Slates
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount
from recjax.losses import TD_LOSSES, masked_mean, policy_gradient_loss, td_error
from recjax.nn import check_scores
from recjax.types import Array, Observation

IQL_CAP, CRR_CAP = 100.0, 20.0
"""Largest weights of a shown item, those of the papers' programs."""


@register("bc")
def bc(network: Any, optimizer: optax.GradientTransformation, *, exclude_history: bool = True) -> Agent:
    """Behaviour cloning: the probability with which the log shows each item.

    The loss is ``-log π(a | s)`` of every shown slot, with the softmax of the scores over the whole catalogue.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`, whose scores are logits.
      optimizer: an optax transformation; clip gradients there.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.

    Returns:
      The agent, which draws slates by Plackett-Luce to explore, and else shows the likeliest items. ``learn`` reports
      ``loss``.

    References:
      Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural Computation 3,
      1991.
    """
    check_scores(network)
    return OfflineAgent({"actor": network}, optimizer, bc_loss, by_policy, False, None, exclude_history).agent(
        OfflineHyper()
    )


@register("iql")
def iql(
    network: Any,
    critic: Any,
    value: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.95,
    expectile: float = 0.7,
    temperature: float = 0.3,
    target: TargetNetwork = TargetNetwork(tau=0.01),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Implicit Q-learning: values of what is shown alone, of which the better ones count for more.

    With ``A = q'(s, a) - V(s)`` of the target critic, ``V`` descends ``|τ - 1(A < 0)| A²``, the critic the squared
    error to ``r + γ V(s')``, and the policy ``-min(exp(A / temperature), 100) log π(a | s)``, each over every shown
    slot. No item that the log does not show is ever valued.

    Args:
      network: the policy, a :class:`recjax.nn.ScoringNetwork` whose scores are logits.
      critic: a :class:`recjax.nn.ScoringNetwork`, whose scores are values.
      value: a Flax module ``(observation, items) -> f32[B]``, such as :class:`recjax.nn.StateValue`.
      optimizer: an optax transformation of all three; clip gradients there.
      discount: default γ, in [0, 1].
      expectile: default τ, in (0, 1): 0.5 values the policy of the log, more the better of what it shows.
      temperature: default of what advantages are divided by, in units of the values, above 0.
      target: how the target critic follows.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.

    Returns:
      The agent, which acts as :func:`bc`. ``learn`` reports ``loss``, ``td_loss``, ``value_loss`` and ``policy_loss``.

    Raises:
      ValueError: an argument outside its range.

    References:
      Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022.
    """
    _check(discount, temperature, network, critic)
    if not 0 < expectile < 1:
        raise ValueError(f"expectile is {expectile}; it must be in (0, 1).")
    modules = {"actor": network, "q": critic, "value": value}
    defaults = OfflineHyper(float(discount), expectile=float(expectile), temperature=float(temperature))
    return OfflineAgent(modules, optimizer, iql_loss, by_policy, False, target, exclude_history).agent(defaults)


@register("crr")
def crr(
    network: Any,
    critic: Any,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.95,
    temperature: float = 0.3,
    target: TargetNetwork = TargetNetwork(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Critic-regularised regression: the log imitated the more, the better its items are than the policy's own.

    The critic descends the squared error to ``r + γ Σ_i π(i | s') q'(s', i)``, and the policy
    ``-min(exp(A / temperature), 20) log π(a | s)`` with ``A = q(s, a) - Σ_i π(i | s) q(s, i)``, each over every shown
    slot. Both sums are exact passes over the catalogue, where the source draws four actions.

    Args:
      network: the policy, a :class:`recjax.nn.ScoringNetwork` whose scores are logits.
      critic: a :class:`recjax.nn.ScoringNetwork`, whose scores are values.
      optimizer: an optax transformation of both; clip gradients there.
      discount: default γ, in [0, 1].
      temperature: default of what advantages are divided by, in units of the values, above 0.
      target: how the target critic follows.
      exclude_history: never show an item of the observed history, nor learn from one that was shown again.

    Returns:
      The agent, which acts as :func:`bc`. ``learn`` reports ``loss``, ``td_loss`` and ``policy_loss``.

    Raises:
      ValueError: an argument outside its range.

    References:
      Wang et al., "Critic Regularized Regression", NeurIPS 2020.
    """
    _check(discount, temperature, network, critic)
    modules = {"actor": network, "q": critic}
    defaults = OfflineHyper(float(discount), temperature=float(temperature))
    return OfflineAgent(modules, optimizer, crr_loss, by_policy, False, target, exclude_history).agent(defaults)


def bc_loss(
    networks: Networks, held: Networks, log: Transitions, hparams: OfflineHyper
) -> tuple[Array, dict[str, Array]]:
    """See :func:`bc`."""
    return masked_mean(-networks.policy("actor", log.o_tm1).of_items(log.a_tm1), log.is_learned), {}


def iql_loss(
    networks: Networks, held: Networks, log: Transitions, hparams: OfflineHyper
) -> tuple[Array, dict[str, Array]]:
    """See :func:`iql`."""
    advantage = held.at("q", log.o_tm1, log.a_tm1) - networks.value("value", log.o_tm1)[:, None]
    value_loss = masked_mean(jnp.abs(hparams.expectile - (advantage < 0)) * jnp.square(advantage), log.is_learned)
    v_t = jnp.broadcast_to(networks.value("value", log.o_t)[:, None], log.r_t.shape)
    td_loss = _td_loss(networks, log, v_t)
    policy_loss = _imitated(networks, log, advantage / hparams.temperature, IQL_CAP)
    metrics = {"td_loss": td_loss, "value_loss": value_loss, "policy_loss": policy_loss}
    return td_loss + value_loss + policy_loss, metrics


def crr_loss(
    networks: Networks, held: Networks, log: Transitions, hparams: OfflineHyper
) -> tuple[Array, dict[str, Array]]:
    """See :func:`crr`."""

    def expected(valued: Networks, observation: Observation) -> Array:
        values = valued.choices("q", observation)
        found = networks.fixed().policy("actor", observation).mean((values.queries, values.items))
        return jnp.broadcast_to(found[:, None], log.r_t.shape)

    td_loss = _td_loss(networks, log, expected(held, log.o_t))
    advantage = networks.at("q", log.o_tm1, log.a_tm1) - expected(networks.fixed(), log.o_tm1)
    policy_loss = _imitated(networks, log, advantage / hparams.temperature, CRR_CAP)
    return td_loss + policy_loss, {"td_loss": td_loss, "policy_loss": policy_loss}


def by_policy(networks: Networks, observation: Observation, hparams: OfflineHyper) -> Slates:
    """What the policy draws from."""
    return networks.policy("actor", observation)


def _td_loss(networks: Networks, log: Transitions, v_t: Array) -> Array:
    """Half the mean squared TD error of the shown slots, given the values ``f32[B, K]`` of what comes next."""
    q_tm1 = networks.at("q", log.o_tm1, log.a_tm1)
    return masked_mean(TD_LOSSES["mse"](td_error(q_tm1, log.r_t, log.discount_t, v_t)), log.is_learned)


def _imitated(networks: Networks, log: Transitions, advantage: Array, cap: float) -> Array:
    """The cross-entropy of what was shown, weighed by its advantage ``f32[B, K]`` over the temperature."""
    weight = jnp.minimum(jnp.exp(jax.lax.stop_gradient(advantage)), cap)
    log_prob = networks.policy("actor", log.o_tm1).of_items(log.a_tm1)
    return masked_mean(policy_gradient_loss(log_prob, weight), log.is_learned)


def _check(discount: float, temperature: float, *networks: Any) -> None:
    check_discount(discount)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
    for network in networks:
        check_scores(network)
