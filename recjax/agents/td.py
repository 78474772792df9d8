"""Temporal-difference errors and n-step returns: pure functions of batches.

Names follow the field: the suffixes ``tm1`` and ``t`` say on which step a value was
generated. The discount ``discount_t`` is zero where the episode terminated.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp

from recjax.types import Array


def td_error(q_tm1: Array, r_t: Array, discount_t: Array, v_t: Array) -> Array:
    """``r_t + discount_t * v_t - q_tm1``, all of one shape.

    Agents over a catalogue take ``v_t`` from :func:`recjax.catalogue.max_score`, so that
    no array holds every item of every user.
    """
    chex.assert_equal_shape([q_tm1, r_t, discount_t, v_t])
    return r_t + discount_t * v_t - q_tm1


def q_learning(q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array) -> Array:
    """Q-learning errors where the values of all actions are at hand.

    Args:
      q_tm1: ``f32[..., A]`` values of all actions before acting.
      a_tm1: ``i32[...]`` the actions taken.
      r_t: ``f32[...]`` rewards.
      discount_t: ``f32[...]``.
      q_t: ``f32[..., A]`` values of all actions afterwards.

    Returns:
      ``f32[...]``.

    References:
      Watkins, Dayan, "Q-learning", Machine Learning 8, 1992.

    >>> q_learning(jnp.array([1.0, 1.0]), jnp.array(0), jnp.array(1.0), jnp.array(0.5), jnp.array([0.0, 2.0])).item()
    1.0
    """
    return td_error(_pick(q_tm1, a_tm1), r_t, discount_t, q_t.max(-1))


def double_q_learning(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t_value: Array, q_t_selector: Array
) -> Array:
    """Double Q-learning errors: one network selects the next action, another values it.

    Args:
      q_tm1: ``f32[..., A]`` values of all actions before acting.
      a_tm1: ``i32[...]`` the actions taken.
      r_t: ``f32[...]`` rewards.
      discount_t: ``f32[...]``.
      q_t_value: ``f32[..., A]`` values afterwards, of the network that values (the target).
      q_t_selector: ``f32[..., A]`` values afterwards, of the network that selects.

    Returns:
      ``f32[...]``.

    References:
      van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-learning",
      AAAI 2016.
    """
    return td_error(_pick(q_tm1, a_tm1), r_t, discount_t, _pick(q_t_value, q_t_selector.argmax(-1)))


class NStep(NamedTuple):
    """What a window of steps says of the value at its start.

    Attributes:
      r_t: ``f32[...]`` the discounted sum of the rewards before the window or the episode
        ends.
      discount_t: ``f32[...]`` what the value of the state after step ``last`` counts; zero
        where that step terminated.
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
    ends = _pick(terminated, last)
    return NStep(
        r_t=jnp.sum(jnp.where(alive, r_t, 0.0) * jnp.broadcast_to(powers[:n], r_t.shape), -1),
        discount_t=jnp.where(ends, 0.0, powers[last + 1]),
        last=last,
    )


def _pick(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
