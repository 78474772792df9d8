"""How a user chooses in a slate: at once among all slots, or down the slots one by one.

Of a slate with scores ``x_1 .. x_K`` a user clicks at most one slot. Four models, named as in RecSim:

* :func:`multinomial_logit`: slot ``i`` with probability ``exp(x_i) / (sum_j exp(x_j) + exp(no_click))``;
* :func:`multinomial_proportional`: the same with weights ``x_i - min_normalizer`` in the place of ``exp(x_i)``, and
  ``no_click - min_normalizer`` of nothing;
* :func:`exponential_cascade`: slots from the top, each clicked if none above was, with probability
  ``c_i = attention * scaling * exp(x_i)``, so in all with ``c_i * prod_{j<i} (1 - c_j)``;
* :func:`proportional_cascade`: the same with ``c_i = attention * scaling * (x_i - min_normalizer)``.

>>> model = multinomial_proportional(no_click=1.0, min_normalizer=-1.0)
>>> chances = model.probabilities(jnp.array([0.0, 1.0, 0.5]), jnp.array([True, True, False]))
>>> [round(float(chance), 3) for chance in chances]
[0.2, 0.4, 0.0, 0.4]

References:
  Ie et al., "RecSim: a configurable simulation platform for recommender systems", arXiv 1909.04847, 2019; its
  ``choice_model.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.catalogue import Choices, best_slate, dense_scorer
from recjax.types import Array

IMPOSSIBLE = -1e30
"""Value of a slate that cannot be filled; finite, so that 0 times it is 0."""


class ChoiceModel(NamedTuple):
    """A user's choice in a slate.

    Attributes:
      probabilities: ``(scores f32[..., K], shown bool[..., K]) -> f32[..., K + 1]``, one a slot and last the one of no
        click; 0 of slots that are not shown, which users pass over.
      weights: ``f32[...] -> f32[...]``, what a score counts for: of multinomial models in proportion to what the
        slot is chosen, of cascades the probability that it is clicked once it is looked at.
      best_slate: ``(scores f32[B, M], values f32[B, M], nothing f32[B], slots) -> i32[B, slots]``: the positions of
        the slate with the largest expected value, where a click on ``j`` is worth ``values[j]`` and no click
        ``nothing``. Exact, without looking at all slates.
    """

    probabilities: Callable[[Array, Array], Array]
    weights: Callable[[Array], Array]
    best_slate: Callable[[Array, Array, Array, int], Array]


def draw(weights: Array, uniform: Array) -> Array:
    """Index drawn in proportion to weights over their last axis, by inverting the distribution function.

    One uniform number a draw, where Gumbel noise needs one a weight: random bits are most of what a step costs.

    Args:
      weights: ``f32[..., M]``, at least 0; one of 0 is never drawn.
      uniform: ``f32[...]`` in [0, 1).
    """
    cumulative = jnp.cumsum(weights, axis=-1)
    # Rounding may leave the total short of what it should be, so the uniform number is a share of the total.
    return jnp.sum(cumulative <= uniform[..., None] * cumulative[..., -1:], axis=-1)


def multinomial_logit(no_click: float) -> ChoiceModel:
    """Chosen in proportion to ``exp(score)``.

    Args:
      no_click: the score of nothing.

    Raises:
      ValueError: ``no_click`` is not finite.
    """
    if not math.isfinite(no_click):
        raise ValueError(f"no_click is {no_click}; it must be a finite score, such as -20 for users who always choose.")

    def probabilities(scores: Array, shown: Array) -> Array:
        return jax.nn.softmax(_beside(jnp.where(shown, scores, -jnp.inf), no_click))

    return ChoiceModel(probabilities, jnp.exp, partial(_best_choice, lambda scores: scores - no_click))


def multinomial_proportional(no_click: float, min_normalizer: float) -> ChoiceModel:
    """Chosen in proportion to ``score - min_normalizer``; lower scores than ``min_normalizer`` count as it.

    Args:
      no_click: the score of nothing.
      min_normalizer: the score that is never chosen.

    Raises:
      ValueError: ``no_click`` is not above ``min_normalizer``.
    """
    if not no_click > min_normalizer:
        raise ValueError(f"no_click is {no_click} and min_normalizer {min_normalizer}; no_click must be the larger.")

    def weights(scores: Array) -> Array:
        return jnp.maximum(scores - min_normalizer, 0.0)

    def probabilities(scores: Array, shown: Array) -> Array:
        found = _beside(jnp.where(shown, weights(scores), 0.0), no_click - min_normalizer)
        return found / jnp.sum(found, axis=-1, keepdims=True)

    def log_odds(scores: Array) -> Array:
        return jnp.log(weights(scores) / (no_click - min_normalizer))

    return ChoiceModel(probabilities, weights, partial(_best_choice, log_odds))


def exponential_cascade(attention: float, scaling: float) -> ChoiceModel:
    """Looked at from the top, and clicked with probability ``attention * scaling * exp(score)``, at most 1.

    Args:
      attention: probability of looking at a slot when none above was clicked.
      scaling: makes probabilities of scores.

    Raises:
      ValueError: ``attention`` is no probability, or ``scaling`` negative.
    """
    _check_cascade(attention, scaling)
    return _cascade(lambda scores: jnp.minimum(scaling * jnp.exp(scores), 1.0) * attention)


def proportional_cascade(attention: float, scaling: float, min_normalizer: float) -> ChoiceModel:
    """Looked at from the top, and clicked with probability ``attention * scaling * (score - min_normalizer)``.

    Args:
      attention: probability of looking at a slot when none above was clicked.
      scaling: makes probabilities of scores; what lies outside [0, 1] is cut.
      min_normalizer: the score that is never clicked.

    Raises:
      ValueError: ``attention`` is no probability, or ``scaling`` negative.
    """
    _check_cascade(attention, scaling)
    return _cascade(lambda scores: jnp.clip(scaling * (scores - min_normalizer), 0.0, 1.0) * attention)


def _check_cascade(attention: float, scaling: float) -> None:
    if not 0 <= attention <= 1:
        raise ValueError(f"attention is {attention}; it must be a probability, in [0, 1].")
    if not scaling >= 0:
        raise ValueError(f"scaling is {scaling}; it must be at least 0.")


def _beside(slots: Array, nothing: float) -> Array:
    return jnp.concatenate([slots, jnp.full_like(slots[..., :1], nothing)], axis=-1)


def _best_choice(log_odds: Callable[[Array], Array], scores: Array, values: Array, nothing: Array, slots: int) -> Array:
    return best_slate(Choices(dense_scorer(log_odds(scores)), dense_scorer(values), nothing), slots)[1]


def _cascade(chances: Callable[[Array], Array]) -> ChoiceModel:
    def probabilities(scores: Array, shown: Array) -> Array:
        chance = jnp.where(shown, chances(scores), 0.0)
        reached = jnp.cumprod(_before(1.0 - chance), axis=-1)
        return jnp.concatenate([chance, jnp.ones_like(chance[..., :1])], axis=-1) * reached

    def best(scores: Array, values: Array, nothing: Array, slots: int) -> Array:
        return _best_cascade(chances(scores), values, nothing, slots)

    return ChoiceModel(probabilities, chances, best)


def _before(missed: Array) -> Array:
    """``f32[..., K + 1]``: what has been missed before each slot and before no click."""
    return jnp.concatenate([jnp.ones_like(missed[..., :1]), missed], axis=-1)


def _best_cascade(chances: Array, values: Array, nothing: Array, slots: int) -> Array:
    """The best ``slots`` of ``M`` in the best order, ``i32[B, slots]``.

    Of any slots the best order is that of falling values: exchanging neighbours ``i`` above ``j`` changes the expected
    value by ``c_i c_j (v_j - v_i)``. So candidates are gone through in that order, from the worst upwards: the best of
    ``k`` slots among those from ``i`` on has ``i`` on top, or does without.
    """
    order = jnp.argsort(-values, axis=-1, stable=True)
    by_value = tuple(jnp.take_along_axis(x, order, axis=-1).T[:, :, None] for x in (chances, values))

    def above(below: Array, candidate: tuple[Array, ...]) -> tuple[Array, Array]:
        """``below: f32[B, slots + 1]`` best values of 0, 1, .. slots among the candidates that come after."""
        chance, value = candidate
        on_top = chance * value + (1.0 - chance) * below[:, :-1]
        is_taken = on_top >= below[:, 1:]
        return jnp.concatenate([below[:, :1], jnp.maximum(on_top, below[:, 1:])], axis=1), is_taken

    def fill(left: Array, is_taken: Array) -> tuple[Array, Array]:
        taken = (left > 0) & jnp.take_along_axis(is_taken, jnp.maximum(left - 1, 0)[:, None], axis=1)[:, 0]
        return left - taken, taken

    empty = jnp.full((nothing.shape[0], slots), IMPOSSIBLE)
    _, is_taken = jax.lax.scan(above, jnp.concatenate([nothing[:, None], empty], axis=1), by_value, reverse=True)
    _, taken = jax.lax.scan(fill, jnp.full(nothing.shape, slots), is_taken)
    first = jnp.argsort(~taken.T, axis=-1, stable=True)[:, :slots]
    return jnp.take_along_axis(order, first, axis=-1)
