"""Q-learning with a table: one value for every state and item."""

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
from recjax.catalogue import BlockScorer, dense_scorer, max_score
from recjax.losses import masked_mean, td_error
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, Observation, PyTree, Spec, shared, shown_items


@struct.dataclass
class TabularHyper(ExplorationHyper):
    """Hyper-parameters of :func:`q_learning`; scalars that may be traced, and mapped over seeds.

    Attributes:
      discount: γ.
      step_size: how far a value moves towards its target at one update, in (0, 1].
    """

    discount: Array | float = 0.95
    step_size: Array | float = 0.1


@struct.dataclass
class TabularState:
    """Everything that tabular Q-learning carries from update to update.

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
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}; it must be in [0, 1].")
    if not 0 < step_size <= 1:
        raise ValueError(f"step_size is {step_size}; it must be in (0, 1].")
    defaults = TabularHyper(discount=float(discount), step_size=float(step_size), **policy.hparams())

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
        o_t = step.next_observation
        after = policy.choices(state.spec, o_t, *scores(state, o_t))
        v_t = max_score(after.queries, after.items, exclude=after.exclude)
        discount_t = jnp.where(step.terminated, 0.0, hparams.discount)

        shown = shown_items(step.slate, step.observation)
        slots = shown.shape[1]
        each_slot = lambda x: jnp.repeat(x, slots)  # noqa: E731
        s_tm1, a_tm1 = each_slot(state_fn(step.observation) % state.table.shape[0]), shown.reshape(-1)
        q_tm1 = state.table[s_tm1, a_tm1]
        error = td_error(q_tm1, step.reward.reshape(-1), each_slot(discount_t), each_slot(v_t))
        is_learned = (a_tm1 != PAD_ID) & each_slot(batch.valid)
        weights = is_learned.astype(jnp.float32)

        same = (s_tm1[:, None] == s_tm1[None]) & (a_tm1[:, None] == a_tm1[None])
        repeats = jnp.maximum(same.astype(jnp.float32) @ weights, 1.0)
        table = state.table.at[s_tm1, a_tm1].add(hparams.step_size * error * weights / repeats)
        metrics = {"td_error": masked_mean(jnp.abs(error), is_learned), "q_value": masked_mean(q_tm1, is_learned)}
        return Update(dataclasses.replace(state, table=table), metrics)

    act, log_prob = policy.functions(lambda state, seen: policy.choices(state.spec, seen, *scores(state, seen)))
    return Agent(init, act, learn, log_prob, scores, replay.uniform(), defaults, count_step)
