"""The slate that maximises a ratio of sums: the best one for a user who chooses among its items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from recjax.catalogue.block_scores import block_size_of
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.reduce import score_at
from recjax.catalogue.scorer import BlockScorer, Scorer, dense_scorer
from recjax.catalogue.search import argmax, top_k
from recjax.types import PAD_ID, Array, PyTree

ITERATIONS = 8
"""Most passes over the catalogue, and over a shortlist. The ratio grows at each; about three reach the optimum."""

SHORTLIST = 16
"""Items that a pass over the catalogue finds, or twice as many as a slate has. About as fast to find as five."""

HELD = 2**22
"""Scores of a batch up to which all are held during a search: 16 MB each of odds and of values."""

LARGEST = 60.0
"""Odds against choosing nothing are cut at ``exp`` of it, so that their sums stay finite."""


class Choices(NamedTuple):
    """What a user chooses among, and what each choice is worth.

    Attributes:
      odds: ``(queries, items)`` whose scores are the logits of choosing each item, less that of choosing nothing.
      values: ``(queries, items)`` whose scores are what follows when an item is chosen.
      nothing: ``f32[B]`` what follows when nothing is.
    """

    odds: tuple[PyTree, Catalogue]
    values: tuple[PyTree, Catalogue]
    nothing: Array


def best_slate(choices: Choices, k: int, *, exclude: Array | None = None) -> tuple[Array, Array]:
    """The slate of ``k`` items with the largest expected value under a user's choice.

    With odds ``s_i = exp(logit_i)`` of choosing item ``i`` rather than nothing, values ``v_i``, and ``v_0`` of nothing,
    the slate ``A`` maximises

    ``(sum_A s_i v_i + v_0) / (sum_A s_i + 1)``.

    For any ``λ`` the slate with the largest ``sum_A s_i (v_i - λ)`` is a top-k; with the ratio of that slate as the
    next ``λ``, the ratio grows until it is optimal (Dinkelbach's iteration). A pass over the catalogue finds the items
    with the largest terms at the level so far, and the iteration goes on among these. Terms fall as ``λ`` rises, so the
    slate is the best of all once its least term is at least the last of that shortlist; else another pass follows.

    Args:
      choices: what the user chooses among.
      k: items of a slate.
      exclude: ``i32[B, E]`` items not to show; ``PAD_ID`` is ignored. At least ``k`` items must be left.

    Returns:
      ``(value f32[B], slate i32[B, k])``, items in the order of ``s_i (v_i - λ)``, the largest first. The
      search has no gradient; :func:`slate_value` of its slate has one.

    References:
      Dinkelbach, "On nonlinear fractional programming", Management Science 13, 1967; Ie et al., "SlateQ", IJCAI 2019,
      who solve the same problem by a linear program.
    """

    choices = _held(choices)
    num_items = as_scorer(choices.odds[1]).num_items
    count = min(num_items, max(SHORTLIST, 2 * k))

    def improve(state: _Search) -> _Search:
        gain, ids = top_k(*gains(choices, state.value), count, exclude=exclude)
        value, slate, least = _best_of(_Shortlist.of(choices, ids), state.value, k)
        # Gains fall as the level rises, so what did not make the shortlist stays below its last.
        is_certain = (value >= state.value) & (least >= gain[:, -1]) | (count == num_items)
        grown = (value > state.value) | (state.passes == 0)
        slate = jnp.where(grown[:, None], slate, state.slate)
        return _Search(jnp.where(grown, value, state.value), slate, is_certain | ~grown, state.passes + 1)

    # The first level is no slate's value; whatever it finds is taken.
    batch = choices.nothing.shape[0]
    start = _Search(choices.nothing, jnp.full((batch, k), PAD_ID, jnp.int32), jnp.zeros(batch, bool), jnp.int32(0))
    found = lax.while_loop(lambda state: jnp.any(~state.is_certain) & (state.passes < ITERATIONS), improve, start)
    return found.value, _in_order(choices, found.value, found.slate)


def _held(choices: Choices) -> Choices:
    """The same with all scores held, if they are few, so that no pass computes them again."""
    both = [(queries, as_scorer(items)) for queries, items in (choices.odds, choices.values)]
    num_items = both[0][1].num_items
    if choices.nothing.shape[0] * num_items > HELD:
        return choices
    odds, values = (dense_scorer(scorer.score_block(queries, 0, num_items)) for queries, scorer in both)
    return choices._replace(odds=odds, values=values)


class _Search(NamedTuple):
    """The best slate so far, its value, whether it is known to be the best, and how many passes there were."""

    value: Array
    slate: Array
    is_certain: Array
    passes: Array


class _Shortlist(NamedTuple):
    """Some items of each user, ``[B, M]``: ids, odds and values; and the value of nothing, ``f32[B]``."""

    ids: Array
    odds: Array
    values: Array
    nothing: Array

    @classmethod
    def of(cls, choices: Choices, ids: Array) -> _Shortlist:
        is_item, known = ids != PAD_ID, jnp.maximum(ids, 0)
        odds = jnp.where(is_item, jnp.exp(jnp.minimum(score_at(*choices.odds, known), LARGEST)), 0.0)
        return cls(ids, odds, jnp.where(is_item, score_at(*choices.values, known), 0.0), choices.nothing)


def _best_of(some: _Shortlist, level: Array, k: int) -> tuple[Array, Array, Array]:
    """The best slate of a shortlist: its value, its items, and the least gain among them."""

    def improve(_: Any, level: Array) -> Array:
        odds, values, _ = _slate_at(some, level, k)
        return _ratio(odds, values, some.nothing)

    level = lax.fori_loop(0, ITERATIONS, improve, level)
    odds, values, place = _slate_at(some, level, k)
    least = jnp.min(jnp.where(odds > 0, odds * (values - level[:, None]), jnp.inf), axis=-1)
    return level, jnp.take_along_axis(some.ids, place, axis=-1), least


def _slate_at(some: _Shortlist, level: Array, k: int) -> tuple[Array, Array, Array]:
    """Odds, values and places ``[B, k]`` of the items with the largest gains at a level."""
    gain = jnp.where(some.ids == PAD_ID, -jnp.inf, some.odds * (some.values - level[:, None]))
    place = lax.top_k(gain, k)[1]
    odds, values = (jnp.take_along_axis(each, place, axis=-1) for each in (some.odds, some.values))
    return odds, values, place


def _in_order(choices: Choices, level: Array, slate: Array) -> Array:
    """A slate as a top-k of :func:`gains` has it."""
    scores = score_at(*gains(choices, level), jnp.maximum(slate, 0))
    order = jnp.argsort(jnp.where(slate == PAD_ID, jnp.inf, -scores), axis=-1, stable=True)
    return jnp.take_along_axis(slate, order, axis=-1)


def slate_value(choices: Choices, slate: Array) -> Array:
    """The expected value ``f32[B]`` of slates ``i32[B, K]``; slots with ``PAD_ID`` cannot be chosen."""
    shown = _Shortlist.of(choices, slate)
    return _ratio(shown.odds, shown.values, shown.nothing)


def _ratio(odds: Array, values: Array, nothing: Array) -> Array:
    """What a slate is worth, ``f32[B]``, by the odds and values ``f32[B, K]`` of its items."""
    return (jnp.sum(odds * values, axis=-1) + nothing) / (jnp.sum(odds, axis=-1) + 1.0)


def greedy_slate(choices: Choices, k: int, *, exclude: Array | None = None) -> Array:
    """A slate ``i32[B, k]`` to which the item is added that raises its value most, one after the other.

    The arguments are those of :func:`best_slate`. Each item is a pass over the catalogue.
    """
    odds, values = as_scorer(choices.odds[1]), as_scorer(choices.values[1])

    def ratio(logits: Array, value: Array, worth: Array, weight: Array) -> Array:
        chance = jnp.exp(jnp.minimum(logits, LARGEST))
        return (worth[:, None] + chance * value) / (weight[:, None] + chance)

    slate = jnp.zeros((choices.nothing.shape[0], 0), jnp.int32)
    worth, weight = choices.nothing, jnp.ones_like(choices.nothing)
    for _ in range(k):
        scorer = _both(odds, values, ratio, choices)
        taken = slate if exclude is None else jnp.concatenate([exclude, slate], axis=-1)
        best = argmax((choices.odds[0], choices.values[0], worth, weight), scorer, exclude=taken)[:, None]
        one = jnp.maximum(best, 0)
        chance = jnp.where(best < 0, 0.0, jnp.exp(jnp.minimum(score_at(*choices.odds, one), LARGEST)))[:, 0]
        worth, weight = worth + chance * score_at(*choices.values, one)[:, 0], weight + chance
        slate = jnp.concatenate([slate, best], axis=-1)
    return slate


def gains(choices: Choices, level: Array) -> tuple[PyTree, BlockScorer]:
    """``s_i (v_i - λ)`` of every item as ``(queries, items)``.

    Where ``λ`` is the value of the best slate, that slate is their top-k.

    Args:
      choices: what the user chooses among.
      level: ``f32[B]``, ``λ``. At 0 items are ranked by what they are expected to earn alone.
    """

    def gain(logits: Array, value: Array, level: Array) -> Array:
        return jnp.exp(jnp.minimum(logits, LARGEST)) * (value - level[:, None])

    scorer = _both(as_scorer(choices.odds[1]), as_scorer(choices.values[1]), gain, choices)
    return (choices.odds[0], choices.values[0], level), scorer


def ranked(slate: Array, num_items: int) -> tuple[Array, BlockScorer]:
    """A slate ``i32[B, K]`` as ``(queries, items)`` whose top-k it is; all other items score 0."""

    def of_block(slate: Array, start: Array | int, size: int) -> Array:
        return of_ids(slate, jnp.broadcast_to(start + jnp.arange(size), (len(slate), size)))

    def of_ids(slate: Array, ids: Array) -> Array:
        place = slate.shape[-1] - jnp.arange(slate.shape[-1], dtype=jnp.float32)
        return jnp.sum(jnp.where(ids[:, :, None] == slate[:, None, :], place[None, None], 0.0), axis=-1)

    return slate, BlockScorer(of_block, num_items, of_ids)


def _both(odds: Scorer, values: Scorer, combine: Callable[..., Array], choices: Choices) -> BlockScorer:
    """Scores ``combine(logits, values, *rest)`` of queries ``(of the odds, of the values, *rest)``."""

    def of_block(queries: tuple[Any, ...], start: Array | int, size: int) -> Array:
        own, worth, *rest = queries
        return combine(odds.score_block(own, start, size), values.score_block(worth, start, size), *rest)

    def of_ids(queries: tuple[Any, ...], ids: Array) -> Array:
        own, worth, *rest = queries
        return combine(odds.score_ids(own, ids), values.score_ids(worth, ids), *rest)

    size = min(block_size_of(odds, choices.odds[0]), block_size_of(values, choices.values[0]))
    return BlockScorer(of_block, odds.num_items, of_ids if odds.random_access and values.random_access else None, size)
