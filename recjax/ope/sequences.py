"""Estimators of what a policy would earn in an episode, from episodes that another policy served.

Each takes a :class:`Feedback` of ``[n, T]`` and returns ``f32[n]`` contributions of episodes, whose mean is the
estimate (see :mod:`recjax.ope.bandits`). Rewards after the end of an episode are 0 and weights 1, as :func:`feedback`
makes them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.ope.bandits import needed, weighted_mean
from recjax.ope.feedback import Feedback
from recjax.types import Array


def tis(feedback: Feedback, discount: Array | float = 1.0) -> Array:
    """Trajectory-wise importance sampling: the return times the weight of the whole episode.

    References:
      Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000.
    """
    return feedback.weight.prod(1) * (_powers(feedback, discount) * feedback.reward).sum(1)


def pdis(feedback: Feedback, discount: Array | float = 1.0) -> Array:
    """Per-decision importance sampling: each reward times the weight of what led to it, ``sum γ^t ρ_t r_t``.

    References:
      Precup, Sutton, Singh, ICML 2000.

    >>> pdis(Feedback(jnp.array([[1.0, 1.0]]), jnp.array([[2.0, 0.5]])), discount=0.5).tolist()
    [2.5]
    """
    return (_powers(feedback, discount) * cumulative_weight(feedback) * feedback.reward).sum(1)


def sn_pdis(feedback: Feedback, discount: Array | float = 1.0) -> Array:
    """Self-normalised per-decision importance sampling: the weights of each step sum to the number of episodes.

    References:
      Precup, Sutton, Singh, ICML 2000; Thomas, "Safe Reinforcement Learning", 2015, section 3.
    """
    steps = weighted_mean(cumulative_weight(feedback), feedback.reward)
    return (_powers(feedback, discount) * steps).sum(1)


def sequential_dr(feedback: Feedback, discount: Array | float = 1.0) -> Array:
    """Doubly robust over an episode: ``sum γ^t (ρ_t (r_t - q_t) + ρ_{t-1} v_t)``.

    References:
      Jiang, Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning", ICML 2016.
    """
    rho = cumulative_weight(feedback)
    rho_tm1 = jnp.concatenate([jnp.ones_like(rho[:, :1]), rho[:, :-1]], axis=1)
    correction = rho * (feedback.reward - needed(feedback, "predicted"))
    return (_powers(feedback, discount) * (correction + rho_tm1 * needed(feedback, "expected"))).sum(1)


def marginalised(feedback: Feedback, state: Array, num_states: int, discount: Array | float = 1.0) -> Array:
    """Marginalised importance sampling over a finite set of states: ``sum γ^t (d_π(s_t) / d_b(s_t)) w_t r_t``.

    How often the policy would be in each state, ``d_π``, follows step by step from the log, so weights do not multiply
    up over the episode. The spread of contributions takes the ratio ``d_π / d_b`` as known.

    Args:
      feedback: ``[n, T]``; ``weight`` depends on the state alone.
      state: ``i32[n, T]`` from 0, and below 0 after the end.
      num_states: how many there are.
      discount: γ.

    References:
      Xie, Ma, Wang, "Towards Optimal Off-Policy Evaluation for Reinforcement Learning with Marginalized Importance
      Sampling", NeurIPS 2019.
    """
    count = state.shape[0]
    state = jnp.where(state < 0, num_states, state).T

    def shares(of: Array, weight: Array | float) -> Array:
        return jnp.zeros(num_states + 1).at[of].add(weight) / count

    def step(reached: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        state_tm1, state_t, weight = now
        # The policy is where its own steps lead, of what the log has.
        rho = reached[state_tm1] / shares(state_tm1, 1.0)[state_tm1] * weight
        return shares(state_t, rho), rho

    after = jnp.concatenate([state[1:], state[-1:]])
    _, rho = jax.lax.scan(step, shares(state[0], 1.0), (state, after, feedback.weight.T))
    return (_powers(feedback, discount) * rho.T * feedback.reward).sum(1)


def cumulative_weight(feedback: Feedback) -> Array:
    """``f32[n, T]``: the weight of all that was shown up to each step."""
    return jnp.cumprod(feedback.weight, axis=1)


def _powers(feedback: Feedback, discount: Array | float) -> Array:
    """``f32[1, T]``: γ^t."""
    return discount ** jnp.arange(feedback.reward.shape[1])[None]
