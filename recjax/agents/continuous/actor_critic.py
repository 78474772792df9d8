"""What actor-critics of vectors share: states, what is shown for a vector, and how critics learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.agents.base import Action
from recjax.agents.continuous.nearest import NearestItems
from recjax.agents.state import owned, started
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_windows
from recjax.fit import Descent, Optimizer, descend
from recjax.losses import TD_LOSSES, masked_mean, td_error
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared


@struct.dataclass
class ActorCriticState:
    """Everything that an actor-critic of vectors carries from update to update.

    Attributes:
      actor: what the actor learns: the variables of its network, and whatever else it has.
      critic: variables of the critics, leaves ``[C, ...]``.
      target_actor: the actor that says what comes next; None where that is the one that learns.
      target_critic: the critics that value it.
      actor_opt: state of the actor's optimiser.
      critic_opt: state of the critics' optimiser.
      hparams: hyper-parameters.
      spec: static shape of the problem.
      step: ``i32[]`` updates done.
      items: features of the catalogue.
      table: ``f32[N, A]`` where items lie, None where actions are vectors.
    """

    actor: PyTree
    critic: PyTree
    target_actor: PyTree
    target_critic: PyTree
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    hparams: Any
    spec: Spec = struct.field(pytree_node=False)
    step: Array = shared()
    items: Items = shared()
    table: Array | None = shared()


class Transitions(NamedTuple):
    """What was shown, as vectors, and what came of it.

    Attributes:
      observation: leaves ``[B, ...]``.
      vectors: ``f32[B, K, A]``; of an action that is a vector, ``K`` is 1.
      reward: ``f32[B, K]``.
      next_observation: leaves ``[B, ...]``.
      terminated: ``bool[B]``.
      is_learned: ``bool[B, K]``.
    """

    observation: Observation
    vectors: Array
    reward: Array
    next_observation: Observation
    terminated: Array
    is_learned: Array


@dataclasses.dataclass(frozen=True)
class Critics:
    """Several critics of one form, which see the same and begin differently, and what is shown for a vector.

    Attributes:
      network: ``(observation, vectors f32[B, M, A], items) -> f32[B, M]``.
      optimizer: an optax transformation; clip gradients there.
      count: how many there are; what is valued by several is valued by the least of them.
      nearest: which items are shown for a vector; None where the action is the vector.
    """

    network: nn.Module
    optimizer: Optimizer
    count: int
    nearest: NearestItems | None

    def table(self, spec: Spec, items: Items) -> Array | None:
        """Where items lie; None where the action is the vector.

        Raises:
          ValueError: actions are slates and it is not said where items lie, or the other way round.
        """
        if (self.nearest is None) != bool(spec.action_size):
            raise ValueError(
                f"Spec.action_size is {spec.action_size} and nearest {self.nearest}; give agents.NearestItems where"
                " actions are slates, and nearest=None where they are vectors."
            )
        return None if self.nearest is None else self.nearest.table(spec, items)

    def init(self, key: Array, spec: Spec, items: Items, size: int) -> PyTree:
        """Variables, leaves ``[C, ...]``."""
        arguments = spec.empty_observation((1,)), jnp.zeros((1, 1, size)), items
        return jax.jit(jax.vmap(lambda key: self.network.init(key, *arguments)))(jax.random.split(key, self.count))

    def values(self, params: PyTree, observation: Observation, vectors: Array, items: Items) -> Array:
        """What each critic says of vectors ``f32[B, M, A]``, ``f32[C, B, M]``."""
        found: Any = jax.vmap(lambda one: self.network.apply(one, observation, vectors, items))(params)
        return found

    def least(self, params: PyTree, observation: Observation, vectors: Array, items: Items) -> Array:
        """The least that a critic says of vectors ``f32[B, M, A]``, ``f32[B, M]``."""
        values = self.values(params, observation, vectors, items)
        # The gradient of jnp.min is 0 / 0 where a compiler rounds values twice.
        return jnp.take_along_axis(values, jnp.argmin(values, axis=0)[None], axis=0)[0]

    def shown(self, state: ActorCriticState, params: PyTree, vector: Array, observation: Observation) -> Array:
        """The slate ``i32[B, K]`` for vectors ``f32[B, A]``, valued by the critics ``params``."""
        assert self.nearest is not None
        assert state.table is not None

        def value(vectors: Array) -> Array:
            return self.least(params, observation, vectors, state.items)

        return self.nearest.slate(state.table, vector, observation, state.spec, value)

    def action(self, state: ActorCriticState, vector: Array, log_prob: Array, observation: Observation) -> Action:
        """What is shown for vectors ``f32[B, A]``; the ``log_prob`` of items is not told."""
        if self.nearest is None:
            return Action(vector, log_prob)
        slate = self.shown(state, state.critic, vector, observation)
        return Action(slate, jnp.zeros(len(slate)))

    def value_of_next(self, state: ActorCriticState, vector: Array, observation: Observation) -> Array:
        """What showing vectors ``f32[B, A]`` is worth, by the target critics: ``f32[B]``, of items that of the best."""
        if self.nearest is not None and state.table is not None:
            vector = state.table[self.shown(state, state.target_critic, vector, observation)[:, 0]]
        return self.least(state.target_critic, observation, vector[:, None], state.items)[:, 0]

    def learn(self, state: ActorCriticState, seen: Transitions, v_t: Array) -> Descent:
        """One update of all critics towards the reward and what comes next, ``v_t: f32[B]``; ``aux`` are metrics."""
        discount_t = jnp.where(seen.terminated, 0.0, state.hparams.discount)
        each_slot = lambda x: jnp.broadcast_to(x[:, None], seen.reward.shape)  # noqa: E731

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            q_tm1 = self.values(params, seen.observation, seen.vectors, state.items)
            errors = jax.vmap(td_error, in_axes=(0, None, None, None))(
                q_tm1, seen.reward, each_slot(discount_t), each_slot(v_t)
            )
            loss = jnp.mean(jax.vmap(masked_mean, in_axes=(0, None))(TD_LOSSES["mse"](errors), seen.is_learned))
            return loss, {"loss": loss, "q_value": masked_mean(q_tm1[0], seen.is_learned)}

        return descend(loss_fn, self.optimizer, state.critic, state.critic_opt)


@dataclasses.dataclass(frozen=True)
class ActorCritic:
    """What every actor-critic of vectors begins with; the fields are arguments of its agent.

    Attributes:
      network: the actor.
      critics: what its vectors are valued by.
      optimizer: of the actor.
      target: how target networks follow.
    """

    network: nn.Module
    critics: Critics
    optimizer: Optimizer
    target: TargetNetwork

    def begin(
        self,
        key: Array,
        spec: Spec,
        items: Items,
        hparams: Any,
        params: PyTree,
        learned: Callable[[PyTree], PyTree] = lambda network: network,
    ) -> ActorCriticState:
        """The state before the first update, without a target actor; ``params`` may start the actor's network.

        Args:
          key: a PRNG key.
          spec: static shape of the problem.
          items: what is known of them.
          hparams: of the agent.
          params: variables of the network, or None.
          learned: from variables of the network to all that the actor learns.
        """
        actor_key, critic_key = jax.random.split(key)
        table = self.critics.table(spec, items)
        observation = spec.empty_observation((1,))
        network = started(jax.jit(self.network.init)(actor_key, observation, items), params)
        size = jax.tree.leaves(jax.eval_shape(self.network.apply, network, observation, items))[0].shape[-1]
        check_size(size, spec, table)
        actor, critic = learned(network), self.critics.init(critic_key, spec, items, size)
        return ActorCriticState(
            actor=actor,
            critic=critic,
            target_actor=None,
            target_critic=owned(critic),
            actor_opt=self.optimizer.init(actor),
            critic_opt=self.critics.optimizer.init(critic),
            hparams=hparams,
            spec=spec,
            step=jnp.zeros((), jnp.int32),
            items=owned(items),
            table=table,
        )


def check_size(size: int, spec: Spec, table: Array | None) -> None:
    """Raises ValueError where vectors of an actor have another size than actions or items."""
    wanted = spec.action_size if table is None else table.shape[1]
    if size != wanted:
        whose = "Spec.action_size asks for" if table is None else "vectors of items have"
        raise ValueError(f"The actor gives {size} numbers, but {whose} {wanted}; give the network that size.")


def transitions(name: str, state: ActorCriticState, batch: Batch) -> Transitions:
    """The first step of each window; every slot of a slate is one of its own, with its own reward."""
    check_windows(name, batch, 1)
    step: Step = jax.tree.map(lambda x: x[:, 0], batch.experience)
    valid = batch.valid[:, None]
    if state.table is None:
        vectors, is_learned = step.slate[:, None], valid
    else:
        vectors, is_learned = state.table[jnp.maximum(step.slate, 0)], (step.slate != PAD_ID) & valid
    assert step.next_observation is not None
    return Transitions(step.observation, vectors, step.reward, step.next_observation, step.terminated, is_learned)
