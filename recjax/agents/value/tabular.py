"""Q-learning and SARSA with a table: one value for every state and item."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax import replay
from recjax.agents.base import Agent, Update, register
from recjax.agents.exploration import ExplorationHyper
from recjax.agents.slates import SlatePolicy
from recjax.agents.state import check_problem, count_step, hyper_parameters
from recjax.agents.value.windows import check_discount
from recjax.catalogue import BlockScorer, as_scorer, dense_scorer, max_score, score_at
from recjax.losses import masked_mean, td_error
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, Step, shared, shown_items


@struct.dataclass
class TabularHyper(ExplorationHyper):
    """Hyper-parameters of tabular agents; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      step_size: how far a value moves towards its target at one update, in (0, 1].
    """

    discount: Array | float = 0.95
    step_size: Array | float = 0.1


@struct.dataclass
class TabularState:
    """Everything that a tabular agent carries from update to update.

    Attributes:
      table: ``f32[S, N]`` values.
      hparams: :class:`TabularHyper`.
      spec: static shape of the problem.
      acted: ``i32[]`` steps of the environment, by which exploration falls.
    """

    table: Array
    hparams: TabularHyper
    spec: Spec = struct.field(pytree_node=False)
    acted: Array = shared()


Scores = Callable[[TabularState, Observation], tuple[Array, BlockScorer]]
NextValue = Callable[[Scores, TabularState, Step], tuple[Array, Any]]
"""``(scores, state, window) -> (f32[B] value after its first step, whether it is known)``."""


def last_item(observation: Observation) -> Array:
    """The item that the user responded to last, ``i32[B]``; ``PAD_ID`` for users without history."""
    return observation.history[:, -1]


@register("q_learning")
def q_learning(
    state_fn: Callable[[Observation], Array] = last_item,
    num_states: int | None = None,
    *,
    discount: float = 0.95,
    step_size: float = 0.1,
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
) -> Agent:
    """Watkins's Q-learning over states that a function reads off the observation.

    Every shown slot is a transition of its own and the slate is the top K of a row, as in
    :func:`recjax.agents.dqn`. A batch is one step: all errors are those of the table before
    it, and the errors of a state and item that occur several times are averaged, so a value
    moves by ``step_size`` towards the mean of its targets and never overshoots it.

    Args:
      state_fn: ``(observation) -> i32[B]`` row of the table; -1 is the last row. By default
        the item that the user responded to last.
      num_states: rows of the table, by default ``num_items + 1``, the last for users
        without history.
      discount: default γ, in [0, 1].
      step_size: default step size, in (0, 1].
      policy: how slates follow from values; with ``exclude_history`` the maximum leaves out the items of
        the next history.

    Returns:
      The agent; ``init(..., params=...)`` takes a table ``f32[S, N]``. ``learn`` reports
      ``td_error`` (mean absolute) and ``q_value`` (mean of the shown items).

    Raises:
      ValueError: an argument outside its range; at ``init``, a table of another shape.

    References:
      Watkins, Dayan, "Q-learning", Machine Learning 8, 1992.
    """

    def best(scores: Scores, state: TabularState, experience: Step) -> tuple[Array, bool]:
        after = policy.choices(state.spec, *_after_first(experience, state, scores))
        return max_score(after.queries, after.items, exclude=after.exclude), True

    return _tabular(best, 1, state_fn, num_states, _hyper(discount, step_size, policy), policy)


@register("sarsa")
def sarsa(
    state_fn: Callable[[Observation], Array] = last_item,
    num_states: int | None = None,
    *,
    discount: float = 0.95,
    step_size: float = 0.1,
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
) -> Agent:
    """SARSA: the values of the policy that acts, exploration included, by what it shows next.

    As :func:`q_learning`, but the value of what comes next is that of the items that were shown there, and their
    mean where slates have several. Replay gives windows of two steps. The last step before a truncation has no next
    action, and is not learned from. The actions in replay are those of older policies; the less replay holds, the
    closer the values are to those of the present one.

    Args:
      state_fn: see :func:`q_learning`.
      num_states: see :func:`q_learning`.
      discount: default γ, in [0, 1].
      step_size: default step size, in (0, 1].
      policy: how slates follow from values.

    Returns:
      The agent, as :func:`q_learning`.

    Raises:
      ValueError: see :func:`q_learning`.

    References:
      Rummery, Niranjan, "On-line Q-learning using connectionist systems", 1994; Sutton, Barto, "Reinforcement
      Learning", 2nd ed., 2018, section 6.4.
    """

    def shown_next(scores: Scores, state: TabularState, experience: Step) -> tuple[Array, Array]:
        after = jax.tree.map(lambda x: x[:, 1], experience)
        ids = shown_items(after.slate, after.observation)
        values = score_at(*scores(state, after.observation), jnp.maximum(ids, 0))
        mean = jax.vmap(masked_mean)(values, ids != PAD_ID)
        return mean, experience.terminated[:, 0] | ~experience.truncated[:, 0]

    return _tabular(shown_next, 2, state_fn, num_states, _hyper(discount, step_size, policy), policy)


@register("expected_sarsa")
def expected_sarsa(
    state_fn: Callable[[Observation], Array] = last_item,
    num_states: int | None = None,
    *,
    discount: float = 0.95,
    step_size: float = 0.1,
    policy: SlatePolicy = SlatePolicy(),  # noqa: B008 (frozen)
) -> Agent:
    """Expected SARSA: the values of the policy that acts, by the mean over what it might show next.

    As :func:`q_learning`, but the value of what comes next is the mean of all items' values, weighted by the
    probabilities with which the policy would explore a slate of one. It learns from steps of any policy.

    Args:
      state_fn: see :func:`q_learning`.
      num_states: see :func:`q_learning`.
      discount: default γ, in [0, 1].
      step_size: default step size, in (0, 1].
      policy: how slates follow from values.

    Returns:
      The agent, as :func:`q_learning`.

    Raises:
      ValueError: see :func:`q_learning`.

    References:
      van Seijen et al., "A Theoretical and Empirical Analysis of Expected Sarsa", ADPRL 2009.
    """

    def expected(scores: Scores, state: TabularState, experience: Step) -> tuple[Array, bool]:
        observation, queries, items = _after_first(experience, state, scores)
        after = policy.choices(state.spec, observation, queries, items)
        _, log_prob = policy.functions(lambda state, observation: after)
        choices, users = as_scorer(after.items).num_items, len(experience.reward)
        slates = jnp.broadcast_to(jnp.arange(choices)[:, None, None], (choices, users, 1))
        chance = jnp.exp(jax.vmap(lambda slate: log_prob(state, observation, slate))(slates)).T
        values = score_at(after.queries, after.items, slates[:, :, 0].T)
        return jnp.sum(jnp.where(chance > 0, chance * values, 0.0), axis=1), True

    return _tabular(expected, 1, state_fn, num_states, _hyper(discount, step_size, policy), policy)


def _hyper(discount: float, step_size: float, policy: SlatePolicy) -> TabularHyper:
    check_discount(discount)
    if not 0 < step_size <= 1:
        raise ValueError(f"step_size is {step_size}; it must be in (0, 1].")
    return TabularHyper(discount=float(discount), step_size=float(step_size), **policy.hparams())


def _after_first(experience: Step, state: TabularState, scores: Scores) -> tuple[Observation, Array, BlockScorer]:
    """What was seen after the first step of windows, and its scores."""
    observation = jax.tree.map(lambda x: x[:, 0], experience.next_observation)
    return observation, *scores(state, observation)


def _tabular(
    next_value: NextValue,
    window: int,
    state_fn: Callable[[Observation], Array],
    num_states: int | None,
    defaults: TabularHyper,
    policy: SlatePolicy,
) -> Agent:
    """The agent of a table, whatever it takes for the value of what comes next."""

    def init(key: Array, spec: Spec, items: Items, hparams: Any = None, params: PyTree = None) -> TabularState:
        del key
        check_problem(spec, items, policy.exclude_history)
        shape = (spec.num_items + 1 if num_states is None else num_states, spec.num_items)
        if params is not None and jnp.shape(params) != shape:
            raise ValueError(f"The table to start from has shape {jnp.shape(params)}; it must be {shape}.")
        return TabularState(
            table=jnp.zeros(shape) if params is None else jnp.array(params, jnp.float32),
            hparams=hyper_parameters(hparams, defaults),
            acted=jnp.zeros((), jnp.int32),
            spec=spec,
        )

    def scores(state: TabularState, observation: Observation) -> tuple[Array, BlockScorer]:
        return dense_scorer(state.table[state_fn(observation)])

    def learn(key: Array, state: TabularState, batch: Batch) -> Update:
        del key
        step, hparams = jax.tree.map(lambda x: x[:, 0], batch.experience), state.hparams
        v_t, is_known = next_value(scores, state, batch.experience)
        v_t = jnp.where(step.terminated, 0.0, v_t)

        shown = shown_items(step.slate, step.observation)
        each_slot = lambda x: jnp.repeat(x, shown.shape[1])  # noqa: E731
        s_tm1, a_tm1 = each_slot(state_fn(step.observation) % state.table.shape[0]), shown.reshape(-1)
        q_tm1 = state.table[s_tm1, a_tm1]
        discount_t = jnp.broadcast_to(hparams.discount, q_tm1.shape)
        error = td_error(q_tm1, step.reward.reshape(-1), discount_t, each_slot(v_t))
        is_learned = (a_tm1 != PAD_ID) & each_slot(batch.valid & is_known)
        weights = is_learned.astype(jnp.float32)

        same = (s_tm1[:, None] == s_tm1[None]) & (a_tm1[:, None] == a_tm1[None])
        repeats = jnp.maximum(same.astype(jnp.float32) @ weights, 1.0)
        table = state.table.at[s_tm1, a_tm1].add(hparams.step_size * error * weights / repeats)
        metrics = {"td_error": masked_mean(jnp.abs(error), is_learned), "q_value": masked_mean(q_tm1, is_learned)}
        return Update(dataclasses.replace(state, table=table), metrics)

    act, log_prob = policy.functions(policy.select(scores))
    return Agent(init, act, learn, log_prob, scores, replay.uniform(window), defaults, count_step)
