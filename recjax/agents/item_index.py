"""Cached item vectors of an agent whose network learns, or None where they are computed at every use."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from recjax.catalogue import CachedIndex, ItemIndex, build_index, refresh
from recjax.nn import item_vectors
from recjax.types import Array, Items, PyTree


def cached_index(network: Any, params: PyTree, items: Items, every: int | None) -> CachedIndex | None:
    """The vectors of all items, if they are to be cached (``every`` is not None)."""
    return None if every is None else build_index(item_vectors(network, params, items), items.num_items)


def index_of(cached: CachedIndex | None) -> ItemIndex | None:
    """What :func:`recjax.nn.catalogue_scores` takes."""
    return None if cached is None else cached.index


def recomputed(
    cached: CachedIndex | None, network: Any, params: PyTree, items: Items, every: int | None, *touched: Array
) -> tuple[CachedIndex | None, dict[str, Array]]:
    """The cache after an update, and what ``learn`` reports of it.

    Args:
      cached: before.
      network: the module that makes the vectors.
      params: after the update.
      items: the features of all items.
      every: updates between full refreshes.
      *touched: integers of any shapes, items whose own rows the update changed.
    """
    if cached is None:
        return None, {}
    ids = jnp.concatenate([each.ravel() for each in touched])
    cached = refresh(cached, ids, item_vectors(network, params, items), every)
    return cached, {"index_age": cached.age.astype(jnp.float32), "index_drift": cached.drift}
