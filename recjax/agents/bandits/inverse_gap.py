"""Slates by inverse gap weighting: the best item mostly, and another the more rarely, the worse it is said to be.

Of ``A`` items that may be shown, one that is said to earn ``Δ`` less than the best has the probability
``1 / (A + γ Δ)``, and the best all that is left. A slate is drawn slot by slot, each from what those above it leave.

References:
  Foster, Rakhlin, "Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles", ICML 2020; of slates,
  Sen et al., "Top-k eXtreme Contextual Bandits with Arm Hierarchy", ICML 2021.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.agents.base import Action
from recjax.agents.uniform import num_allowed
from recjax.catalogue import BlockScorer, Catalogue, argmax, as_scorer, block_size_of, logsumexp, sample, score_at
from recjax.types import PAD_ID, Array, PyTree


class Slot(NamedTuple):
    """How a slot is drawn, given those above it.

    Attributes:
      best: ``i32[B]`` the best item that is left.
      others: queries and catalogue of all items, whose scores are their log-probabilities unless they are the best.
      taken: ``i32[B, E]`` what is not drawn as one of the others.
      log_explored: ``f32[B]`` log-probability that it is not the best.
    """

    best: Array
    others: tuple[PyTree, BlockScorer]
    taken: Array
    log_explored: Array

    def log_prob(self, item: Array) -> Array:
        """The log-probability ``f32[B]`` of items ``i32[B]`` that are left."""
        of_other = score_at(*self.others, item[:, None])[:, 0]
        return jnp.where(item == self.best, jnp.log1p(-jnp.exp(self.log_explored)), of_other)


def draw(
    key: Array, queries: PyTree, items: Catalogue, slots: int, *, gamma: Array, exclude: Array | None = None
) -> Action:
    """Slates with their exact probabilities; ``extras["propensity"]`` is of each slot given those above it.

    Args:
      key: a PRNG key.
      queries: leading ``[B]``.
      items: the catalogue, whose scores are expected rewards.
      slots: ``K``.
      gamma: ``f32[B]`` γ, at least 0, which is uniform.
      exclude: ``i32[B, E]`` items not to show; at least ``K`` must be left.
    """

    def fill(shown: Array, one: tuple[Array, Array]) -> tuple[Array, Array]:
        place, own_key = one
        slot = _slot(queries, items, shown, gamma, exclude)
        whether_key, which_key = jax.random.split(own_key)
        other = sample(which_key, *slot.others, 1, exclude=slot.taken)[:, 0]
        explores = jnp.log(jax.random.uniform(whether_key, other.shape)) < slot.log_explored
        item = jnp.where(explores & (other != PAD_ID), other, slot.best)
        return shown.at[:, place].set(item), slot.log_prob(item)

    empty = jnp.full((len(gamma), slots), PAD_ID, jnp.int32)
    slate, each = jax.lax.scan(fill, empty, (jnp.arange(slots), jax.random.split(key, slots)))
    return Action(slate, jnp.sum(each, axis=0), {"propensity": jnp.exp(each).T})


def slot_log_probs(
    queries: PyTree, items: Catalogue, slate: Array, *, gamma: Array, exclude: Array | None = None
) -> Array:
    """The log-probability ``f32[B, K]`` with which :func:`draw` shows each item given those above it.

    Args:
      queries: see :func:`draw`.
      items: see :func:`draw`.
      slate: ``i32[B, K]`` distinct items that are not excluded.
      gamma: see :func:`draw`.
      exclude: see :func:`draw`.
    """

    def of_slot(place: Array) -> Array:
        above = jnp.where((jnp.arange(slate.shape[1]) < place)[None], slate, PAD_ID)
        return _slot(queries, items, above, gamma, exclude).log_prob(slate[:, place])

    return jax.lax.map(of_slot, jnp.arange(slate.shape[1])).T


def _slot(queries: PyTree, items: Catalogue, above: Array, gamma: Array, exclude: Array | None) -> Slot:
    """The slot below ``above: i32[B, K]``, padded with ``PAD_ID``."""
    taken = above if exclude is None else jnp.concatenate([exclude, above], axis=1)
    best = argmax(queries, items, exclude=taken)
    top = score_at(queries, items, best[:, None])[:, 0]
    scorer, left = as_scorer(items), num_allowed(as_scorer(items).num_items, len(best), taken).astype(jnp.float32)

    def log_prob(asked: Any, scores: Array) -> Array:
        _, top, left, gamma = asked
        gap = jnp.maximum(top[:, None] - scores, 0.0)
        return -jnp.log(left[:, None] + gamma[:, None] * gap)

    others = BlockScorer(
        lambda asked, start, size: log_prob(asked, scorer.score_block(asked[0], start, size)),
        scorer.num_items,
        lambda asked, ids: log_prob(asked, scorer.score_ids(asked[0], ids)),
        block_size_of(items, queries),
    )
    asked = queries, top, left, gamma
    taken = jnp.concatenate([taken, best[:, None]], axis=1)
    return Slot(best, (asked, others), taken, logsumexp(asked, others, exclude=taken))
