"""Item vectors that an agent keeps while its network learns, or None where it makes them anew."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from recjax.catalogue import CachedIndex, ItemIndex, build_index, refresh
from recjax.nn import item_vectors
from recjax.types import Array, Items, PyTree


def keep(network: Any, params: PyTree, items: Items, every: int | None) -> CachedIndex | None:
    """The vectors of all items, if they are to be kept."""
    return None if every is None else build_index(item_vectors(network, params, items), items.num_items)


def at_hand(index: CachedIndex | None) -> ItemIndex | None:
    """What :func:`recjax.nn.catalogue_scores` takes."""
    return None if index is None else index.index


def refreshed(
    index: CachedIndex | None, network: Any, params: PyTree, items: Items, every: int | None, *touched: Array
) -> tuple[CachedIndex | None, dict[str, Array]]:
    """The index after an update, and what ``learn`` reports of it.

    Args:
      index: before.
      network: the module that makes the vectors.
      params: after the update.
      items: the features of all items.
      every: updates between full refreshes.
      *touched: integers of any shapes, items whose own rows the update changed.
    """
    if index is None:
        return None, {}
    ids = jnp.concatenate([each.ravel() for each in touched])
    index = refresh(index, ids, item_vectors(network, params, items), every)
    return index, {"index_age": index.age.astype(jnp.float32), "index_drift": index.drift}
