"""Soft actor-critic of items: off-policy, with exact expectations over the catalogue."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax import replay
from recjax.agents.base import Action, Agent, Update, register
from recjax.agents.policy.distributions import SlateActor, Slates
from recjax.agents.slates import Selection
from recjax.agents.state import hyper_parameters, owned, started
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount, check_loss, check_windows, seen_after
from recjax.catalogue import BlockScorer, Catalogue, as_scorer, block_size_of
from recjax.fit import descend
from recjax.losses import TD_LOSSES, masked_mean, td_error
from recjax.nn import ScoringNetwork, check_scores
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared, shown_items


@struct.dataclass
class SACDiscreteHyper:
    """Hyper-parameters of :func:`sac_discrete`; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      entropy_share: the entropy that the temperature is driven to, as a share of that of uniform choice.
    """

    discount: Array | float = 0.95
    entropy_share: Array | float = 0.3


@struct.dataclass
class SACDiscreteState:
    """Everything that soft actor-critic carries from update to update.

    Attributes:
      params: ``{"actor": ..., "critics": (..., ...), "log_temperature": f32[]}``.
      target_critics: variables of the two critics that value what comes next.
      opt_state: state of the optimiser.
      hparams: :class:`SACDiscreteHyper`.
      spec: static shape of the problem.
      step: ``i32[]`` updates done.
      items: features of the catalogue.
    """

    params: PyTree
    target_critics: PyTree
    opt_state: optax.OptState
    hparams: SACDiscreteHyper
    spec: Spec = struct.field(pytree_node=False)
    step: Array = shared()
    items: Items = shared()


@register("sac_discrete")
def sac_discrete(
    network: Any,
    critic: Any,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.95,
    entropy_share: float = 0.3,
    temperature: float = 0.1,
    loss: str = "huber",
    target: TargetNetwork = TargetNetwork(tau=0.01),  # noqa: B008 (frozen)
    exclude_history: bool = True,
) -> Agent:
    """Soft actor-critic where actions are items: both expectations over the policy are exact.

    With ``π`` the softmax of the actor's scores, two critics ``q`` and a temperature ``α``, a state is worth
    ``V(s) = Σ_i π_i min(q_1, q_2)_i + α H(π)``, every shown slot is learned from ``r_j + γ V(s')`` by both critics, and
    the actor raises ``V``. The temperature falls where the entropy is above its share, and rises where it is below.
    The sums are passes over the catalogue that hold no array of every item for every user.

    Slates are drawn from ``π`` slot by slot without replacement, and learned slot by slot, as those of
    :func:`recjax.agents.dqn`, with the assumptions told there. Slots that hold ``PAD_ID`` are not learned from.

    Args:
      network: the actor, a :class:`recjax.nn.ScoringNetwork` whose scores are logits.
      critic: a :class:`recjax.nn.ScoringNetwork` whose scores are values; there are two with parameters of their own.
      optimizer: an optax transformation of all three and the temperature; clip gradients there.
      discount: default γ, in [0, 1].
      entropy_share: default of the entropy to keep, as a share of ``log N`` (or of the logarithm of the candidates), in
        [0, 1]. The source's .98 leaves hardly anything to a policy over a catalogue.
      temperature: α at the start, in units of the values, above 0.
      loss: of the TD error, a name in :data:`recjax.losses.TD_LOSSES`.
      target: how the target critics follow.
      exclude_history: never show an item of the observed history.

    Returns:
      The agent; ``init(..., params=...)`` takes variables of the actor, or of one with the same towers. ``learn``
      reports ``loss`` (of both critics), ``actor_loss``, ``entropy``, ``temperature``, and ``q_value`` (mean of the
      shown items).

    Raises:
      ValueError: an argument outside its range.

    References:
      Christodoulou, "Soft Actor-Critic for Discrete Action Settings", arXiv 1910.07207, 2019.
    """
    check_discount(discount)
    algorithm = _SAC(SlateActor(network, exclude_history), critic, optimizer, loss, target, temperature)
    if not 0 <= entropy_share <= 1:
        raise ValueError(f"entropy_share is {entropy_share}; it must be in [0, 1].")
    defaults = SACDiscreteHyper(float(discount), float(entropy_share))

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> SACDiscreteState:
        return algorithm.init(key, spec, items, hyper_parameters(hparams, defaults), params)

    def act(key: Array, state: SACDiscreteState, observation: Observation, *, explore: bool = True) -> Action:
        found = algorithm.policy(state.params, state, observation)
        return found.sample(key) if explore else found.mode()

    def log_prob(state: SACDiscreteState, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        return algorithm.policy(state.params, state, observation).told(slate, explore=explore)

    def scores(state: SACDiscreteState, observation: Observation) -> tuple[PyTree, Catalogue]:
        found = algorithm.policy(state.params, state, observation)
        return found.choices.queries, found.choices.items

    return Agent(init, act, algorithm.learn, log_prob, scores, replay.uniform(), defaults)


@dataclasses.dataclass(frozen=True)
class _SAC:
    """The algorithm; its fields are arguments of :func:`sac_discrete`."""

    actor: SlateActor
    critic: ScoringNetwork
    optimizer: optax.GradientTransformation
    loss: str
    target: TargetNetwork
    temperature: float

    def __post_init__(self) -> None:
        check_scores(self.actor.network)
        check_scores(self.critic)
        check_loss(self.loss)
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0.")

    def init(self, key: Array, spec: Spec, items: Items, hparams: SACDiscreteHyper, params: PyTree) -> SACDiscreteState:
        self.actor.check(spec, items)
        keys, seen = jax.random.split(key, 3), spec.empty_observation((1,))
        start = jax.jit(self.critic.init)
        own = {
            "actor": started(jax.jit(self.actor.network.init)(keys[0], seen, items), params),
            "critics": (start(keys[1], seen, items), start(keys[2], seen, items)),
            "log_temperature": jnp.float32(math.log(self.temperature)),
        }
        return SACDiscreteState(
            params=own,
            target_critics=owned(own["critics"]),
            opt_state=self.optimizer.init(own),
            hparams=hparams,
            spec=spec,
            step=jnp.zeros((), jnp.int32),
            items=owned(items),
        )

    def policy(self, params: PyTree, state: SACDiscreteState, observation: Observation) -> Slates:
        return self.actor(params["actor"], state.spec, observation, state.items)

    def learn(self, key: Array, state: SACDiscreteState, batch: Batch) -> Update:
        del key
        check_windows("Soft actor-critic", batch, 1)
        first: Step = jax.tree.map(lambda x: x[:, 0], batch.experience)
        target = self._target(state, batch.experience)
        shown = shown_items(first.slate, first.observation)
        is_learned = (shown != PAD_ID) & batch.valid[:, None]

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            critic_loss, q_tm1 = self._critic_loss(params, state, first, target, is_learned)
            actor_loss, metrics = self._actor_loss(params, state, first.observation, batch.valid)
            metrics |= {"loss": critic_loss, "q_value": masked_mean(q_tm1, is_learned)}
            return critic_loss + actor_loss, metrics

        done = descend(loss_fn, self.optimizer, state.params, state.opt_state)
        step = state.step + 1
        followed = self.target.follow(step, done.params["critics"], state.target_critics)
        changed: dict[str, Any] = {"params": done.params, "target_critics": followed, "opt_state": done.opt_state}
        return Update(dataclasses.replace(state, step=step, **changed), done.aux)

    def _target(self, state: SACDiscreteState, steps: Step) -> tuple[Array, Array, Array]:
        """``(r_t, discount_t, v_t)`` that every slot of a step is learned from, ``f32[B, K]`` each."""
        o_t = seen_after(steps, jnp.zeros(steps.terminated.shape[0], jnp.int32))
        found = self.policy(state.params, state, o_t)
        temperature = jnp.exp(state.params["log_temperature"])
        v_t = found.mean(self._smaller(state.target_critics, state, o_t)) + temperature * found.cross_entropy(found)
        discount_t = jnp.where(steps.terminated[:, 0], 0.0, state.hparams.discount)
        reward = steps.reward[:, 0]
        each_slot = lambda x: jnp.broadcast_to(x[:, None], reward.shape)  # noqa: E731
        return reward, each_slot(discount_t), each_slot(v_t)

    def _critic_loss(
        self,
        params: PyTree,
        state: SACDiscreteState,
        first: Step,
        target: tuple[Array, Array, Array],
        is_learned: Array,
    ) -> tuple[Array, Array]:
        """The summed TD loss of both critics, and what the first says of the shown items, ``f32[B, K]``."""
        shown = jnp.maximum(shown_items(first.slate, first.observation), 0)
        values: list[Array] = [
            self.critic.apply(each, first.observation, shown, state.items, method="at")  # type: ignore[misc]
            for each in params["critics"]
        ]
        losses = [TD_LOSSES[self.loss](td_error(q_tm1, *target)) for q_tm1 in values]
        return sum((masked_mean(each, is_learned) for each in losses), jnp.float32(0.0)), values[0]

    def _actor_loss(
        self, params: PyTree, state: SACDiscreteState, observation: Observation, valid: Array
    ) -> tuple[Array, dict[str, Array]]:
        """How far the policy is from the best soft value, and the temperature from its entropy."""
        found = self.policy(params, state, observation)
        values = found.mean(self._smaller(state.params["critics"], state, observation))
        entropy = found.cross_entropy(found)
        temperature = jnp.exp(params["log_temperature"])
        actor_loss = masked_mean(-values - jax.lax.stop_gradient(temperature) * entropy, valid)
        wanted = state.hparams.entropy_share * math.log(state.spec.num_candidates or state.spec.num_items)
        surplus = jax.lax.stop_gradient(masked_mean(entropy - wanted, valid))
        metrics = {"actor_loss": actor_loss, "entropy": masked_mean(entropy, valid), "temperature": temperature}
        return actor_loss + params["log_temperature"] * surplus, metrics

    def _smaller(self, critics: PyTree, state: SACDiscreteState, observation: Observation) -> tuple[PyTree, Catalogue]:
        """The smaller of what two critics say of what may be chosen, without a gradient."""
        one, other = (
            self.actor.choices(self.critic, jax.lax.stop_gradient(each), state.spec, observation, state.items)
            for each in critics
        )
        return smaller(one, other)


def smaller(one: Selection, other: Selection) -> tuple[PyTree, BlockScorer]:
    """``(queries, items)`` whose scores are the smaller of two, block by block."""
    first, second = as_scorer(one.items), as_scorer(other.items)

    def of_block(queries: PyTree, start: Array | int, size: int) -> Array:
        scores = (each.score_block(q, start, size) for each, q in zip((first, second), queries, strict=True))
        return jnp.minimum(*scores)

    size = min(block_size_of(each.items, each.queries) for each in (one, other))
    return (one.queries, other.queries), BlockScorer(of_block, first.num_items, block_size=size)
