"""TD errors under the field's names, where the values of all actions are an array.

They suit tables and small catalogues. For a big one the next value is a reduction over items, and the error is
:func:`recjax.losses.td_error` of what :mod:`recjax.catalogue` returns: ``max_score`` (Q-learning), ``score_at`` of
``argmax`` (double), ``score_at`` of what is shown next (SARSA), ``logsumexp`` (Munchausen).

Values are ``f32[..., N]``, actions ``i32[...]``, everything else ``f32[...]``; so are the errors. No gradient
flows into targets.

>>> import jax.numpy as jnp
>>> q_tm1, q_t = jnp.array([0.0, 1.0]), jnp.array([2.0, 4.0])
>>> q_learning(q_tm1, jnp.array(1), jnp.array(1.0), jnp.array(0.5), q_t).item()
2.0
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.losses.td import munchausen_reward, td_error
from recjax.types import Array


def q_learning(q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array) -> Array:
    """``r_t + discount_t * max(q_t) - q_tm1[a_tm1]``.

    References:
      Watkins, Dayan, "Q-learning", Machine Learning 8, 1992.
    """
    return td_error(_at(q_tm1, a_tm1), r_t, discount_t, jnp.max(q_t, axis=-1))


def double_q_learning(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t_value: Array, q_t_selector: Array
) -> Array:
    """``r_t + discount_t * q_t_value[argmax(q_t_selector)] - q_tm1[a_tm1]``.

    References:
      van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016.
    """
    return td_error(_at(q_tm1, a_tm1), r_t, discount_t, _at(q_t_value, jnp.argmax(q_t_selector, axis=-1)))


def sarsa(q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array, a_t: Array) -> Array:
    """``r_t + discount_t * q_t[a_t] - q_tm1[a_tm1]``.

    References:
      Rummery, Niranjan, "On-line Q-learning using connectionist systems", 1994.
    """
    return td_error(_at(q_tm1, a_tm1), r_t, discount_t, _at(q_t, a_t))


def expected_sarsa(q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array, probs_a_t: Array) -> Array:
    """``r_t + discount_t * Σ probs_a_t * q_t - q_tm1[a_tm1]``, with the policy's probabilities ``f32[..., N]``.

    References:
      van Seijen et al., "A Theoretical and Empirical Analysis of Expected Sarsa", ADPRL 2009.
    """
    return td_error(_at(q_tm1, a_tm1), r_t, discount_t, jnp.sum(probs_a_t * q_t, axis=-1))


def persistent_q_learning(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array, action_gap_scale: Array | float
) -> Array:
    """Q-learning as if an action were repeated with probability ``action_gap_scale``, which widens action gaps.

    ``r_t + discount_t * ((1 - scale) * max(q_t) + scale * q_t[a_tm1]) - q_tm1[a_tm1]``.

    References:
      Bellemare et al., "Increasing the Action Gap", AAAI 2016.
    """
    v_t = (1 - action_gap_scale) * jnp.max(q_t, axis=-1) + action_gap_scale * _at(q_t, a_tm1)
    return td_error(_at(q_tm1, a_tm1), r_t, discount_t, v_t)


def munchausen_q_learning(
    q_tm1: Array,
    a_tm1: Array,
    r_t: Array,
    discount_t: Array,
    q_t: Array,
    target_q_tm1: Array,
    *,
    temperature: Array | float = 0.03,
    scale: Array | float = 0.9,
    floor: Array | float = -1.0,
) -> Array:
    """Soft Q-learning whose reward has the log-probability of the action added.

    With ``π = softmax(target_q_tm1 / τ)``, the target is ``r_t + scale * clip(τ log π(a_tm1), floor, 0)
    + discount_t * τ logsumexp(q_t / τ)``.

    Args:
      q_tm1: of the network that learns.
      a_tm1: actions.
      r_t: rewards.
      discount_t: 0 where the episode terminated.
      q_t: next values of the target network.
      target_q_tm1: values of the target network where ``a_tm1`` was taken.
      temperature: τ, above 0.
      scale: weight of the log-probability.
      floor: below which it is cut, at most 0.

    References:
      Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", NeurIPS 2020.
    """
    log_policy = _at(jax.nn.log_softmax(target_q_tm1 / temperature, axis=-1), a_tm1)
    reward = munchausen_reward(r_t, log_policy, temperature=temperature, scale=scale, floor=floor)
    return td_error(_at(q_tm1, a_tm1), reward, discount_t, temperature * jax.nn.logsumexp(q_t / temperature, axis=-1))


def _at(values: Array, actions: Array) -> Array:
    return jnp.take_along_axis(values, actions[..., None], axis=-1)[..., 0]
