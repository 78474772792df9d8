"""DQN over a whole catalogue: the best item is a reduction over every item, never an array of all values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.agents.base import Agent, register
from recjax.agents.clicks import click_loss
from recjax.agents.exploration import ExplorationHyper, act_on_scores, exploration_fields
from recjax.agents.kept import at_hand, keep, refreshed
from recjax.agents.scores import check_problem, excluded, owned
from recjax.agents.td import n_step_return
from recjax.catalogue import Catalogue, ItemIndex, LiveIndex, argmax, max_score, score_at
from recjax.catalogue.negatives import uniform
from recjax.fit import Optimizer, descend
from recjax.nn import catalogue_scores, check_towers, towers_of, warm_start
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Sample, Spec, shared

LOSSES: dict[str, Callable[[Array], Array]] = {
    "huber": optax.losses.huber_loss,
    "mse": optax.losses.squared_error,
}


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
      index: item vectors of ``params`` that are kept, or None when they are made anew.
      target_index: those of ``target_params``.
      step: ``i32[]`` updates done.
      items: features of the catalogue.
    """

    params: PyTree
    target_params: PyTree
    opt_state: optax.OptState
    hparams: DQNHyper
    spec: Spec = struct.field(pytree_node=False)
    index: LiveIndex | None
    target_index: ItemIndex | None
    step: Array = shared()
    items: Items = shared()


@register("dqn")
def dqn(
    network: Any,
    optimizer: Optimizer,
    *,
    double: bool = True,
    n_step: int = 1,
    target_period: int | None = None,
    target_tau: float | None = None,
    index_every: int | None = None,
    loss: str = "huber",
    supervised: Any = None,
    supervised_weight: float = 1.0,
    supervised_negatives: int | None = None,
    exploration: str = "epsilon_greedy",
    exclude_history: bool = True,
    discount: float = 0.95,
    epsilon: float | tuple[float, float, int] = (0.3, 0.05, 1000),
    temperature: float = 0.1,
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

    **Excluded items.** With ``exclude_history`` the items of the observed history are never
    shown, and the maximum over what comes next leaves out the history of that observation.

    **Big catalogues.** Give a :class:`recjax.fit.RowWise` optimiser, so that an update writes
    only the rows that it reads, and ``index_every``, so that item vectors are kept: an update
    makes those of its own items again, and every ``index_every`` updates those of all. The
    target network keeps a copy from when it was copied itself. Its double selection and the
    policy then see vectors that are stale as far as shared weights moved; ``learn`` reports
    how many updates ago all were made (``index_age``) and how far the stalest had drifted by
    then (``index_drift``).

    **Joint training.** With ``supervised``, a :class:`recjax.nn.Recommendation` of the same
    towers, ``supervised_weight`` times the cross-entropy of the clicked items is added to the
    loss. It reads the towers of the Q-network, so both losses shape one representation.

    **Warm start.** ``init(..., params=...)`` takes variables of the same Q-network, which
    are used whole, or variables of another network with the same towers (such as a trained
    :class:`recjax.nn.Recommendation`), whose towers are copied by
    :func:`recjax.nn.warm_start`. The target network starts as a copy of the result.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`; those of
        :mod:`recjax.nn` never compute all values here. Dueling is its choice. Wrap a Flax module
        ``(observation, items) -> f32[B, N]`` in :class:`recjax.nn.DenseNetwork`.
      optimizer: an optax transformation or :class:`recjax.fit.RowWise`; clip gradients there.
      double: selects the next item with the network that learns, and values it with the
        target network; otherwise the target network does both.
      n_step: rewards that are summed before the network is asked for the rest; the
        samples must be windows of as many steps.
      target_period: updates between copies to the target network. 100 when neither this
        nor ``target_tau`` is given.
      target_tau: instead, the share of the network that is mixed into the target at
        every update, in (0, 1]. It is work for the whole table, so it excludes ``index_every``.
      index_every: updates between full refreshes of kept item vectors; None makes them anew
        whenever they are needed.
      loss: "huber" (quadratic up to an error of 1) or "mse".
      supervised: what else the towers are trained as, a :class:`recjax.nn.Recommendation` with
        the fields of ``network`` that towers have; None for TD learning alone.
      supervised_weight: weight of that loss.
      supervised_negatives: how many uniform negatives estimate its softmax, which a row-wise
        optimiser needs; None for the whole catalogue.
      exploration: a name in ``explorations``: "epsilon_greedy" or "boltzmann".
      exclude_history: never show an item of the observed history.
      discount: default γ, in [0, 1].
      epsilon: default ε, a constant or ``(start, end, steps)``, linear in updates.
      temperature: default temperature of Boltzmann exploration, in units of value.

    Returns:
      The agent. ``learn`` reports ``loss`` (of TD), ``td_error`` (mean absolute), ``q_value``
      (mean of the shown items), ``supervised_loss`` where there is one, and the two of a kept
      index.

    Raises:
      ValueError: an argument outside its range.

    References:
      Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015;
      van Hasselt et al., AAAI 2016 (double); Xin et al., "Self-Supervised Reinforcement
      Learning for Recommender Systems", SIGIR 2020 (joint training); Sutton, Barto 2018, section 7.1 (n-step);
      Ie et al., "SlateQ", IJCAI 2019, for slates whose items compete.
    """
    follow = _target_update(target_period, target_tau)
    if loss not in LOSSES:
        raise ValueError(f"There is no loss named {loss!r}; choose one of {sorted(LOSSES)}.")
    if index_every is not None and (index_every < 1 or target_tau is not None):
        raise ValueError(
            f"index_every={index_every} must be at least 1 and needs a target network that is copied;"
            f" target_tau is {target_tau}."
        )
    if supervised is not None:
        check_towers(network, supervised)
    if supervised_negatives is not None and (supervised is None or supervised_negatives < 1):
        raise ValueError(
            f"supervised_negatives={supervised_negatives} must be at least 1, and is for a supervised network only."
        )
    if n_step < 1:
        raise ValueError(f"n_step is {n_step}; it must be at least 1.")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}; it must be in [0, 1].")
    defaults = DQNHyper(discount=float(discount), **exploration_fields(epsilon, temperature))

    def init(key: Array, spec: Spec, items: Items, hparams: DQNHyper | None = None, params: PyTree = None) -> DQNState:
        check_problem(spec, items, exclude_history, network)
        own = jax.jit(network.init)(key, spec.empty_observation((1,)), items)
        if params is not None:
            own = owned(params if _alike(own, params) else warm_start(own, params))
        index = keep(network, own, items, index_every)
        return DQNState(
            params=own,
            target_params=owned(own),
            opt_state=optimizer.init(own),
            hparams=jax.tree.map(lambda x: jnp.array(x, jnp.float32), defaults if hparams is None else hparams),
            step=jnp.zeros((), jnp.int32),
            items=owned(items),
            spec=spec,
            index=index,
            target_index=owned(at_hand(index)),
        )

    def scores(state: DQNState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return catalogue_scores(network, state.params, observation, state.items, at_hand(state.index))

    def values_at(params: PyTree, observation: Observation, actions: Array, items: Items) -> Array:
        return network.apply(params, observation, actions, items, method="at")

    def best_value(state: DQNState, observation: Observation) -> Array:
        exclude = excluded(observation, exclude_history)
        target = catalogue_scores(network, state.target_params, observation, state.items, state.target_index)
        if not double:
            return max_score(*target, exclude=exclude)
        return score_at(*target, argmax(*scores(state, observation), exclude=exclude)[:, None])[:, 0]

    def targets(state: DQNState, sample: Sample) -> Array:
        steps, discount = sample.steps, state.hparams.discount
        # Only the first step knows which slot is learned; it is added per slot below.
        later = steps.reward.mean(-1).at[:, 0].set(0.0)
        r_t, discount_t, last = n_step_return(later, steps.terminated, steps.truncated, discount)
        o_t = jax.tree.map(lambda x: x[jnp.arange(last.shape[0]), last], steps.next_observation)
        return steps.reward[:, 0] + (r_t + discount_t * best_value(state, o_t))[:, None]

    def learn(key: Array, state: DQNState, sample: Sample) -> tuple[DQNState, dict[str, Array]]:
        if (*sample.valid.shape, n_step) != sample.steps.terminated.shape:
            raise ValueError(
                f"DQN with n_step={n_step} learns from windows of as many steps; the sample has"
                f" {sample.steps.terminated.shape[1]}. Build the buffer with window=agent.window."
            )
        o_tm1, slate = jax.tree.map(lambda x: x[:, 0], (sample.steps.observation, sample.steps.slate))
        target, a_tm1 = targets(state, sample), jnp.maximum(slate, 0)
        weights = ((slate != PAD_ID) & sample.valid[:, None]).astype(jnp.float32)
        mean = lambda x: jnp.sum(x * weights) / jnp.maximum(jnp.sum(weights), 1.0)  # noqa: E731

        drawn = None
        if supervised_negatives is not None:
            drawn = uniform(key, (supervised_negatives,), state.items.num_items)

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            q_tm1 = values_at(params, o_tm1, a_tm1, state.items)
            error = target - q_tm1
            value = mean(LOSSES[loss](error))
            metrics = {"loss": value, "td_error": mean(jnp.abs(error)), "q_value": mean(q_tm1)}
            if supervised is None:
                return value, metrics
            metrics["supervised_loss"], _ = click_loss(supervised, towers_of(params), sample, state.items, drawn)
            return value + supervised_weight * metrics["supervised_loss"], metrics

        done = descend(loss_fn, optimizer, state.params, state.opt_state)
        step = state.step + 1
        touched = o_tm1.history, slate, *(() if drawn is None else (drawn.ids,))
        index, of_index = refreshed(state.index, network, done.params, state.items, index_every, *touched)
        target_params, target_index = follow(
            step, (done.params, at_hand(index)), (state.target_params, state.target_index)
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
        return state, done.aux | of_index

    act = act_on_scores(scores, exploration, exclude_history)
    return Agent(init, act, learn, scores, hparams=defaults, window=n_step)


def _target_update(period: int | None, tau: float | None) -> Callable[[Array, PyTree, PyTree], PyTree]:
    """``(step, params, target_params) -> target_params``: a copy now and then, or a moving average."""
    if period is not None and tau is not None:
        raise ValueError(f"Give target_period={period} or target_tau={tau}, not both.")
    if tau is not None:
        if not 0 < tau <= 1:
            raise ValueError(f"target_tau is {tau}; it must be in (0, 1].")
        return lambda step, params, target: optax.incremental_update(params, target, tau)
    period = 100 if period is None else period
    if period < 1:
        raise ValueError(f"target_period is {period}; it must be at least 1.")
    # The step has no seed axis, so this stays a branch under vmap over seeds.
    return lambda step, params, target: jax.lax.cond(
        step % period == 0, lambda new, old: new, lambda new, old: old, params, target
    )


def _alike(own: PyTree, other: PyTree) -> bool:
    return jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, other)
