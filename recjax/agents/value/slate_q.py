"""SlateQ: the value of a slate through the user's choice, over candidates or a whole catalogue."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax import replay
from recjax.agents.base import Agent, Update, register
from recjax.agents.slates import Selection, SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters, owned, started
from recjax.agents.value.dqn import DQNHyper
from recjax.agents.value.surrogate import Surrogates, SurrogateState
from recjax.agents.value.target import TargetNetwork
from recjax.agents.value.windows import check_discount, check_td, check_windows, seen_after
from recjax.catalogue import (
    Catalogue,
    Choices,
    best_slate,
    dense_scorer,
    gains,
    greedy_slate,
    ranked,
    slate_value,
    top_k,
)
from recjax.fit import Optimizer, descend
from recjax.losses import TD_LOSSES, masked_mean, n_step_return
from recjax.nn import Outcomes, SlateNetwork
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared

Search = Literal["optimal", "greedy", "top_k"]
"""How a slate is found, see :func:`slate_q`."""


@struct.dataclass
class SlateQState:
    """Everything that SlateQ carries from update to update.

    Attributes:
      params: variables of the network.
      target_params: variables of the network that values what comes next.
      opt_state: state of the optimiser.
      hparams: :class:`~recjax.agents.DQNHyper`.
      spec: static shape of the problem.
      step: ``i32[]`` updates done.
      acted: ``i32[]`` steps of the environment, by which exploration falls.
      items: features of the catalogue.
      surrogate: state of the surrogates, None without any.
    """

    params: PyTree
    target_params: PyTree
    opt_state: optax.OptState
    hparams: DQNHyper
    spec: Spec = struct.field(pytree_node=False)
    step: Array = shared()
    acted: Array = shared()
    items: Items = shared()
    surrogate: SurrogateState | None = None


@register("slate_q")
def slate_q(
    network: SlateNetwork,
    optimizer: Optimizer,
    *,
    n_step: int = 1,
    discount: float = 0.95,
    search: Search = "optimal",
    loss: str = "huber",
    choice_weight: float = 1.0,
    surrogates: Surrogates | None = None,
    target: TargetNetwork = TargetNetwork(),  # noqa: B008 (frozen)
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
) -> Agent:
    """Q-learning of slates from which users choose at most one item, or nothing.

    A slate is worth what its choices are worth, each as often as the user makes it:

    ``Q(s, A) = sum_A P(i | s, A) q(s, i) + P(nothing | s, A) q_0(s)`` with
    ``P(i | s, A) = e^l(s, i) / (1 + sum_A e^l(s, j))``.

    Learned are the logits ``l`` from what users choose, ``q(s, i)`` from slates of which ``i`` was chosen, and ``q_0``
    from slates of which nothing was: sessions go on after those, too. The target of the outcome of a step is its whole
    reward and ``discount`` times the value of the best next slate, selected by the network that learns and valued by
    the target network. Of several clicks on a slate each counts its share.

    **Search.** ``"optimal"`` finds the slate with the largest ``Q`` exactly (:func:`recjax.catalogue.best_slate`),
    ``"greedy"`` adds the item that raises it most, one after the other, and ``"top_k"`` takes those with the largest
    ``e^l q``. The same search gives slates and targets.

    Exploration and what is never shown are those of :func:`recjax.agents.dqn`; where observations have candidates,
    slates are of these.

    Args:
      network: a :class:`recjax.nn.SlateNetwork`, such as :class:`recjax.nn.DotProductSlateQ`.
      optimizer: an optax transformation or :class:`recjax.fit.RowWise`; clip gradients there.
      n_step: rewards that are summed before the network is asked for the rest; replay then gives
        windows of as many steps.
      discount: default γ, in [0, 1].
      search: how a slate is found.
      loss: of the TD error, a name in :data:`recjax.losses.TD_LOSSES`.
      choice_weight: of the cross-entropy of choices beside the TD loss.
      surrogates: answers that foretell what follows, from which the target is then told; None takes it as it came.
      target: how the target network follows.
      policy: how slates follow from what the search says.

    Returns:
      The agent. ``learn`` reports ``loss`` (of TD), ``choice_loss``, ``td_error`` (mean absolute), ``q_value`` (mean
      of the outcomes that came about), and ``surrogate_loss`` where there are surrogates.

    Raises:
      ValueError: an argument outside its range.

    References:
      Ie et al., "SlateQ: A Tractable Decomposition for Reinforcement Learning with Recommendation Sets", IJCAI 2019,
      where choosing nothing is worth nothing, although a session goes on; Dinkelbach, "On nonlinear fractional
      programming", Management Science 13, 1967.
    """
    algorithm = _SlateQ(network, optimizer, n_step, search, loss, choice_weight, surrogates, target, policy)
    check_discount(discount)
    defaults = DQNHyper(discount=float(discount), **policy.hparams())
    act, log_prob = policy.functions(algorithm.select)

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> SlateQState:
        return algorithm.init(key, spec, items, hyper_parameters(hparams, defaults), params)

    memory = replay.uniform(window=n_step)
    return Agent(init, act, algorithm.learn, log_prob, algorithm.scores, memory, defaults, count_step)


@dataclasses.dataclass(frozen=True)
class _SlateQ:
    """The algorithm; its fields are arguments of :func:`slate_q`."""

    network: SlateNetwork
    optimizer: Optimizer
    n_step: int
    search: Search
    loss: str
    choice_weight: float
    surrogates: Surrogates | None
    target: TargetNetwork
    policy: SlatePolicy

    def __post_init__(self) -> None:
        if not isinstance(self.network, SlateNetwork):
            raise ValueError(
                f"{type(self.network).__name__} is no nn.SlateNetwork; use nn.DotProductSlateQ or"
                " nn.CandidateSlateQ, or derive your own from nn.SlateNetwork."
            )
        if self.search not in get_args(Search):
            raise ValueError(f"search is {self.search!r}; choose one of {get_args(Search)}.")
        check_td(self.loss, self.n_step)
        if self.choice_weight < 0:
            raise ValueError(f"choice_weight is {self.choice_weight}; it must be at least 0.")

    def init(self, key: Array, spec: Spec, items: Items, hparams: DQNHyper, params: PyTree) -> SlateQState:
        check_problem(spec, items, self.policy.exclude_history)
        own = started(jax.jit(self.network.init)(key, spec.empty_observation((1,)), items), params)
        return SlateQState(
            params=own,
            target_params=owned(own),
            opt_state=self.optimizer.init(own),
            hparams=hparams,
            step=jnp.zeros((), jnp.int32),
            acted=jnp.zeros((), jnp.int32),
            items=owned(items),
            spec=spec,
            surrogate=None if self.surrogates is None else self.surrogates.init(key, spec),
        )

    def scores(self, state: SlateQState, observation: Observation) -> tuple[PyTree, Catalogue]:
        return self.select(state, observation)[:2]

    def select(self, state: SlateQState, observation: Observation) -> Selection:
        """What slates are chosen from, and the slate that the search finds."""
        exclude = self.policy.unwanted(state.spec, observation)
        choices, slots = self._choices(state.params, observation, state.items), state.spec.slate_size
        if self.search == "greedy":
            num_items = state.spec.num_candidates or state.spec.num_items
            slate = greedy_slate(choices, slots, exclude=exclude)
            return Selection(*ranked(slate, num_items), exclude, slate)
        if self.search == "optimal":
            value, slate = best_slate(choices, slots, exclude=exclude)
            return Selection(*gains(choices, value), exclude, slate)
        by_chance = gains(choices, jnp.zeros_like(choices.nothing))
        return Selection(*by_chance, exclude, top_k(*by_chance, slots, exclude=exclude)[1])

    def learn(self, key: Array, state: SlateQState, batch: Batch) -> Update:
        del key
        check_windows("SlateQ", batch, self.n_step)
        first: Step = jax.tree.map(lambda x: x[:, 0], batch.experience)
        shown = first.slate != PAD_ID
        surrogate, target, foretold = self._foretold(state, first, self._targets(state, batch.experience), batch.valid)
        chosen = chosen_shares(first.response["click"], shown)

        def loss_fn(params: PyTree) -> tuple[Array, dict[str, Array]]:
            slate = jnp.maximum(first.slate, 0)
            outcomes: Any = self.network.apply(params, first.observation, slate, state.items, method="outcomes")
            choice_loss = masked_mean(choice_cross_entropy(outcomes.odds, shown, chosen), batch.valid)
            value, metrics = self._td_loss(outcomes, chosen, target, batch.valid)
            return value + self.choice_weight * choice_loss, metrics | foretold | {"choice_loss": choice_loss}

        done = descend(loss_fn, self.optimizer, state.params, state.opt_state)
        step = state.step + 1
        followed = self.target.follow(step, done.params, state.target_params)
        return Update(
            dataclasses.replace(
                state,
                params=done.params,
                target_params=followed,
                opt_state=done.opt_state,
                step=step,
                surrogate=surrogate,
            ),
            done.aux,
        )

    def _foretold(
        self, state: SlateQState, first: Step, target: Array, is_learned: Array
    ) -> tuple[SurrogateState | None, Array, dict[str, Array]]:
        """The target as the answers to the first slate foretell it, where there are surrogates."""
        if self.surrogates is None or state.surrogate is None:
            return None, target, {}
        slate = jnp.maximum(first.slate, 0)
        shown: Any = self.network.apply(state.params, first.observation, slate, state.items, method="outcomes")
        place = jnp.where(first.slate == PAD_ID, PAD_ID, jnp.arange(slate.shape[-1])[None])
        expected = slate_value(Choices(dense_scorer(shown.odds), dense_scorer(shown.values), shown.nothing), place)
        surrogate, target, loss = self.surrogates.learn(state.surrogate, expected, first.response, target, is_learned)
        return surrogate, target, {"surrogate_loss": loss}

    def _td_loss(
        self, outcomes: Outcomes, chosen: Array, target: Array, is_learned: Array
    ) -> tuple[Array, dict[str, Array]]:
        q_tm1 = jnp.concatenate([outcomes.values, outcomes.nothing[:, None]], axis=-1)
        error = target[:, None] - q_tm1
        each = lambda x: masked_mean(jnp.sum(chosen * x, axis=-1), is_learned)  # noqa: E731
        value = each(TD_LOSSES[self.loss](error))
        return value, {"loss": value, "td_error": each(jnp.abs(error)), "q_value": each(q_tm1)}

    def _targets(self, state: SlateQState, steps: Step) -> Array:
        """``f32[B]``: the reward of all slots, and what the best next slate is worth."""
        discount, rewards = state.hparams.discount, steps.reward.sum(-1)
        r_t, discount_t, last = n_step_return(rewards, steps.terminated, steps.truncated, discount)
        o_t = seen_after(steps, last)
        slate = self.select(state, o_t).best
        assert slate is not None
        return r_t + discount_t * slate_value(self._choices(state.target_params, o_t, state.items), slate)

    def _choices(self, params: PyTree, observation: Observation, items: Items) -> Choices:
        found: Any = self.network.apply(params, observation, items, method="choices")
        return found


def chosen_shares(click: Array, shown: Array) -> Array:
    """How often each slot, and at last nothing, was chosen: ``f32[B, K + 1]``, 1 in all.

    Args:
      click: ``f32[B, K]``, 1 where a slot was clicked.
      shown: ``bool[B, K]``, where a slot shows an item.

    >>> chosen_shares(jnp.array([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]), jnp.ones((3, 2), bool)).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
    """
    click = jnp.where(shown, click, 0.0)
    count = jnp.sum(click, axis=-1, keepdims=True)
    return jnp.concatenate([click / jnp.maximum(count, 1.0), (count == 0).astype(click.dtype)], axis=-1)


def choice_cross_entropy(odds: Array, shown: Array, chosen: Array) -> Array:
    """The cross-entropy ``f32[B]`` of choices from slates, a conditional logit model with nothing at logit 0.

    Args:
      odds: ``f32[B, K]`` logits.
      shown: ``bool[B, K]``.
      chosen: ``f32[B, K + 1]``, see :func:`chosen_shares`.
    """
    logits = jnp.concatenate([jnp.where(shown, odds, -jnp.inf), jnp.zeros_like(odds[:, :1])], axis=-1)
    is_possible = jnp.concatenate([shown, jnp.ones_like(shown[:, :1])], axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(is_possible, chosen * logits, 0.0), axis=-1)
