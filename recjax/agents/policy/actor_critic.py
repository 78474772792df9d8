"""Actor-critics on rollouts: A2C and PPO."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import optax

from recjax import replay
from recjax.agents.base import Agent, register
from recjax.agents.policy.advantages import above_value, normalized_above_value
from recjax.agents.policy.distributions import actor_of
from recjax.agents.policy.gradient import Passes, PolicyGradient, PolicyHyper, PolicyRegularizer, Samples
from recjax.agents.policy.reinforce import of_returns
from recjax.agents.value.windows import check_discount
from recjax.losses import clipped_surrogate
from recjax.types import Array


@dataclasses.dataclass(frozen=True)
class Proximal:
    """How far PPO goes with a rollout.

    Attributes:
      clip: default ε: ratios of probabilities beyond ``1 ± ε`` are not followed further.
      epochs: how often each step is learned from.
      minibatches: into how many updates an epoch is divided.

    Raises:
      ValueError: a number outside its range.
    """

    clip: float = 0.2
    epochs: int = 4
    minibatches: int = 4

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"Proximal.clip is {self.clip}; it must be above 0.")
        Passes(self.epochs, self.minibatches)


@register("a2c")
def a2c(
    network: Any,
    critic: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    length: int = 5,
    discount: float = 0.95,
    gae_lambda: float = 1.0,
    regularizer: PolicyRegularizer = PolicyRegularizer(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Advantage actor-critic: ``-log π(A | s)`` times the advantage over the critic's value of the state.

    Advantages are generalised ones (:func:`recjax.losses.generalized_advantages`); those of a λ of 1 are the n-step
    returns of the original, with the critic's value of what follows the rollout. A user who has left is worth nothing;
    one whose episode was cut goes on unseen, at the critic's value. The critic learns the λ-returns by half the squared
    error, with parameters of its own.

    Slates are those of :func:`recjax.agents.reinforce`.

    Args:
      network: see :func:`recjax.agents.reinforce`.
      critic: a Flax module ``(observation, items) -> f32[B]``, such as :class:`recjax.nn.StateValue`.
      optimizer: an optax transformation of both; clip gradients there.
      length: steps of a rollout; every user's are learned from once, all together.
      discount: default γ, in [0, 1].
      gae_lambda: default λ, in [0, 1].
      regularizer: weights of the entropy and of the divergence from the start.
      exclude_history: never show an item of the observed history.

    Returns:
      The agent. ``learn`` reports ``loss``, ``value_loss`` (a part of it), ``entropy`` (of the first slot), and ``kl``
      where that is weighed.

    Raises:
      ValueError: an argument outside its range.

    References:
      Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016.
    """
    _check(discount, gae_lambda)
    defaults = PolicyHyper(float(discount), regularizer.entropy, regularizer.kl, float(gae_lambda))
    actor = actor_of(network, exclude_history)
    algorithm = PolicyGradient(actor, critic, optimizer, above_value, of_returns, regularizer.kl > 0)
    return algorithm.agent(replay.rollout(length), defaults)


@register("ppo")
def ppo(
    network: Any,
    critic: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    length: int = 16,
    discount: float = 0.95,
    gae_lambda: float = 0.95,
    proximal: Proximal = Proximal(),
    regularizer: PolicyRegularizer = PolicyRegularizer(),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Proximal policy optimisation: several updates by each rollout, none of which goes far from what acted.

    The loss is ``-min(ratio A, clip(ratio, 1 - ε, 1 + ε) A)`` with the ratio of the exact probabilities of the whole
    slate, now and when it was shown, and generalised advantages with a mean of 0 and a standard deviation of 1 over the
    rollout. All epochs over its minibatches are one call of ``learn``. Critic, slates and arguments are those of
    :func:`a2c`, but for:

    Args:
      network: see :func:`a2c`.
      critic: see :func:`a2c`.
      optimizer: see :func:`a2c`.
      length: steps of a rollout.
      discount: see :func:`a2c`.
      gae_lambda: see :func:`a2c`.
      proximal: the clip, and how often a rollout is learned from.
      regularizer: see :func:`a2c`.
      exclude_history: see :func:`a2c`.

    Returns:
      The agent. ``learn`` reports means over its updates, of what :func:`a2c` reports.

    Raises:
      ValueError: an argument outside its range.

    References:
      Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, 2017.
    """
    _check(discount, gae_lambda)
    regular = regularizer.entropy, regularizer.kl
    defaults = PolicyHyper(float(discount), *regular, float(gae_lambda), float(proximal.clip))
    algorithm = PolicyGradient(
        actor_of(network, exclude_history),
        critic,
        optimizer,
        normalized_above_value,
        clipped,
        regularizer.kl > 0,
        Passes(proximal.epochs, proximal.minibatches),
    )
    return algorithm.agent(replay.rollout(length), defaults)


def clipped(found: Any, rows: Samples, hparams: PolicyHyper) -> Array:
    """The clipped loss of each row, ``f32[n]``."""
    return clipped_surrogate(found.log_prob(rows.action) - rows.behaviour, rows.advantage, hparams.clip)


def _check(discount: float, gae_lambda: float) -> None:
    check_discount(discount)
    if not 0 <= gae_lambda <= 1:
        raise ValueError(f"gae_lambda is {gae_lambda}; it must be in [0, 1].")
