"""Slates from scores: greedy, ε-greedy, Boltzmann and uniform, each with its propensities.

An exploration is ``(key, queries, items, slate_size, *, hparams, step, exclude) -> (slate,
extras)`` with ``(queries, items)`` as the operations of :mod:`recjax.catalogue` take them
and ``extras["propensity"]: f32[B, K]``. Slates never repeat an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from recjax.agents.scores import excluded
from recjax.catalogue import (
    BlockScorer,
    Catalogue,
    as_scorer,
    block_size_of,
    distinct_ids,
    logsumexp,
    sample,
    score_at,
    top_k,
)
from recjax.fit import linear_decay
from recjax.registry import Registry
from recjax.types import PAD_ID, Array, Observation, PyTree

explorations: Registry = Registry("exploration")

Slate = tuple[Array, dict[str, Array]]


@struct.dataclass
class ExplorationHyper:
    """How much to explore; scalars that may be traced, and mapped over seeds.

    Attributes:
      epsilon_start: probability that a slot explores before the first update.
      epsilon_end: the same after ``epsilon_steps`` updates; linear in between.
      epsilon_steps: updates over which ε falls.
      temperature: of Boltzmann exploration, in units of the scores.
    """

    epsilon_start: Array | float = 0.3
    epsilon_end: Array | float = 0.05
    epsilon_steps: Array | int = 1000
    temperature: Array | float = 0.1


def exploration_fields(epsilon: float | tuple[float, float, int], temperature: float) -> dict[str, Any]:
    """Fields of :class:`ExplorationHyper` from a constant ε or ``(start, end, steps)``.

    Raises:
      ValueError: an ε outside [0, 1], negative steps, or a temperature that is not above 0.
    """
    start, end, steps = epsilon if isinstance(epsilon, tuple) else (epsilon, epsilon, 0)
    if not (0 <= start <= 1 and 0 <= end <= 1 and steps >= 0):
        raise ValueError(f"epsilon is {epsilon}; give a number in [0, 1], or (start, end, steps) with steps >= 0.")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
    return {
        "epsilon_start": float(start),
        "epsilon_end": float(end),
        "epsilon_steps": int(steps),
        "temperature": float(temperature),
    }


def greedy(queries: PyTree, items: Catalogue, slate_size: int, *, exclude: Array | None = None) -> Slate:
    """The best items, best first; propensity 1, because the policy is deterministic."""
    _, slate = top_k(queries, items, slate_size, exclude=exclude)
    return slate, {"propensity": jnp.ones(slate.shape, jnp.float32)}


@explorations.register("epsilon_greedy")
def epsilon_greedy(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    slate_size: int,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
) -> Slate:
    """The greedy slate with slots redrawn at random, without repeats.

    Every slot explores with probability ε, independently. Slots that do not explore keep
    their greedy item; those that do draw without replacement, uniformly from the allowed
    items that no slot keeps. With one slot this is the ε-greedy policy of the textbooks,
    and with ε = 1 a uniform slate.

    The propensity is the exact marginal probability, over all of this randomness, that
    the slot shows the item that it shows.

    Args:
      key: a key of ``jax.random``.
      queries: leading ``[B]``.
      items: the catalogue.
      slate_size: ``K``.
      hparams: the schedule of ε.
      step: ``i32[]`` updates done.
      exclude: ``i32[B, E]`` items not to show; ``PAD_ID`` is ignored. At least ``K`` items
        must be left.
    """
    epsilon = linear_decay(hparams.epsilon_start, hparams.epsilon_end, hparams.epsilon_steps)(step)
    num_items = as_scorer(items).num_items
    explore_key, draw_key = jax.random.split(key)
    _, best = top_k(queries, items, slate_size, exclude=exclude)
    explores = jax.random.bernoulli(explore_key, epsilon, best.shape)
    slate = fill_uniformly(draw_key, jnp.where(explores, PAD_ID, best), num_items, exclude)

    # How many of the other slots explore is binomial; every one widens the pool by its greedy item.
    allowed = num_allowed(num_items, best.shape[0], exclude)
    pool_drawn = _mean_inverse(allowed - (slate_size - 1), slate_size - 1, epsilon)
    # The greedy item of another slot can be drawn only when that slot explores as well.
    pool_freed = epsilon * _mean_inverse(allowed - (slate_size - 2), slate_size - 2, epsilon)
    is_own = slate == best
    is_other = (slate[:, :, None] == best[:, None, :]).any(-1) & ~is_own
    drawn = epsilon * jnp.where(is_other, pool_freed[:, None], pool_drawn[:, None])
    return slate, {"propensity": jnp.where(is_own, 1 - epsilon, 0.0) + drawn}


@explorations.register("boltzmann")
def boltzmann(
    key: Array,
    queries: PyTree,
    items: Catalogue,
    slate_size: int,
    *,
    hparams: ExplorationHyper,
    step: Array,
    exclude: Array | None = None,
) -> Slate:
    """A slate drawn without replacement from ``softmax(scores / temperature)``.

    The propensity of an item is its softmax probability among the allowed items: the
    exact probability of the first slot, and for later slots the one before they are
    conditioned on what was drawn above them.

    The arguments are those of :func:`epsilon_greedy`; ``step`` is not used.
    """
    del step
    slate = sample(key, queries, items, slate_size, temperature=hparams.temperature, exclude=exclude)
    scorer = as_scorer(items)

    def score_block(queries: PyTree, start: Array | int, size: int) -> Array:
        return scorer.score_block(queries, start, size) / hparams.temperature

    logits = BlockScorer(score_block, scorer.num_items, block_size=block_size_of(items, queries))
    shown = score_at(queries, items, slate) / hparams.temperature
    return slate, {"propensity": jnp.exp(shown - logsumexp(queries, logits, exclude=exclude)[:, None])}


def act_on_scores(
    scores: Callable[[PyTree, Observation], tuple[PyTree, Catalogue]], exploration: str, exclude_history: bool
) -> Callable:
    """How an agent acts that rates items: greedily, or by a named exploration.

    Args:
      scores: ``(state, observation) -> (queries, items)``.
      exploration: a name in ``explorations``.
      exclude_history: never show an item of the observed history.

    Returns:
      ``(key, state, observation, *, explore) -> (slate, extras)`` for states with fields
      ``spec``, ``hparams`` (:class:`ExplorationHyper`) and ``step``.

    Raises:
      ValueError: no exploration has that name.
    """
    explore_with = explorations[exploration]

    def act(key: Array, state: Any, observation: Observation, *, explore: bool) -> Slate:
        queries, items = scores(state, observation)
        exclude, slate_size = excluded(observation, exclude_history), state.spec.slate_size
        if not explore:
            return greedy(queries, items, slate_size, exclude=exclude)
        return explore_with(key, queries, items, slate_size, hparams=state.hparams, step=state.step, exclude=exclude)

    return act


def fill_uniformly(key: Array, slate: Array, num_items: int, exclude: Array | None = None) -> Array:
    """Fills the empty slots of slates, uniformly without replacement.

    Items are drawn from those that are neither excluded nor in the slate. Memory is that
    of the lists, not of the catalogue: the ``r``-th free item is found by skipping the
    sorted taken ones.

    Args:
      key: a key of ``jax.random``.
      slate: ``i32[B, K]`` distinct items, ``PAD_ID`` where a slot is to be filled.
      num_items: items in the catalogue.
      exclude: ``i32[B, E]`` items not to draw, in any order, repeats and ``PAD_ID`` allowed.

    Returns:
      ``i32[B, K]``.
    """
    taken = _sorted_distinct(slate if exclude is None else jnp.concatenate([slate, exclude], axis=1), num_items)
    width = taken.shape[1]

    def fill(taken: Array, slot: tuple[Array, Array]) -> tuple[Array, Array]:
        key, item = slot
        free = num_items - jnp.sum(taken < num_items, axis=1, dtype=jnp.int32)
        rank = jax.random.randint(key, item.shape, 0, free)
        # Below its i-th taken item the catalogue has `taken[i] - i` free ones.
        skipped = jnp.sum(taken - jnp.arange(width)[None] <= rank[:, None], axis=1, dtype=jnp.int32)
        empty = item == PAD_ID
        item = jnp.where(empty, rank + skipped, item)
        # An empty slot left a sentinel at the end, which the drawn item replaces.
        inserted = jnp.sort(taken.at[:, -1].set(item), axis=1)
        return jnp.where(empty[:, None], inserted, taken), item

    keys = jax.random.split(key, slate.shape[1])
    _, filled = jax.lax.scan(fill, taken, (keys, slate.T))
    return filled.T


def num_allowed(num_items: int, batch: int, exclude: Array | None) -> Array:
    """How many items of the catalogue are not excluded, ``i32[B]``."""
    if exclude is None:
        return jnp.full(batch, num_items, jnp.int32)
    return num_items - jnp.sum(_sorted_distinct(exclude, num_items) < num_items, axis=1, dtype=jnp.int32)


def _sorted_distinct(ids: Array, num_items: int) -> Array:
    """The distinct items of each row, sorted; what remains of the row is a sentinel no rank reaches."""
    return jnp.sort(distinct_ids(ids, num_items, fill=num_items + ids.shape[1]), axis=1)


def _mean_inverse(pool: Array, others: int, epsilon: Array) -> Array:
    """``E[1 / (pool + b)]`` for ``b ~ Binomial(others, ε)``, of the shape of ``pool``; 0 without such slots."""
    if others < 0:
        return jnp.zeros(pool.shape, jnp.float32)
    explore = jnp.arange(others + 1, dtype=jnp.float32)
    ways = jnp.asarray([math.comb(others, b) for b in range(others + 1)], jnp.float32)
    weights = ways * epsilon**explore * (1 - epsilon) ** (others - explore)
    return jnp.sum(weights[None] / (pool[:, None] + explore[None]), axis=1)
