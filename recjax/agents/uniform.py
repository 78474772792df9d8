"""Uniform slates without repeats: drawn among what is allowed, and their probability."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from recjax.catalogue import distinct_ids
from recjax.prng import below
from recjax.types import PAD_ID, Array

FEW = 64
"""Items of a list that are compared one after the other."""


def fill_uniformly(key: Array, slate: Array, num_items: int, exclude: Array | None = None) -> Array:
    """Fills the empty slots of slates, uniformly without replacement.

    Items are drawn from those that are neither excluded nor in the slate. Memory is that
    of the lists, not of the catalogue.

    Args:
      key: a key of ``jax.random``.
      slate: ``i32[B, K]`` distinct items, ``PAD_ID`` where a slot is to be filled.
      num_items: items in the catalogue.
      exclude: ``i32[B, E]`` items not to draw, in any order, repeats and ``PAD_ID`` allowed.

    Returns:
      ``i32[B, K]``.
    """
    width = slate.shape[1] + (0 if exclude is None else exclude.shape[1])
    # Where at least half of the items are free, whatever the lists hold, two draws are enough on average.
    fill = _by_rejection if num_items >= 2 * width else _by_rank
    return fill(key, slate, num_items, exclude)


def num_allowed(num_items: int, batch: int, exclude: Array | None) -> Array:
    """How many items of the catalogue are not excluded, ``i32[B]``."""
    if exclude is None:
        return jnp.full(batch, num_items, jnp.int32)
    if exclude.shape[1] > FEW:
        return num_items - jnp.sum(distinct_ids(exclude, num_items) < num_items, axis=1, dtype=jnp.int32)
    ids = exclude.T
    earlier = jnp.tril(jnp.ones((len(ids), len(ids)), bool), -1)
    again = jnp.any((ids[:, None] == ids[None]) & earlier[:, :, None], axis=1)
    return num_items - jnp.sum((ids >= 0) & (ids < num_items) & ~again, axis=0, dtype=jnp.int32)


def uniform_log_prob(allowed: Array, slots: int) -> Array:
    """The log-probability of a uniform slate without repeats, ``f32[B]``, from ``allowed: i32[B]`` items."""
    left = allowed[:, None] - jnp.arange(slots)[None]
    return -jnp.sum(jnp.log(left.astype(jnp.float32)), axis=-1)


def _by_rejection(key: Array, slate: Array, num_items: int, exclude: Array | None) -> Array:
    """Draws again where an item is taken: given the other slots, each is uniform over what they leave.

    Slots are rows and users columns, so that all comparisons run along users.
    """
    slots = slate.shape[1]
    exclude = None if exclude is None else exclude.T

    def bits(round: Array) -> Array:
        return jax.random.bits(jax.random.fold_in(key, round), (slots, len(slate)))

    def draw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        filled, random, round = carry
        drawn, is_fair = below(random, num_items)
        empty = filled == PAD_ID
        taken = ~is_fair | _is_any_of(drawn, filled)
        if exclude is not None:
            taken |= _is_any_of(drawn, exclude)
        # Of slots that draw the same item, the first has it.
        for slot in range(1, slots):
            taken = taken.at[slot].set(
                taken[slot] | jnp.any((drawn[:slot] == drawn[slot][None]) & empty[:slot], axis=0)
            )
        # Bits for the next round stand ready in memory: XLA would compute them again for every comparison.
        return jnp.where(empty & ~taken, drawn, filled), bits(round + 1), round + 1

    start = slate.T, bits(jnp.int32(0)), jnp.int32(0)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0] == PAD_ID), draw, start)[0].T


def _is_any_of(ids: Array, lists: Array) -> Array:
    """Whether ``ids: i32[K, B]`` are in the lists ``i32[E, B]`` of their columns, ``bool[K, B]``."""
    if len(lists) > FEW:
        return jnp.any(ids[:, None] == lists[None], axis=1)
    # Written out, so that XLA compares many columns by one instruction.
    return functools.reduce(jnp.logical_or, (ids == row[None] for row in lists))


def _by_rank(key: Array, slate: Array, num_items: int, exclude: Array | None) -> Array:
    """Finds the ``r``-th free item by skipping the sorted taken ones: one draw a slot, however few are free."""
    width = slate.shape[1] + (0 if exclude is None else exclude.shape[1])
    ids = slate if exclude is None else jnp.concatenate([slate, exclude], axis=1)
    # What remains of a row is a sentinel that no rank reaches.
    taken = jnp.sort(distinct_ids(ids, num_items, fill=num_items + width), axis=1)

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
