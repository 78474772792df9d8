"""Soft actor-critic: a squashed normal policy that is worth what it earns and how random it stays."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from recjax import replay
from recjax.agents.base import Action, Agent, Update, register
from recjax.agents.continuous.actor_critic import ActorCritic, ActorCriticState, Critics, transitions
from recjax.agents.continuous.deterministic import SLOWLY
from recjax.agents.continuous.losses import drawn_log_prob, squashed, squashed_log_prob, temperature_loss
from recjax.agents.continuous.nearest import NearestItems
from recjax.agents.state import hyper_parameters
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount
from recjax.fit import Optimizer, descend
from recjax.losses import masked_mean
from recjax.replay import Batch
from recjax.types import Array, Items, Observation, PyTree, Spec


@struct.dataclass
class SACHyper:
    """Hyper-parameters of SAC; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      temperature: α at first, above 0.
      entropy: towards which the entropy of the policy is driven, of each number of a vector.
    """

    discount: Array | float = 0.95
    temperature: Array | float = 0.1
    entropy: Array | float = -1.0


@register("sac")
def sac(
    actor: nn.Module,
    critic: nn.Module,
    actor_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    *,
    discount: float = 0.95,
    temperature: float = 0.1,
    entropy: float = -1.0,
    nearest: NearestItems | None = None,
    target: TargetNetwork = SLOWLY,
) -> Agent:
    """Soft actor-critic: vectors are drawn from a squashed normal policy whose entropy counts as reward.

    Two critics of which the lesser counts; the temperature α, which weighs entropy against reward, is learned with the
    actor, so that the entropy of the policy comes to ``entropy`` times the size of a vector. What is shown for a vector
    is that of :func:`ddpg`. Without exploration the middle of the policy is shown.

    Args:
      actor: ``(observation, items) -> (mean, log_std)``, ``f32[B, A]`` each, such as :class:`GaussianActor`.
      critic: see :func:`ddpg`; there are two of them, of other first weights.
      actor_optimizer: see :func:`ddpg`; of the temperature, too.
      critic_optimizer: see :func:`ddpg`.
      discount: default γ, in [0, 1].
      temperature: default α at first, above 0.
      entropy: default target, of each number of a vector.
      nearest: see :func:`ddpg`.
      target: how the target critics follow.

    Returns:
      The agent, as :func:`ddpg`; ``learn`` reports ``temperature`` and ``entropy`` as well. Where actions are vectors,
      ``log_prob`` is the exact log-density; that of the middle, shown without exploration, is 0. Where they are slates
      there is none.

    Raises:
      ValueError: as :func:`ddpg`.

    References:
      Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, 2018.
    """
    check_discount(discount)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
    algorithm = _SAC(actor, Critics(critic, critic_optimizer, 2, nearest), actor_optimizer, target)
    defaults = SACHyper(float(discount), float(temperature), float(entropy))

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> ActorCriticState:
        return algorithm.init(key, spec, items, hyper_parameters(hparams, defaults), params)

    log_prob = algorithm.log_prob if nearest is None else None
    return Agent(init, algorithm.act, algorithm.learn, log_prob, memory=replay.uniform(), hparams=defaults)


class _SAC(ActorCritic):
    """The algorithm; its fields are arguments of :func:`sac`."""

    def init(self, key: Array, spec: Spec, items: Items, hparams: SACHyper, params: PyTree) -> ActorCriticState:
        wanted = lambda network: {"network": network, "log_temperature": jnp.log(hparams.temperature)}  # noqa: E731
        return self.begin(key, spec, items, hparams, params, wanted)

    def act(self, key: Array, state: ActorCriticState, observation: Observation, *, explore: bool = True) -> Action:
        mean, log_std = self._policy(state.actor, state.items, observation)
        if explore:
            vector = squashed(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))
            log_prob = squashed_log_prob(vector, mean, log_std)
        else:
            vector, log_prob = jnp.tanh(mean), jnp.zeros(len(mean))
        return self.critics.action(state, vector, log_prob, observation)

    def log_prob(
        self, state: ActorCriticState, observation: Observation, slate: Array, *, explore: bool = True
    ) -> Array:
        mean, log_std = self._policy(state.actor, state.items, observation)
        if explore:
            return squashed_log_prob(slate, mean, log_std)
        return jnp.where(jnp.all(slate == jnp.tanh(mean), axis=-1), 0.0, -jnp.inf)

    def learn(self, key: Array, state: ActorCriticState, batch: Batch) -> Update:
        next_key, actor_key = jax.random.split(key)
        seen = transitions("SAC", state, batch)
        vector_t, log_prob_t = self._draw(next_key, state.actor, state.items, seen.next_observation)
        v_t = self.critics.value_of_next(state, vector_t, seen.next_observation)
        v_t = v_t - jnp.exp(state.actor["log_temperature"]) * log_prob_t
        critics = self.critics.learn(state, seen, v_t)

        def loss_fn(actor: PyTree) -> tuple[Array, tuple[Array, Array]]:
            vector, log_prob = self._draw(actor_key, actor, state.items, seen.observation)
            value = self.critics.least(critics.params, seen.observation, vector[:, None], state.items)
            temperature = jax.lax.stop_gradient(jnp.exp(actor["log_temperature"]))
            worth = temperature * log_prob - value[:, 0]
            wanted = state.hparams.entropy * vector.shape[-1]
            balance = temperature_loss(actor["log_temperature"], log_prob, wanted)
            is_learned = jnp.any(seen.is_learned, axis=1)
            aux = masked_mean(worth, is_learned), -masked_mean(log_prob, is_learned)
            return masked_mean(worth + balance, is_learned), aux

        done = descend(loss_fn, self.optimizer, state.actor, state.actor_opt)
        step = state.step + 1
        learned = dataclasses.replace(
            state,
            actor=done.params,
            critic=critics.params,
            target_critic=self.target.follow(step, critics.params, state.target_critic),
            actor_opt=done.opt_state,
            critic_opt=critics.opt_state,
            step=step,
        )
        actor_loss, entropy = done.aux
        temperature = jnp.exp(done.params["log_temperature"])
        return Update(learned, critics.aux | {"actor_loss": actor_loss, "entropy": entropy, "temperature": temperature})

    def _policy(self, actor: PyTree, items: Items, observation: Observation) -> tuple[Array, Array]:
        found: Any = self.network.apply(actor["network"], observation, items)
        return found

    def _draw(self, key: Array, actor: PyTree, items: Items, observation: Observation) -> tuple[Array, Array]:
        """Vectors ``f32[B, A]`` and their log-densities ``f32[B]``, with gradients through both."""
        mean, log_std = self._policy(actor, items, observation)
        u = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        return jnp.tanh(u), drawn_log_prob(u, mean, log_std)
