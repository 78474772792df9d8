"""Few items that each user chooses among: the slate of them that is worth most."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from recjax.catalogue.kernels import as_integers
from recjax.types import PAD_ID, Array

ITERATIONS = 8
"""Of the level that a slate has to beat. It grows at each; about three reach the optimum."""

LARGEST = 60.0
"""Odds against choosing nothing are cut at ``exp`` of it, so that their sums stay finite."""


def odds_of(logits: Array) -> Array:
    """How much more often each item is chosen than nothing."""
    return jnp.exp(jnp.minimum(logits, LARGEST))


class Shortlist(NamedTuple):
    """``M`` items of each user, a column for each, so that CPUs work on many users at once.

    Attributes:
      ids: ``i32[M, B]``, ``PAD_ID`` where there is none.
      odds: ``f32[M, B]`` of choosing each rather than nothing, 0 where there is none.
      values: ``f32[M, B]`` of what follows, 0 where there is none.
      nothing: ``f32[B]`` the value of choosing nothing.
    """

    ids: Array
    odds: Array
    values: Array
    nothing: Array

    @classmethod
    def of(cls, ids: Array, odds: Array, values: Array, nothing: Array) -> Shortlist:
        """A shortlist in which slots without an item count for nothing."""
        is_item = ids != PAD_ID
        return cls(ids, jnp.where(is_item, odds, 0.0), jnp.where(is_item, values, 0.0), nothing)

    def gains(self, level: Array) -> Array:
        """``f32[M, B]``, what each item adds to a slate that has to beat a level ``f32[B]``."""
        return jnp.where(self.ids == PAD_ID, -jnp.inf, self.odds * (self.values - level[None]))

    def ratio(self, shown: Array) -> Array:
        """What the slate of the items ``bool[M, B]`` is worth, ``f32[B]``."""
        odds = jnp.where(shown, self.odds, 0.0)
        return (jnp.sum(odds * self.values, axis=0) + self.nothing) / (jnp.sum(odds, axis=0) + 1.0)

    def best(self, level: Array, k: int) -> tuple[Array, Array, Array]:
        """The slate that is worth most.

        Args:
          level: ``f32[B]`` where the iteration begins.
          k: items of a slate.

        Returns:
          Its value ``f32[B]``, its items ``i32[k, B]``, those with the largest gains first, and the least gain.
        """

        def improve(_: Any, level: Array) -> Array:
            return self.ratio(ranks(self.gains(level)) < k)

        level = lax.fori_loop(0, ITERATIONS, improve, level)
        gains = self.gains(level)
        rank = ranks(gains)
        slate = jnp.sum(jnp.where(rank[None] == jnp.arange(k)[:, None, None], self.ids[None], 0), axis=1)
        least = jnp.min(jnp.where((rank < k) & (self.odds > 0), gains, jnp.inf), axis=0)
        return level, slate, least


def ranks(scores: Array) -> Array:
    """The rank of each score in its column, ``f32[M, B] -> i32[M, B]``: the largest has 0, and the first of equals.

    Every pair is compared: for few rows, that is faster than to sort.
    """
    keys, place = as_integers(scores), jnp.arange(len(scores))
    is_earlier = place[None, :, None] < place[:, None, None]
    is_before = (keys[None] > keys[:, None]) | ((keys[None] == keys[:, None]) & is_earlier)
    return jnp.sum(is_before, axis=1, dtype=jnp.int32)
