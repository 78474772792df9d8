"""REINFORCE and its leave-one-out form: policy gradients by returns, without a critic."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from recjax import replay
from recjax.agents.base import Agent, register
from recjax.agents.policy.advantages import above_mean, above_others, slots_above_mean
from recjax.agents.policy.distributions import Slates, VectorActor, actor_of
from recjax.agents.policy.gradient import PolicyGradient, PolicyHyper, PolicyRegularizer, Samples
from recjax.agents.value.windows import check_discount
from recjax.losses import importance_weight, policy_gradient_loss, top_k_correction
from recjax.types import Array


@dataclasses.dataclass(frozen=True)
class TopKCorrection:
    """How REINFORCE learns slates of ``K`` items from what another policy showed.

    Every item of a slate is learned from as a draw from the softmax ``π`` over all items: its gradient
    ``∇ log π(a | s)`` is weighed by

    ``min(π(a | s) / β(a | s), cap) · K (1 - π(a | s))^(K - 1)``,

    where ``β`` is the probability with which it was shown, and by what it earned itself and what came after the slate.

    Attributes:
      cap: largest weight of how much likelier an item is now than it was; it bounds the variance.

    Raises:
      ValueError: ``cap`` is not above 0.

    References:
      Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System", WSDM 2019, whose cap is ``e³``.
    """

    cap: float = 20.0

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ValueError(f"TopKCorrection.cap is {self.cap}; it must be above 0.")

    def loss(self, found: Slates, rows: Samples, hparams: PolicyHyper) -> Array:
        """The loss of each slate, ``f32[n]``."""
        assert rows.propensity is not None
        log_prob = found.of_items(rows.action)
        weight = importance_weight(log_prob, jnp.log(rows.propensity), self.cap)
        weight = weight * top_k_correction(log_prob, rows.action.shape[-1])
        return policy_gradient_loss(log_prob, weight * rows.advantage).sum(-1)


@register("reinforce")
def reinforce(
    network: Any,
    optimizer: optax.GradientTransformation,
    *,
    length: int = 20,
    discount: float = 0.95,
    correction: TopKCorrection | None = None,
    regularizer: PolicyRegularizer = PolicyRegularizer(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Policy gradient by returns, less their mean: ``-log π(A | s) (G - mean G)``.

    **Slates.** The policy draws slot after slot, without replacement, from the softmax of the network's scores
    (Plackett-Luce), whose probability of a slate is exact; evaluated, it shows the top K. Softmax, entropy and
    gradients are passes over the catalogue that hold no score of every item for every user. Where observations have
    candidates, slates are of these. With a :class:`recjax.nn.GaussianPolicy` actions are vectors.

    **Returns** are the discounted rewards of slates to the end of the episode, or of the rollout if that is sooner:
    nothing is known of what follows. So choose ``length`` for what the discount lets count; :func:`a2c` has a critic
    for the rest.

    **Off-policy.** By default a rollout of all users is learned from once, by the policy that has acted. With a
    ``correction`` the first steps of windows are learned from instead, drawn from replay or from a log
    (:func:`recjax.loop.learn_offline`). Such steps tell the probability of each slot, ``extras["propensity"]``.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`, whose scores are logits, or a :class:`recjax.nn.GaussianPolicy`.
      optimizer: an optax transformation; clip gradients there.
      length: steps of a rollout, or of a window.
      discount: default γ, in [0, 1].
      correction: learns off-policy; None learns from rollouts.
      regularizer: weights of the entropy and of the divergence from the start.
      exclude_history: never show an item of the observed history.

    Returns:
      The agent; ``init(..., params=...)`` takes variables of the network, or of one with the same towers. ``learn``
      reports ``loss``, ``entropy`` (of the first slot), and ``kl`` where that is weighed.

    Raises:
      ValueError: an argument outside its range.

    References:
      Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
      Learning 8, 1992; Chen et al., WSDM 2019 (the correction).
    """
    check_discount(discount)
    defaults = PolicyHyper(float(discount), regularizer.entropy, regularizer.kl)
    actor, has_reference = actor_of(network, exclude_history), regularizer.kl > 0
    if correction is None:
        algorithm = PolicyGradient(actor, None, optimizer, above_mean, of_returns, has_reference)
        return algorithm.agent(replay.rollout(length), defaults)
    if isinstance(actor, VectorActor):
        raise ValueError("A TopKCorrection is of slates, but actions of a GaussianPolicy are vectors; leave it out.")
    algorithm = PolicyGradient(
        actor, None, optimizer, slots_above_mean, correction.loss, has_reference, first_only=True
    )
    return algorithm.agent(replay.uniform(window=length), defaults)


@register("rloo")
def rloo(
    network: Any,
    optimizer: optax.GradientTransformation,
    *,
    length: int = 20,
    discount: float = 0.95,
    regularizer: PolicyRegularizer = PolicyRegularizer(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """REINFORCE with the mean of all *other* users for a baseline: ``-log π(A | s) (G - mean G of others)``.

    The others are those of the same step of the rollout, from which as many rewards are left to come. They are
    independent of the slate, so the gradient is not biased, as that with a mean that holds the return itself is.
    Users are the samples; their states differ, and what differs in return by state alone stays in the variance.

    Arguments, slates and returns are those of :func:`reinforce`.

    References:
      Kool, van Hoof, Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", ICLR 2019 workshop.
    """
    check_discount(discount)
    defaults = PolicyHyper(float(discount), regularizer.entropy, regularizer.kl)
    actor = actor_of(network, exclude_history)
    algorithm = PolicyGradient(actor, None, optimizer, above_others, of_returns, regularizer.kl > 0)
    return algorithm.agent(replay.rollout(length), defaults)


def of_returns(found: Any, rows: Samples, hparams: PolicyHyper) -> Array:
    """The loss of each row, ``f32[n]``: its log-probability, weighed by its advantage."""
    return policy_gradient_loss(found.log_prob(rows.action), rows.advantage)
