"""One id, one item: what tells items of the same codes apart, and ids for items that come later."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from recjax.models.semantic_ids.ids import SemanticIds
from recjax.models.semantic_ids.quantize import residual_codes, sum_of_codes
from recjax.types import Array

Code = tuple[int, ...]


def with_extra_level(ids: SemanticIds, size: int = 256) -> SemanticIds:
    """Ids with one more level, which numbers the items of the same codes from 0, in the order of their ids.

    Args:
      ids: without an extra level.
      size: codes of the new level: how many items can share the others, later ones included.

    Raises:
      ValueError: ``ids`` have such a level already, or more than ``size`` items share their codes.

    References:
      Rajput et al. (TIGER), NeurIPS 2023, section 3.1.

    >>> ids = SemanticIds(codes=jnp.array([[3], [1], [3]]), codebooks=(jnp.zeros((4, 2)),))
    >>> with_extra_level(ids, size=2).codes.tolist()
    [[3, 0], [1, 0], [3, 1]]
    """
    _check_no_extra_level(ids)
    codes = _numbered(np.asarray(jax.device_get(ids.codes)), size)
    return dataclasses.replace(ids, codes=jnp.asarray(codes), extra_size=size)


def with_free_codes(ids: SemanticIds, vectors: Array) -> SemanticIds:
    """Ids of the same levels that no two items share: those that collide move to the nearest free codes.

    Of the items with the same codes the one nearest to what they stand for keeps them, the lowest id
    of equals. The others take the next nearest code of the last level that is free; where none is, the
    next nearest of the level before, and so on.

    Args:
      ids: without an extra level.
      vectors: ``f32[N, D]`` that they were made of.

    Raises:
      ValueError: ``ids`` have an extra level, there are more items than ids, or another number of vectors.
    """
    _check_no_extra_level(ids)
    latents = ids.encode(vectors)
    if len(latents) != ids.num_items:
        raise ValueError(f"There are {len(latents)} vectors, but ids of {ids.num_items} items; give one an item.")
    return dataclasses.replace(ids, codes=jnp.asarray(_moved(ids, ids.codes, latents, taken=())))


def append(ids: SemanticIds, vectors: Array) -> SemanticIds:
    """Ids with new items ``N, N + 1, …`` behind those that are there, which keep theirs.

    New vectors are quantised by the codebooks as they are, and collisions resolved as they were
    before: by the extra level, or by free codes.

    Args:
      ids: that no two items share.
      vectors: ``f32[M, D]`` of the new items.

    Raises:
      ValueError: items share ids already, or there is no id left for a new one.

    >>> ids = SemanticIds(codes=jnp.array([[0], [1]]), codebooks=(jnp.array([[0.0], [5.0], [9.0]]),))
    >>> append(ids, jnp.array([[5.5]])).codes.tolist()  # 1 is the nearest, but taken
    [[0], [1], [2]]
    """
    latents = ids.encode(vectors)
    known = np.asarray(jax.device_get(ids.codes))
    check_distinct(known)
    codes = residual_codes(latents, ids.codebooks)
    if ids.extra_size:
        both = np.concatenate([known[:, :-1], jax.device_get(codes)])
        return dataclasses.replace(ids, codes=jnp.asarray(_numbered(both, ids.extra_size)))
    added = _moved(ids, codes, latents, taken=map(tuple, known.tolist()))
    return dataclasses.replace(ids, codes=jnp.concatenate([ids.codes, jnp.asarray(added)]))


def check_distinct(codes: np.ndarray) -> None:
    """Checks that no two items have the same codes ``i32[N, levels]``.

    Raises:
      ValueError: two items that do.
    """
    order = np.lexsort(codes.T[::-1])
    same = np.flatnonzero((codes[order[1:]] == codes[order[:-1]]).all(axis=-1))
    if len(same):
        first, second = order[same[0]], order[same[0] + 1]
        raise ValueError(
            f"Items {first} and {second} have the same codes {codes[first].tolist()}, as have {len(same)} pairs of"
            " neighbours; tell them apart by with_extra_level or with_free_codes."
        )


def _check_no_extra_level(ids: SemanticIds) -> None:
    if ids.extra_size:
        raise ValueError(f"These ids have an extra level of {ids.extra_size} codes already; give those without.")


def _numbered(codes: np.ndarray, size: int) -> np.ndarray:
    """Codes and, behind them, how many items before each have the same."""
    _, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    number = np.empty(len(codes), codes.dtype)
    number[order] = np.arange(len(codes)) - np.searchsorted(group[order], group[order])
    if number.max() >= size:
        worst = codes[number.argmax()]
        raise ValueError(
            f"{number.max() + 1} items have the codes {worst.tolist()}, but the extra level has {size} codes;"
            " give it more, learn more levels or larger codebooks, or use with_free_codes."
        )
    return np.column_stack([codes, number])


def _moved(ids: SemanticIds, codes: Array, latents: Array, taken: Iterable[Code]) -> np.ndarray:
    """Codes ``i32[M, levels]`` of items, moved to free ones where others have theirs."""
    occupied, capacity = set(taken), math.prod(ids.level_sizes)
    if len(occupied) + len(codes) > capacity:
        raise ValueError(
            f"{len(occupied) + len(codes)} items need as many ids, but levels of {ids.level_sizes} codes make"
            f" {capacity}; learn more levels or larger codebooks."
        )
    error = jnp.sum((latents - sum_of_codes(codes, ids.codebooks)) ** 2, axis=-1)
    wanted, vectors, codebooks = jax.device_get((codes, latents, ids.codebooks))
    found = np.empty_like(wanted)
    for item in np.argsort(jax.device_get(error), kind="stable"):
        own = tuple(wanted[item].tolist())
        if own in occupied:
            own = next(code for code in _nearest_first(vectors[item], codebooks) if code not in occupied)
        occupied.add(own)
        found[item] = own
    return found


def _nearest_first(residual: np.ndarray, codebooks: Sequence[np.ndarray]) -> Iterator[Code]:
    """All codes, the nearest of every level first, the last level changing fastest."""
    if not codebooks:
        yield ()
        return
    square = ((residual - codebooks[0]) ** 2).sum(axis=-1)
    for code in np.argsort(square, kind="stable").tolist():
        for rest in _nearest_first(residual - codebooks[0][code], codebooks[1:]):
            yield (code, *rest)
