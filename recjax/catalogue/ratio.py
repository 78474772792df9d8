"""The slate that maximises a ratio of sums: the best one for a user who chooses among its items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from recjax.catalogue.block_scores import block_size_of
from recjax.catalogue.blocks import Rows
from recjax.catalogue.columns import best_rows, by_queries, scores_of
from recjax.catalogue.items import Catalogue, as_scorer
from recjax.catalogue.plan import Columns, plan_for
from recjax.catalogue.reduce import score_at
from recjax.catalogue.scorer import BlockScorer, Scorer, dense_scorer
from recjax.catalogue.search import MOST_BY_COLUMNS, argmax, top_k
from recjax.catalogue.shortlist import ITERATIONS, Shortlist, odds_of
from recjax.types import PAD_ID, Array, PyTree

SHORTLIST = 8
"""Items that a pass over the catalogue finds, or twice as many as a slate has."""

HELD = 2**22
"""Scores of a batch up to which all are held during a search: 16 MB each of odds and of values."""


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
    num_items = as_scorer(choices.odds[1]).num_items
    count = min(num_items, max(SHORTLIST, 2 * k))
    columns = _columns_for(choices, count)
    if columns is not None:
        return _best_by_columns(choices, k, count, exclude, columns)
    choices = _held(choices)

    def shorten(level: Array) -> tuple[Shortlist, Array]:
        gain, ids = top_k(*gains(choices, level), count, exclude=exclude)
        return _shortlist(choices, ids), gain[:, -1]

    value, slate = _search(shorten, choices.nothing, k, count == num_items)
    return value, slate.T


def _search(
    shorten: Callable[[Array], tuple[Shortlist, Array]], nothing: Array, k: int, is_all: bool
) -> tuple[Array, Array]:
    """The best slates by shortlists.

    Args:
      shorten: from a level to the items with the largest gains there, and the least of these gains.
      nothing: ``f32[B]``, the value of choosing nothing.
      k: items of a slate.
      is_all: whether a shortlist holds the whole catalogue.

    Returns:
      Their values ``f32[B]``, and their items ``i32[k, B]``.
    """

    def improve(state: _Best) -> _Best:
        some, last = shorten(state.value)
        value, slate, least = some.best(state.value, k)
        # Gains fall as the level rises, so what did not make the shortlist stays below its last.
        is_certain = (value >= state.value) & (least >= last) | is_all
        grown = (value > state.value) | (state.passes == 0)
        slate = jnp.where(grown[None], slate, state.slate)
        return _Best(jnp.where(grown, value, state.value), slate, is_certain | ~grown, state.passes + 1)

    # The first level is no slate's value; whatever it finds is taken.
    batch = nothing.shape[0]
    start = _Best(nothing, jnp.full((k, batch), PAD_ID, jnp.int32), jnp.zeros(batch, bool), jnp.int32(0))
    found = lax.while_loop(lambda state: jnp.any(~state.is_certain) & (state.passes < ITERATIONS), improve, start)
    return found.value, found.slate


class _Best(NamedTuple):
    """The best slate so far, its value, whether it is known to be the best of all, and how many passes there were."""

    value: Array
    slate: Array
    is_certain: Array
    passes: Array


def _columns_for(choices: Choices, count: int) -> Columns | None:
    """Sizes at which all scores of some users fit a cache, a column for each; None where that is not the fastest."""
    scorers = as_scorer(choices.odds[1]), as_scorer(choices.values[1])
    num_items = scorers[0].num_items
    columns = plan_for(num_items, choices.nothing.shape[0]).columns
    if columns is None or num_items > columns.items or count > MOST_BY_COLUMNS:
        return None
    return columns if all((each.block_size or num_items) >= num_items for each in scorers) else None


def _best_by_columns(
    choices: Choices, k: int, count: int, exclude: Array | None, columns: Columns
) -> tuple[Array, Array]:
    """:func:`best_slate` of some users at a time, whose scores stay in a cache from pass to pass."""
    scorers = as_scorer(choices.odds[1]), as_scorer(choices.values[1])
    everything = Rows(0, 0, scorers[0].num_items)

    def of_some(queries: tuple[PyTree, PyTree, Array], exclude: Array | None) -> tuple[Array, Array]:
        odds = odds_of(scores_of(queries[0], scorers[0], everything, None))
        values = scores_of(queries[1], scorers[1], everything, exclude)
        nothing = queries[2]

        def shorten(level: Array) -> tuple[Shortlist, Array]:
            gain, ids = best_rows(jnp.where(values == -jnp.inf, -jnp.inf, odds * (values - level[None])), count)
            own, worth = (jnp.take_along_axis(each, ids, axis=0, mode="clip") for each in (odds, values))
            return Shortlist.of(jnp.where(gain == -jnp.inf, PAD_ID, ids), own, worth, nothing), gain[-1]

        value, slate = _search(shorten, nothing, k, count == everything.size)
        return value, slate.T

    return by_queries(of_some, (choices.odds[0], choices.values[0], choices.nothing), exclude, columns)


def _held(choices: Choices) -> Choices:
    """The same with all scores held, if they are few, so that no pass computes them again."""
    both = [(queries, as_scorer(items)) for queries, items in (choices.odds, choices.values)]
    num_items = both[0][1].num_items
    if choices.nothing.shape[0] * num_items > HELD:
        return choices
    odds, values = (dense_scorer(scorer.score_block(queries, 0, num_items)) for queries, scorer in both)
    return choices._replace(odds=odds, values=values)


def _shortlist(choices: Choices, ids: Array) -> Shortlist:
    """The items ``i32[B, M]`` of each user."""
    known = jnp.maximum(ids, 0)
    return Shortlist.of(
        ids.T, odds_of(score_at(*choices.odds, known)).T, score_at(*choices.values, known).T, choices.nothing
    )


def slate_value(choices: Choices, slate: Array) -> Array:
    """The expected value ``f32[B]`` of slates ``i32[B, K]``; slots with ``PAD_ID`` cannot be chosen."""
    shown = _shortlist(choices, slate)
    return shown.ratio(shown.ids != PAD_ID)


def greedy_slate(choices: Choices, k: int, *, exclude: Array | None = None) -> Array:
    """A slate ``i32[B, k]`` to which the item is added that raises its value most, one after the other.

    The arguments are those of :func:`best_slate`. Each item is a pass over the catalogue.
    """
    odds, values = as_scorer(choices.odds[1]), as_scorer(choices.values[1])

    def ratio(logits: Array, value: Array, worth: Array, weight: Array) -> Array:
        chance = odds_of(logits)
        return (worth[:, None] + chance * value) / (weight[:, None] + chance)

    slate = jnp.zeros((choices.nothing.shape[0], 0), jnp.int32)
    worth, weight = choices.nothing, jnp.ones_like(choices.nothing)
    for _ in range(k):
        scorer = _both(odds, values, ratio, choices)
        taken = slate if exclude is None else jnp.concatenate([exclude, slate], axis=-1)
        best = argmax((choices.odds[0], choices.values[0], worth, weight), scorer, exclude=taken)[:, None]
        one = jnp.maximum(best, 0)
        chance = jnp.where(best < 0, 0.0, odds_of(score_at(*choices.odds, one)))[:, 0]
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
        return odds_of(logits) * (value - level[:, None])

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
