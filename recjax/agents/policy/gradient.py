"""What policy gradients have in common: the actor and the critic, advantages of rollouts, and how a loss is descended.

Agents of this family differ in how they tell the advantage of what was shown (:mod:`.advantages`) and in the loss of
its log-probability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.agents.base import Action, Agent, Update
from recjax.agents.policy.advantages import Advantage, Rewards
from recjax.agents.policy.distributions import Actor, SlateActor, Slates
from recjax.agents.state import hyper_parameters, owned, started
from recjax.catalogue import Catalogue
from recjax.fit import descend
from recjax.losses import masked_mean
from recjax.replay import Batch, Memory
from recjax.types import Array, Items, Observation, PyTree, Spec, Step, shared


@dataclasses.dataclass(frozen=True)
class PolicyRegularizer:
    """What keeps a policy from being certain too soon.

    Attributes:
      entropy: default weight of the entropy, which is exact and added to the objective.
      kl: default weight of the divergence ``KL(π || π_0)`` from the policy that it began as, exact as well, taken off
        the objective; 0 keeps no such reference.

    Raises:
      ValueError: a weight is negative.
    """

    entropy: float = 0.01
    kl: float = 0.0

    def __post_init__(self) -> None:
        for name in ("entropy", "kl"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"PolicyRegularizer.{name} is {value}; it must be at least 0.")


@struct.dataclass
class PolicyHyper:
    """Hyper-parameters of policy gradients; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      entropy: weight of the entropy.
      kl: weight of the divergence from the reference, where there is one.
      gae_lambda: λ of advantages with a critic.
      clip: ε of PPO.
    """

    discount: Array | float = 0.95
    entropy: Array | float = 0.01
    kl: Array | float = 0.0
    gae_lambda: Array | float = 0.95
    clip: Array | float = 0.2


@struct.dataclass
class PolicyState:
    """Everything that a policy gradient carries from update to update.

    Attributes:
      params: variables of the networks, ``{"actor": ..., "critic": ...}``; no critic where there is none.
      opt_state: state of the optimiser.
      hparams: :class:`PolicyHyper`.
      spec: static shape of the problem.
      reference: variables that the actor began with, None where nothing is measured from them.
      items: features of the catalogue.
    """

    params: PyTree
    opt_state: optax.OptState
    hparams: PolicyHyper
    spec: Spec = struct.field(pytree_node=False)
    reference: PyTree
    items: Items = shared()


class Samples(NamedTuple):
    """What is learned from, row by row.

    Attributes:
      observation: leaves ``[n, ...]``.
      action: ``i32[n, K]`` slates, ``f32[n, A]`` vectors.
      behaviour: ``f32[n]`` log-probability with which it was shown.
      propensity: ``f32[n, K]`` probability of each slot, None where it is not asked for.
      advantage: ``f32[n]``, or ``f32[n, K]`` where each slot has its own.
      value: ``f32[n]`` what the critic is to say of the state.
      is_learned: ``bool[n]``.
    """

    observation: Observation
    action: Array
    behaviour: Array
    propensity: Array | None
    advantage: Array
    value: Array
    is_learned: Array


Objective = Callable[[Any, Samples, PolicyHyper], Array]
"""``(distribution, samples, hparams) -> f32[n]`` the loss of each row."""


@dataclasses.dataclass(frozen=True)
class Passes:
    """How often experience is learned from.

    Attributes:
      epochs: how often each row is.
      minibatches: into how many updates an epoch is divided; rows that are left over sit it out.
    """

    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")

    def rows(self, key: Array, count: int) -> Array:
        """The rows of each update, ``i32[epochs * minibatches, n]``.

        Raises:
          ValueError: there are fewer rows than minibatches.
        """
        size = count // self.minibatches
        if not size:
            raise ValueError(f"minibatches is {self.minibatches}, but a rollout of all users has {count} steps.")
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, self.epochs))
        return orders[:, : size * self.minibatches].reshape(-1, size)


ONCE = Passes()
"""All of it, in one update."""


@dataclasses.dataclass(frozen=True)
class PolicyGradient:
    """A policy gradient.

    Attributes:
      actor: how its network becomes a policy.
      critic: a Flax module ``(observation, items) -> f32[B]``, or None.
      optimizer: an optax transformation.
      advantage: what a reward is worth.
      objective: the loss of a row.
      has_reference: whether the policy is held to what it began as.
      passes: how often experience is learned from.
      first_only: whether only the first step of a window is learned from.
    """

    actor: Actor
    critic: nn.Module | None
    optimizer: optax.GradientTransformation
    advantage: Advantage
    objective: Objective
    has_reference: bool = False
    passes: Passes = ONCE
    first_only: bool = False

    def agent(self, memory: Memory, defaults: PolicyHyper) -> Agent:
        """The agent; it rates items where it shows slates."""

        def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> PolicyState:
            return self.init(key, spec, items, hyper_parameters(hparams, defaults), params)

        def act(key: Array, state: PolicyState, observation: Observation, *, explore: bool = True) -> Action:
            found = self.distribution(state, observation)
            return found.sample(key) if explore else found.mode()

        def log_prob(state: PolicyState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
            return self.distribution(state, observation).told(slate, explore=explore)

        def scores(state: PolicyState, observation: Observation) -> tuple[PyTree, Catalogue]:
            found: Slates = self.distribution(state, observation)
            return found.choices.queries, found.choices.items

        rates = scores if isinstance(self.actor, SlateActor) else None
        return Agent(init, act, self.learn, log_prob, rates, memory, defaults)

    def init(self, key: Array, spec: Spec, items: Items, hparams: PolicyHyper, params: PyTree) -> PolicyState:
        """The state to begin with; ``params`` are variables of the actor, or of a network with its towers."""
        self.actor.check(spec, items)
        keys, seen = jax.random.split(key), spec.empty_observation((1,))
        own = {"actor": started(jax.jit(self.actor.network.init)(keys[0], seen, items), params)}
        if self.critic is not None:
            own["critic"] = jax.jit(self.critic.init)(keys[1], seen, items)
        return PolicyState(
            params=own,
            opt_state=self.optimizer.init(own),
            hparams=hparams,
            spec=spec,
            reference=owned(own["actor"]) if self.has_reference else None,
            items=owned(items),
        )

    def distribution(self, state: PolicyState, observation: Observation) -> Any:
        """What actions are drawn from."""
        return self.actor(state.params["actor"], state.spec, observation, state.items)

    def learn(self, key: Array, state: PolicyState, batch: Batch) -> Update:
        """Learns from windows of steps, each of them as often as ``passes`` say."""
        samples = self._samples(state, batch)
        if self.passes == ONCE:
            done = descend(self._loss, self.optimizer, state.params, state.opt_state, samples, state)
            return Update(dataclasses.replace(state, params=done.params, opt_state=done.opt_state), done.aux)

        def update(carry: tuple[PyTree, PyTree], rows: Array) -> tuple[tuple[PyTree, PyTree], dict[str, Array]]:
            some = jax.tree.map(lambda x: x[rows], samples)
            done = descend(self._loss, self.optimizer, *carry, some, state)
            return (done.params, done.opt_state), done.aux

        rows = self.passes.rows(key, samples.is_learned.shape[0])
        (params, opt_state), metrics = jax.lax.scan(update, (state.params, state.opt_state), rows)
        state = dataclasses.replace(state, params=params, opt_state=opt_state)
        return Update(state, jax.tree.map(jnp.mean, metrics))

    def _samples(self, state: PolicyState, batch: Batch) -> Samples:
        steps: Step = batch.experience
        valid = jnp.broadcast_to(batch.valid[:, None], steps.terminated.shape)
        rewards = Rewards.of(steps, valid, state.hparams.discount, *self._values(state, steps))
        advantage, value = self.advantage(rewards, state.hparams)
        propensity = propensities(steps) if self.first_only else None
        # Rows that do not count may hold anything, and NaN times nothing is NaN.
        known = lambda x: jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, 0)  # noqa: E731
        action, behaviour, advantage, value = map(known, (steps.slate, steps.log_prob, advantage, value))
        found = Samples(steps.observation, action, behaviour, propensity, advantage, value, valid)
        if self.first_only:
            return jax.tree.map(lambda x: x[:, 0], found)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

    def _values(self, state: PolicyState, steps: Step) -> tuple[Array, Array]:
        """What the critic says before and after each step, ``f32[B, n]``; 0 without one."""
        if self.critic is None:
            return jnp.zeros(steps.terminated.shape), jnp.zeros(steps.terminated.shape)
        critic, shape = self.critic, steps.terminated.shape

        def of(observation: Observation) -> Array:
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), observation)
            found: Any = critic.apply(state.params["critic"], flat, state.items)
            return found.reshape(shape)

        assert steps.next_observation is not None
        return of(steps.observation), of(steps.next_observation)

    def _loss(self, params: PyTree, rows: Samples, state: PolicyState) -> tuple[Array, dict[str, Array]]:
        """The mean of the objective, the regularisers and the error of the critic."""
        hparams, is_learned = state.hparams, rows.is_learned
        found = self.actor(params["actor"], state.spec, rows.observation, state.items)
        entropy = found.cross_entropy(found)
        each = self.objective(found, rows, hparams) - hparams.entropy * entropy
        metrics = {"entropy": masked_mean(entropy, is_learned)}
        if self.has_reference:
            reference = self.actor(state.reference, state.spec, rows.observation, state.items)
            divergence = found.cross_entropy(reference) - entropy
            each = each + hparams.kl * divergence
            metrics["kl"] = masked_mean(divergence, is_learned)
        loss = masked_mean(each, is_learned)
        if self.critic is not None:
            value: Any = self.critic.apply(params["critic"], rows.observation, state.items)
            metrics["value_loss"] = masked_mean(optax.losses.l2_loss(value, rows.value), is_learned)
            loss = loss + metrics["value_loss"]
        return loss, metrics | {"loss": loss}


def propensities(steps: Step) -> Array:
    """The probability with which each slot was shown, ``f32[..., K]``.

    Raises:
      ValueError: steps with several slots do not tell them.
    """
    if isinstance(steps.extras, Mapping) and "propensity" in steps.extras:
        found: Array = steps.extras["propensity"]
        return found
    if steps.slate.shape[-1] > 1:
        raise ValueError(
            f"Steps with slates of {steps.slate.shape[-1]} items do not say with what probability each slot was shown;"
            " give them as Step.extras={'propensity': f32[..., K]}, as agents that explore do."
        )
    return jnp.exp(steps.log_prob)[..., None]
