"""DQN over a whole catalogue: the best item is a reduction over every item, never an array of all values."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax import replay
from recjax.agents.base import Agent, Update, register
from recjax.agents.clicks import ClickPrediction, items_read
from recjax.agents.exploration import ExplorationHyper
from recjax.agents.item_index import cached_index, index_of, recomputed
from recjax.agents.slates import SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters, owned, started
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount, check_td, check_windows, seen_after
from recjax.catalogue import CachedIndex, Catalogue, ItemIndex, argmax, max_score, score_at
from recjax.catalogue.negatives import Negatives
from recjax.fit import Optimizer, descend
from recjax.losses import TD_LOSSES, masked_mean, n_step_return
from recjax.nn import catalogue_scores, check_towers, towers_of
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
    loss: str = "huber",
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

    **Warm start.** ``init(..., params=...)`` takes variables of the same Q-network, which
    are used whole, or variables of another network with the same towers (such as a trained
    :class:`recjax.nn.Recommendation`), whose towers are copied by
    :func:`recjax.nn.warm_start`. The target network starts as a copy of the result.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`; those of
        :mod:`recjax.nn` never compute all values here. Dueling is its choice. Wrap a Flax module
        ``(observation, items) -> f32[B, N]`` in :class:`recjax.nn.DenseNetwork`.
      optimizer: an optax transformation or :class:`recjax.fit.RowWise`; clip gradients there.
      n_step: rewards that are summed before the network is asked for the rest; replay then gives
        windows of as many steps.
      discount: default γ, in [0, 1].
      double: selects the next item with the network that learns, and values it with the
        target network; otherwise the target network does both.
      loss: of the TD error, a name in :data:`recjax.losses.TD_LOSSES`: "huber" (quadratic up to an
        error of 1) or "mse" (half the square).
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
      van Hasselt et al., AAAI 2016 (double); Xin et al., "Self-Supervised Reinforcement
      Learning for Recommender Systems", SIGIR 2020 (joint training); Sutton, Barto 2018, section 7.1 (n-step);
      Ie et al., "SlateQ", IJCAI 2019, for slates whose items compete.
    """
    algorithm = _DQN(network, optimizer, n_step, double, loss, target, policy, clicks, index_every)
    check_discount(discount)
    defaults = DQNHyper(discount=float(discount), **policy.hparams())
    act, log_prob = policy.functions(policy.select(algorithm.scores))

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> DQNState:
        return algorithm.init(key, spec, items, hyper_parameters(hparams, defaults), params)

    memory = replay.uniform(window=n_step)
    return Agent(init, act, algorithm.learn, log_prob, algorithm.scores, memory, defaults, count_step)


@dataclasses.dataclass(frozen=True)
class _DQN:
    """The algorithm; its fields are arguments of :func:`dqn`."""

    network: Any
    optimizer: Optimizer
    n_step: int
    double: bool
    loss: str
    target: TargetNetwork
    policy: SlatePolicy
    clicks: ClickPrediction | None
    index_every: int | None

    def __post_init__(self) -> None:
        check_td(self.loss, self.n_step)
        if self.index_every is not None and (self.index_every < 1 or self.target.tau is not None):
            raise ValueError(
                f"index_every={self.index_every} must be at least 1 and needs a target network that is copied;"
                f" target.tau is {self.target.tau}."
            )
        if self.clicks is not None:
            check_towers(self.network, self.clicks.network)

    def init(self, key: Array, spec: Spec, items: Items, hparams: DQNHyper, params: PyTree) -> DQNState:
        check_problem(spec, items, self.policy.exclude_history, self.network)
        own = started(jax.jit(self.network.init)(key, spec.empty_observation((1,)), items), params)
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

    def scores(self, state: DQNState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(self.network, state.params, observation, state.items, index_of(state.index))

    def learn(self, key: Array, state: DQNState, batch: Batch) -> Update:
        check_windows("DQN", batch, self.n_step)
        first = jax.tree.map(lambda x: x[:, 0], batch.experience)
        shown = shown_items(first.slate, first.observation)
        is_learned = (shown != PAD_ID) & batch.valid[:, None]
        target, a_tm1 = self._targets(state, batch.experience), jnp.maximum(shown, 0)
        drawn = None if self.clicks is None else self.clicks.draw(key, state.items.num_items)

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            q_tm1 = self._values_at(params, first.observation, a_tm1, state.items)
            value, metrics = self._td_loss(q_tm1, target, is_learned)
            if self.clicks is None:
                return value, metrics
            predicted, _ = self.clicks.loss(towers_of(params), batch, state.items, drawn)
            return value + self.clicks.weight * predicted, metrics | {"supervised_loss": predicted}

        done = descend(loss_fn, self.optimizer, state.params, state.opt_state)
        return self._updated(state, batch, drawn, done)

    def _td_loss(self, q_tm1: Array, target: Array, is_learned: Array) -> tuple[Array, dict[str, Array]]:
        error = target - q_tm1
        value = masked_mean(TD_LOSSES[self.loss](error), is_learned)
        sizes = {"td_error": masked_mean(jnp.abs(error), is_learned), "q_value": masked_mean(q_tm1, is_learned)}
        return value, {"loss": value} | sizes

    def _targets(self, state: DQNState, steps: Step) -> Array:
        """``f32[B, K]``, of every slot of the first step of each window."""
        # Only the first step knows which slot is learned; it is added per slot below.
        later = steps.reward.mean(-1).at[:, 0].set(0.0)
        r_t, discount_t, last = n_step_return(later, steps.terminated, steps.truncated, state.hparams.discount)
        o_t = seen_after(steps, last)
        return steps.reward[:, 0] + (r_t + discount_t * self._best_value(state, o_t))[:, None]

    def _best_value(self, state: DQNState, observation: Observation) -> Array:
        choose = self.policy.choices
        target = catalogue_scores(self.network, state.target_params, observation, state.items, state.target_index)
        queries, items, exclude, _ = choose(state.spec, observation, *target)
        if not self.double:
            return max_score(queries, items, exclude=exclude)
        own, own_items, *_ = choose(state.spec, observation, *self.scores(state, observation))
        best = argmax(own, own_items, exclude=exclude)[:, None]
        if observation.candidates is not None or state.target_index is not None:
            return score_at(queries, items, best)[:, 0]
        # The vectors of the target network are made for the chosen items alone.
        values = self._values_at(state.target_params, observation, jnp.maximum(best, 0), state.items)
        return jnp.where(best == PAD_ID, -jnp.inf, values)[:, 0]

    def _values_at(self, params: PyTree, observation: Observation, actions: Array, items: Items) -> Array:
        return self.network.apply(params, observation, actions, items, method="at")

    def _updated(self, state: DQNState, batch: Batch, drawn: Negatives | None, done: Any) -> Update:
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
        return Update(state, done.aux | of_index)
