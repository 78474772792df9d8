"""DDPG and TD3: an actor that climbs what a critic says of its vectors."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from recjax import replay
from recjax.agents.base import Action, Agent, Update, register
from recjax.agents.continuous.actor_critic import (
    ActorCritic,
    ActorCriticState,
    Critics,
    Transitions,
    transitions,
)
from recjax.agents.continuous.nearest import NearestItems
from recjax.agents.state import hyper_parameters, owned
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount
from recjax.fit import Optimizer, descend
from recjax.losses import masked_mean
from recjax.replay import Batch
from recjax.types import Array, Items, Observation, PyTree, Spec

SLOWLY = TargetNetwork(tau=0.005)
"""How target networks follow by default."""


@struct.dataclass
class DeterministicHyper:
    """Hyper-parameters of DDPG and TD3; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      noise: standard deviation of exploration, in units of a vector in (-1, 1).
      target_noise: the same of vectors that value what comes next.
      noise_clip: beyond which that noise is cut.
    """

    discount: Array | float = 0.95
    noise: Array | float = 0.1
    target_noise: Array | float = 0.0
    noise_clip: Array | float = 0.5


@register("ddpg")
def ddpg(
    actor: nn.Module,
    critic: nn.Module,
    actor_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    *,
    discount: float = 0.95,
    noise: float = 0.1,
    nearest: NearestItems | None = None,
    target: TargetNetwork = SLOWLY,
) -> Agent:
    """Deep deterministic policy gradient: an actor says a vector in (-1, 1), and climbs what a critic says of it.

    Where actions are vectors (``Spec.action_size``), the vector is shown. Where they are slates, ``nearest`` says where
    items lie: the items nearest to the vector are found exactly, and those are shown that the critic values most.
    Every slot is then a transition of its own, as in :func:`recjax.agents.dqn`; the critic learns the vectors of the
    items that were shown, the actor climbs at its own vector.

    Exploration adds normal noise to the vector. The density of a vector that was cut to [-1, 1], and the probability of
    the items near it, are not told: there is no ``log_prob``, and that of an action is 0.

    Args:
      actor: a Flax module ``(observation, items) -> f32[B, A]`` of numbers in (-1, 1), such as :class:`VectorActor`.
      critic: ``(observation, vectors f32[B, M, A], items) -> f32[B, M]``, such as :class:`VectorCritic`.
      actor_optimizer: an optax transformation; clip gradients there.
      critic_optimizer: likewise.
      discount: default γ, in [0, 1].
      noise: default standard deviation of exploration, at least 0.
      nearest: see above; None where actions are vectors.
      target: how target networks follow.

    Returns:
      The agent; ``init(..., params=...)`` takes variables of the actor. ``learn`` reports ``loss`` (of the critics),
      ``actor_loss`` (less what the critic says of the actor's vectors) and ``q_value`` (mean of what was shown).

    Raises:
      ValueError: an argument outside its range; at ``init``, vectors of another size, or slates without ``nearest``.

    References:
      Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016.
    """
    critics = Critics(critic, critic_optimizer, 1, nearest)
    return _Deterministic(actor, critics, actor_optimizer, target, 1).agent(discount, noise, 0.0, 0.0)


@register("td3")
def td3(
    actor: nn.Module,
    critic: nn.Module,
    actor_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    *,
    discount: float = 0.95,
    noise: float = 0.1,
    target_noise: tuple[float, float] = (0.2, 0.5),
    delay: int = 2,
    nearest: NearestItems | None = None,
    target: TargetNetwork = SLOWLY,
) -> Agent:
    """Twin delayed DDPG: two critics of which the lesser counts, noise in the target, and an actor that learns later.

    Args:
      actor: see :func:`ddpg`.
      critic: see :func:`ddpg`; there are two of them, of other first weights.
      actor_optimizer: see :func:`ddpg`.
      critic_optimizer: see :func:`ddpg`.
      discount: see :func:`ddpg`.
      noise: see :func:`ddpg`.
      target_noise: default standard deviation of the noise of vectors that value what comes next, and where it is cut.
      delay: updates of the critics for one of the actor and of the target networks.
      nearest: see :func:`ddpg`.
      target: how target networks follow.

    Returns:
      The agent, as :func:`ddpg`.

    Raises:
      ValueError: as :func:`ddpg`.

    References:
      Fujimoto, van Hoof, Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018.
    """
    if delay < 1:
        raise ValueError(f"delay is {delay}; the actor learns at one update in so many, at least 1.")
    critics = Critics(critic, critic_optimizer, 2, nearest)
    return _Deterministic(actor, critics, actor_optimizer, target, delay).agent(discount, noise, *target_noise)


@dataclasses.dataclass(frozen=True)
class _Deterministic(ActorCritic):
    """The algorithm; its fields are arguments of :func:`td3`."""

    delay: int

    def agent(self, discount: float, noise: float, target_noise: float, noise_clip: float) -> Agent:
        check_discount(discount)
        scales = {"noise": noise, "target_noise": target_noise, "noise_clip": noise_clip}
        for name, value in scales.items():
            if value < 0:
                raise ValueError(f"{name} is {value}; it must be at least 0.")
        defaults = DeterministicHyper(float(discount), *map(float, scales.values()))

        def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> ActorCriticState:
            return self.init(key, spec, items, hyper_parameters(hparams, defaults), params)

        return Agent(init, self.act, self.learn, memory=replay.uniform(), hparams=defaults)

    def init(
        self, key: Array, spec: Spec, items: Items, hparams: DeterministicHyper, params: PyTree
    ) -> ActorCriticState:
        state = self.begin(key, spec, items, hparams, params)
        return dataclasses.replace(state, target_actor=owned(state.actor))

    def act(self, key: Array, state: ActorCriticState, observation: Observation, *, explore: bool = True) -> Action:
        vector: Any = self.network.apply(state.actor, observation, state.items)
        if explore:
            vector = jnp.clip(vector + state.hparams.noise * jax.random.normal(key, vector.shape), -1.0, 1.0)
        return self.critics.action(state, vector, jnp.zeros(len(vector)), observation)

    def learn(self, key: Array, state: ActorCriticState, batch: Batch) -> Update:
        seen = transitions("An actor-critic", state, batch)
        vector_t = self._smoothed(key, state, seen.next_observation)
        done = self.critics.learn(state, seen, self.critics.value_of_next(state, vector_t, seen.next_observation))
        state = dataclasses.replace(state, critic=done.params, critic_opt=done.opt_state, step=state.step + 1)
        # The step has no seed axis, so this stays a branch under vmap over seeds.
        state, actor_loss = jax.lax.cond(
            state.step % self.delay == 0,
            self._followed,
            lambda *held: (held[0], self._actor_loss(*held)[0]),
            state,
            seen,
        )
        return Update(state, done.aux | {"actor_loss": actor_loss})

    def _smoothed(self, key: Array, state: ActorCriticState, observation: Observation) -> Array:
        """The vectors of the target actor, with noise."""
        vector: Any = self.network.apply(state.target_actor, observation, state.items)
        hparams = state.hparams
        noise = hparams.target_noise * jax.random.normal(key, vector.shape)
        return jnp.clip(vector + jnp.clip(noise, -hparams.noise_clip, hparams.noise_clip), -1.0, 1.0)

    def _followed(self, state: ActorCriticState, seen: Transitions) -> tuple[ActorCriticState, Array]:
        """The actor after one update, and the target networks after it."""

        loss_fn = lambda params: self._actor_loss(dataclasses.replace(state, actor=params), seen)  # noqa: E731
        done = descend(loss_fn, self.optimizer, state.actor, state.actor_opt)
        follow = lambda new, old: self.target.follow(state.step // self.delay, new, old)  # noqa: E731
        followed = dataclasses.replace(
            state,
            actor=done.params,
            actor_opt=done.opt_state,
            target_actor=follow(done.params, state.target_actor),
            target_critic=follow(state.critic, state.target_critic),
        )
        return followed, done.loss

    def _actor_loss(self, state: ActorCriticState, seen: Transitions) -> tuple[Array, None]:
        """Less what the first critic says of the actor's vectors."""
        vector: Any = self.network.apply(state.actor, seen.observation, state.items)
        value = self.critics.values(state.critic, seen.observation, vector[:, None], state.items)[0, :, 0]
        return -masked_mean(value, jnp.any(seen.is_learned, axis=1)), None
