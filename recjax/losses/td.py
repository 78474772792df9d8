"""Temporal-difference errors, what is made of them, and n-step returns: pure functions of batches.

Names follow the field: the suffixes ``tm1`` and ``t`` say on which step a value was
generated. The discount ``discount_t`` is zero where the episode terminated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from recjax.types import Array

TD_LOSSES: dict[str, Callable[[Array], Array]] = {
    "huber": optax.losses.huber_loss,
    "mse": optax.losses.l2_loss,
}
"""Losses of a TD error ``δ``, element by element: ``mse`` is ``δ² / 2``, and ``huber`` the same up to ``|δ| = 1`` and
``|δ| - 1/2`` beyond, as in DQN."""


def td_error(q_tm1: Array, r_t: Array, discount_t: Array, v_t: Array) -> Array:
    """The temporal-difference error ``r_t + discount_t * v_t - q_tm1``, all of one shape.

    It is that of Q-learning where ``v_t`` is the largest value of the next state, as
    :func:`recjax.catalogue.max_score` gives it without an array of every item of every user,
    and that of double Q-learning where it is the target network's value
    (:func:`recjax.catalogue.score_at`) of the item that the other network prefers
    (:func:`recjax.catalogue.argmax`). No gradient flows into the target.

    References:
      Watkins, Dayan, "Q-learning", Machine Learning 8, 1992; van Hasselt, Guez, Silver, "Deep
      Reinforcement Learning with Double Q-learning", AAAI 2016.

    >>> td_error(jnp.array([1.0]), jnp.array([1.0]), jnp.array([0.5]), jnp.array([2.0])).tolist()
    [1.0]
    """
    chex.assert_equal_shape([q_tm1, r_t, discount_t, v_t])
    return jax.lax.stop_gradient(r_t + discount_t * v_t) - q_tm1


def munchausen_reward(
    r_t: Array,
    log_policy_tm1: Array,
    *,
    temperature: Array | float = 0.03,
    scale: Array | float = 0.9,
    floor: Array | float = -1.0,
) -> Array:
    """``r_t + scale * clip(temperature * log_policy_tm1, floor, 0)``, the reward of Munchausen Q-learning.

    Args:
      r_t: ``f32[...]``.
      log_policy_tm1: ``f32[...]`` log-probability of the action under ``softmax(q / temperature)`` of the target
        network, which is ``score / temperature`` less :func:`recjax.catalogue.logsumexp` of the same.
      temperature: τ, above 0; the next value is ``τ logsumexp(q_t / τ)``.
      scale: weight of the log-probability.
      floor: below which it is cut, at most 0.

    References:
      Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", NeurIPS 2020.
    """
    chex.assert_equal_shape([r_t, log_policy_tm1])
    return r_t + scale * jnp.clip(temperature * log_policy_tm1, floor, 0.0)


def lambda_returns(r_t: Array, discount_t: Array, v_t: Array, lambda_: Array | float) -> Array:
    """The λ-return of every step of a sequence: ``G_t = r_t + discount_t * ((1 - λ) v_t + λ G_{t+1})``.

    The last step takes its whole bootstrap from ``v_t``. What ``v_t`` is tells the learner: the value of the next
    state (TD(λ)), of the action taken there (SARSA(λ)) or of the best one (Q(λ)). λ = 0 is the return of one
    step, λ = 1 that of all steps.

    Args:
      r_t: ``f32[..., T]`` rewards, oldest first.
      discount_t: ``f32[..., T]``, 0 where the episode terminated.
      v_t: ``f32[..., T]`` value after each step.
      lambda_: λ in [0, 1], a scalar that may be traced, or ``f32[..., T]``, one for each step.

    Returns:
      ``f32[..., T]``.

    References:
      Sutton, Barto, "Reinforcement Learning", 2nd ed., 2018, section 12.1.
    """
    chex.assert_equal_shape([r_t, discount_t, v_t])

    def back(after: Array, step: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        reward, discount, value, lambda_ = step
        now = reward + discount * ((1 - lambda_) * value + lambda_ * after)
        return now, now

    first = lambda x: jnp.moveaxis(x, -1, 0)  # noqa: E731
    each = r_t, discount_t, v_t, jnp.broadcast_to(lambda_, r_t.shape)
    _, returns = jax.lax.scan(back, v_t[..., -1], jax.tree.map(first, each), reverse=True)
    return jnp.moveaxis(returns, 0, -1)


class NStep(NamedTuple):
    """An n-step return: its rewards, its bootstrap and where it ends.

    Attributes:
      r_t: ``f32[...]`` the discounted sum of the rewards before the window or the episode
        ends.
      discount_t: ``f32[...]`` by which the value of the state after step ``last`` is
        multiplied; zero where that step terminated.
      last: ``i32[...]`` the last step of the window that belongs to the first episode.
    """

    r_t: Array
    discount_t: Array
    last: Array


def n_step_return(r_t: Array, terminated: Array, truncated: Array, discount: Array | float) -> NStep:
    """The n-step return of each window, which never runs past the end of an episode.

    With ``m = last + 1`` the number of steps up to and including the first that
    terminated or was truncated (``n`` if none did),

    ``G = r_1 + γ r_2 + … + γ^(m-1) r_m``, and the bootstrap counts ``γ^m`` unless step
    ``m`` terminated. A truncated episode goes on unseen, so it is bootstrapped from the
    observation after the step that was cut.

    Args:
      r_t: ``f32[..., n]`` rewards, oldest first.
      terminated: ``bool[..., n]``.
      truncated: ``bool[..., n]``.
      discount: γ, a scalar that may be traced.

    References:
      Sutton, Barto, "Reinforcement Learning", 2nd ed., 2018, section 7.1; Pardo et al.,
      "Time Limits in Reinforcement Learning", ICML 2018.

    >>> flags = jnp.array([False, False, False])
    >>> g, discount_t, last = n_step_return(jnp.array([1.0, 2.0, 4.0]), flags, flags.at[1].set(True), 0.5)
    >>> g.item(), discount_t.item(), last.item()
    (2.0, 0.25, 1)
    """
    chex.assert_equal_shape([r_t, terminated, truncated])
    n = r_t.shape[-1]
    done = terminated | truncated
    ended_before = jnp.cumsum(done, axis=-1) - done
    alive = ended_before == 0
    powers = jnp.asarray(discount, r_t.dtype) ** jnp.arange(n + 1)
    last = alive.sum(-1, dtype=jnp.int32) - 1
    ends = jnp.take_along_axis(terminated, last[..., None], axis=-1)[..., 0]
    return NStep(
        r_t=jnp.sum(jnp.where(alive, r_t, 0.0) * jnp.broadcast_to(powers[:n], r_t.shape), -1),
        discount_t=jnp.where(ends, 0.0, powers[last + 1]),
        last=last,
    )
