"""DQN over a whole catalogue: the best item is a reduction over every item, never an array of all values."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.agents.base import Action, Agent, Update, register
from recjax.agents.clicks import ClickPrediction, items_read
from recjax.agents.exploration import ExplorationHyper
from recjax.agents.item_index import cached_index, index_of, recomputed
from recjax.agents.slates import Selection, SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters, owned, started
from recjax.agents.value.heads import head_of, outputs_at
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.td_loss import TDLoss
from recjax.agents.value.windows import check_discount, check_td, check_windows, seen_after
from recjax.catalogue import CachedIndex, Catalogue, ItemIndex, argmax, max_score, score_at
from recjax.catalogue.negatives import Negatives
from recjax.fit import Optimizer, descend
from recjax.losses import masked_mean, n_step_return, td_error
from recjax.nn import (
    DistributionalNetwork,
    ValueHead,
    catalogue_scores,
    check_noise,
    check_scores,
    check_towers,
    towers_of,
)
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared, shown_items


@struct.dataclass
class DQNHyper(ExplorationHyper):
    """Hyper-parameters of :func:`dqn`; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ. The myopic policy is the same agent with 0, and the same compiled program.
    """

    discount: Array | float = 0.95


@struct.dataclass
class DQNState:
    """Everything that DQN carries from update to update.

    Attributes:
      params: variables of the Q-network.
      target_params: variables of the network that values what comes next.
      opt_state: state of the optimiser.
      hparams: :class:`DQNHyper`.
      spec: static shape of the problem.
      index: cached item vectors of ``params``, or None when they are computed at every use.
      target_index: those of ``target_params``.
      step: ``i32[]`` updates done.
      acted: ``i32[]`` steps of the environment, by which exploration falls.
      items: features of the catalogue.
    """

    params: PyTree
    target_params: PyTree
    opt_state: optax.OptState
    hparams: DQNHyper
    spec: Spec = struct.field(pytree_node=False)
    index: CachedIndex | None
    target_index: ItemIndex | None
    step: Array = shared()
    acted: Array = shared()
    items: Items = shared()


@register("dqn")
def dqn(
    network: Any,
    optimizer: Optimizer,
    *,
    n_step: int = 1,
    discount: float = 0.95,
    double: bool = True,
    loss: str | TDLoss = "huber",
    target: TargetNetwork = TargetNetwork(),  # noqa: B008 (frozen)
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
    clicks: ClickPrediction | None = None,
    index_every: int | None = None,
) -> Agent:
    """Deep Q-learning of the value of showing an item, with slates learned slot by slot.

    **Slates.** Every shown slot is a transition ``(s, a_j, r_j, s')`` of its own: the value
    of an item is what it earns in its slot plus the value of the best single item
    afterwards. The slate is the top K of these values. This assumes that a slate is worth
    what its items are worth one by one, each as if it were shown in a slate of one: a user
    who chooses *among* the slots (so that items compete for one click), effects of
    position, and which of the slots brought about the next state are not modelled. With
    ``n_step > 1`` the rewards in between are the mean over the slots of those steps.
    Slots that hold ``PAD_ID`` are not learned from.

    **Excluded items.** With ``policy.exclude_history`` the items of the observed history are
    never shown, and the maximum over what comes next leaves out the history of that observation.
    Where observations have candidates, slates and maxima are over these.

    **Big catalogues.** Give a :class:`recjax.fit.RowWise` optimiser, so that an update writes
    only the rows that it reads, and ``index_every``, so that item vectors are cached: an update
    recomputes those of its own items, and every ``index_every`` updates those of all. The
    target network has a copy from when it was copied itself. Its double selection and the
    policy then see vectors that are stale as far as shared weights moved; ``learn`` reports
    how many updates ago all were computed (``index_age``) and how far the stalest had drifted by
    then (``index_drift``).

    **Joint training.** With ``clicks``, whose network is a :class:`recjax.nn.Recommendation` of the
    same towers, the cross-entropy of the clicked items is added to the loss. It reads the towers of
    the Q-network, so both losses shape one representation.

    **Distributions.** With a :class:`recjax.nn.DistributionalNetwork` the distribution of what an item is worth is
    learned: its quantiles (QR-DQN, :class:`recjax.nn.QuantileDotProductQ`) or the probabilities of atoms (C51,
    :class:`recjax.nn.CategoricalDotProductQ`). Slates and the next item are chosen by its mean, and distributions are
    held of the shown and the next items only. TD errors that are reported, and priorities, are those of means.

    **Noise.** A network with noisy layers (``nn.DotProductQ.of(..., noisy=True)``, or any with a
    :class:`recjax.nn.NoisyDense`) explores by them: every step and every user draws weights of its own, and each of
    the three uses of a network in an update does. What ``policy`` explores comes on top: ``epsilon=0.0`` leaves it out.
    Of noise alone the probability of a slate is not known: ``Agent.log_prob`` is None, and the log-probability
    of an action is that given the noise, which off-policy evaluation must not be given.

    **Warm start.** ``init(..., params=...)`` takes variables of the same Q-network, which
    are used whole, or variables of another network with the same towers (such as a trained
    :class:`recjax.nn.Recommendation`), whose towers are copied by
    :func:`recjax.nn.warm_start`. The target network starts as a copy of the result.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`; those of
        :mod:`recjax.nn` never compute all values here. Dueling, distributions and noise are its choice. Wrap a Flax
        module ``(observation, items) -> f32[B, N]`` in :class:`recjax.nn.DenseNetwork`.
      optimizer: an optax transformation or :class:`recjax.fit.RowWise`; clip gradients there.
      n_step: rewards that are summed before the network is asked for the rest; replay then gives
        windows of as many steps.
      discount: default γ, in [0, 1].
      double: selects the next item with the network that learns, and values it with the
        target network; otherwise the target network does both.
      loss: of TD errors: a name in :data:`recjax.losses.TD_LOSSES`, "huber" (quadratic up to an error of 1) or "mse"
        (half the square); or a :class:`TDLoss`, which may have Munchausen's reward and prioritised replay as well.
        Distributional networks have losses of their own.
      target: how the target network follows.
      policy: how slates follow from values.
      clicks: predicting clicks as a second loss; None for TD learning alone.
      index_every: updates between full refreshes of cached item vectors; None computes them
        whenever they are needed.

    Returns:
      The agent. ``learn`` reports ``loss`` (of TD), ``td_error`` (mean absolute), ``q_value``
      (mean of the shown items), ``supervised_loss`` with ``clicks``, and the two of a cached
      index.

    Raises:
      ValueError: an argument outside its range.

    References:
      Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015;
      van Hasselt et al., AAAI 2016 (double); Hessel et al., "Rainbow", AAAI 2018 (many at once); Xin et al.,
      "Self-Supervised Reinforcement Learning for Recommender Systems", SIGIR 2020 (joint training); Sutton, Barto
      2018, section 7.1 (n-step); Ie et al., "SlateQ", IJCAI 2019, for slates whose items compete.
    """
    loss = TDLoss(loss) if isinstance(loss, str) else loss
    algorithm = _DQN(network, optimizer, n_step, double, loss, target, policy, clicks, index_every)
    check_discount(discount)
    defaults = DQNHyper(discount=float(discount), **policy.hparams())
    act, log_prob = policy.functions(policy.select(algorithm.scores))

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> DQNState:
        return algorithm.init(key, spec, items, hyper_parameters(hparams, defaults), params)

    agent = Agent(init, act, algorithm.learn, log_prob, algorithm.scores, loss.memory(n_step), defaults, count_step)
    return agent._replace(act=algorithm.noisy_act, log_prob=None) if network.is_noisy else agent


class _Target(NamedTuple):
    """What the slots of first steps are learned from.

    Attributes:
      r_t: ``f32[B, K]`` rewards up to the bootstrap.
      discount_t: ``f32[B, K]``, 0 where the episode terminated.
      outputs_t: ``f32[B, K, ...]`` what is said of the value of what comes next.
    """

    r_t: Array
    discount_t: Array
    outputs_t: Array


@dataclasses.dataclass(frozen=True)
class _DQN:
    """The algorithm; its fields are arguments of :func:`dqn`."""

    network: Any
    optimizer: Optimizer
    n_step: int
    double: bool
    loss: TDLoss
    target: TargetNetwork
    policy: SlatePolicy
    clicks: ClickPrediction | None
    index_every: int | None

    def __post_init__(self) -> None:
        check_scores(self.network)
        check_td(self.loss.error, self.n_step)
        if self.index_every is not None and (self.index_every < 1 or self.target.tau is not None):
            raise ValueError(
                f"index_every={self.index_every} must be at least 1 and needs a target network that is copied;"
                f" target.tau is {self.target.tau}."
            )
        if self.clicks is not None:
            check_towers(self.network, self.clicks.network)
        if isinstance(self.network, DistributionalNetwork) and (
            self.loss.munchausen is not None or self.loss.error != "huber"
        ):
            raise ValueError(
                f"{type(self.network).__name__} learns distributions by a loss of their own, and what comes next is the"
                f" distribution of one item; leave error and munchausen out of the loss, which is {self.loss}."
            )

    @property
    def head(self) -> ValueHead:
        return head_of(self.network, self.loss.error)

    def init(self, key: Array, spec: Spec, items: Items, hparams: DQNHyper, params: PyTree) -> DQNState:
        check_problem(spec, items, self.policy.exclude_history, self.network)
        own = started(jax.jit(self.network.init)(key, spec.empty_observation((1,)), items), params)
        check_noise(self.network, own)
        index = cached_index(self.network, own, items, self.index_every)
        return DQNState(
            params=own,
            target_params=owned(own),
            opt_state=self.optimizer.init(own),
            hparams=hparams,
            step=jnp.zeros((), jnp.int32),
            acted=jnp.zeros((), jnp.int32),
            items=owned(items),
            spec=spec,
            index=index,
            target_index=owned(index_of(index)),
        )

    def scores(self, state: DQNState, observation: Observation, noise: Array | None = None) -> tuple[PyTree, Catalogue]:
        rngs = _rngs(noise, "select")
        return catalogue_scores(self.network, state.params, observation, state.items, index_of(state.index), rngs)

    def noisy_act(self, key: Array, state: DQNState, observation: Observation, *, explore: bool = True) -> Action:
        """As ``act`` of the policy, by scores with noise while it explores."""
        noise, key = jax.random.split(key)
        scores = partial(self.scores, noise=noise) if explore else self.scores
        act, _ = self.policy.functions(self.policy.select(scores))
        return act(key, state, observation, explore=explore)

    def learn(self, key: Array, state: DQNState, batch: Batch) -> Update:
        check_windows("DQN", batch, self.n_step)
        first = jax.tree.map(lambda x: x[:, 0], batch.experience)
        shown = shown_items(first.slate, first.observation)
        is_learned = (shown != PAD_ID) & batch.valid[:, None]
        noise = key if self.network.is_noisy else None
        target, a_tm1 = self._targets(state, batch.experience, noise), jnp.maximum(shown, 0)
        drawn = None if self.clicks is None else self.clicks.draw(key, state.items.num_items)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[dict[str, Array], Array]]:
            rngs = _rngs(noise, "learn")
            outputs = outputs_at(self.network, params, first.observation, a_tm1, state.items, rngs)
            value = self.loss.mean(self.head.td_loss(outputs, *target), is_learned, batch, state.step)
            error, sizes = self._errors(outputs, target, is_learned)
            metrics = {"loss": value} | sizes
            if self.clicks is None:
                return value, (metrics, error)
            predicted, _ = self.clicks.loss(towers_of(params), batch, state.items, drawn)
            return value + self.clicks.weight * predicted, (metrics | {"supervised_loss": predicted}, error)

        done = descend(loss_fn, self.optimizer, state.params, state.opt_state)
        state, of_index = self._updated(state, batch, drawn, done)
        metrics, error = done.aux
        priorities = None if self.loss.priorities is None else self.loss.priorities.of(error, is_learned)
        return Update(state, metrics | of_index, priorities)

    def _errors(self, outputs: Array, target: _Target, is_learned: Array) -> tuple[Array, dict[str, Array]]:
        """TD errors of expected values ``f32[B, K]``, and what is reported of them."""
        q_tm1, v_t = self.head.mean(outputs), self.head.mean(target.outputs_t)
        error = td_error(q_tm1, target.r_t, target.discount_t, v_t)
        return error, {"td_error": masked_mean(jnp.abs(error), is_learned), "q_value": masked_mean(q_tm1, is_learned)}

    def _targets(self, state: DQNState, steps: Step, noise: Array | None) -> _Target:
        """What every slot of the first step of each window is learned from."""
        # Only the first step knows which slot is learned; it is added per slot below.
        later = steps.reward.mean(-1).at[:, 0].set(0.0)
        r_t, discount_t, last = n_step_return(later, steps.terminated, steps.truncated, state.hparams.discount)
        o_t, reward, soft = seen_after(steps, last), steps.reward[:, 0], self.loss.munchausen
        if soft is None:
            outputs_t = self._best(state, o_t, noise)
        else:
            o_tm1, slate = jax.tree.map(lambda x: x[:, 0], (steps.observation, steps.slate))
            reward = soft.reward(reward, self._valued(state, o_tm1, noise), slate)
            outputs_t = soft.value(self._valued(state, o_t, noise))
        each_slot = lambda x: jnp.broadcast_to(x[:, None], (*reward.shape, *x.shape[1:]))  # noqa: E731
        return _Target(reward + r_t[:, None], each_slot(discount_t), each_slot(outputs_t))

    def _valued(self, state: DQNState, observation: Observation, noise: Array | None) -> Selection:
        """What slates are chosen from, scored by the target network."""
        index, rngs = state.target_index, _rngs(noise, "value")
        target = catalogue_scores(self.network, state.target_params, observation, state.items, index, rngs)
        return self.policy.choices(state.spec, observation, *target)

    def _best(self, state: DQNState, observation: Observation, noise: Array | None) -> Array:
        """What the target network says of the best item, ``f32[B]``, or ``f32[B, size]`` of a distribution."""
        is_expected = not isinstance(self.network, DistributionalNetwork)
        target = self._valued(state, observation, noise)
        if not self.double and is_expected:
            return max_score(target.queries, target.items, exclude=target.exclude)
        selector = target
        if self.double:
            selector = self.policy.choices(state.spec, observation, *self.scores(state, observation, noise))
        best = argmax(selector.queries, selector.items, exclude=target.exclude)[:, None]
        if is_expected and (observation.candidates is not None or state.target_index is not None):
            return score_at(target.queries, target.items, best)[:, 0]
        # The vectors of the target network are made for the chosen items alone.
        items = jnp.maximum(shown_items(best, observation), 0)
        rngs = _rngs(noise, "value")
        outputs = outputs_at(self.network, state.target_params, observation, items, state.items, rngs)
        return jnp.where(best == PAD_ID, -jnp.inf, outputs)[:, 0] if is_expected else outputs[:, 0]

    def _updated(
        self, state: DQNState, batch: Batch, drawn: Negatives | None, done: Any
    ) -> tuple[DQNState, dict[str, Array]]:
        step, touched = state.step + 1, items_read(batch, drawn)
        index, of_index = recomputed(state.index, self.network, done.params, state.items, self.index_every, *touched)
        target_params, target_index = self.target.follow(
            step, (done.params, index_of(index)), (state.target_params, state.target_index)
        )
        state = dataclasses.replace(
            state,
            params=done.params,
            target_params=target_params,
            opt_state=done.opt_state,
            index=index,
            target_index=target_index,
            step=step,
        )
        return state, of_index


def _rngs(noise: Array | None, use: Literal["select", "learn", "value"]) -> dict[str, Array] | None:
    """The key of a network's noise, each use of a network in an update with its own."""
    return None if noise is None else {"noise": jax.random.fold_in(noise, ("select", "learn", "value").index(use))}
