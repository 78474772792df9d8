"""Augmentations of histories, whose results are the views of contrastive learning.

An augmentation is ``(key, history i32[B, L], ...) -> i32[B, L]``. Histories come and go padded
on the left with ``PAD_ID``; every row draws for itself; an empty one stays empty. ``share`` is
a Python number in [0, 1], and a history of ``n`` events has ``⌈share · n⌉`` of them kept,
masked, shuffled, substituted or inserted before. The sources round down, by which short
histories would stay as they are; to leave those alone is for the caller to say.

>>> key, history = jax.random.key(0), jnp.array([[PAD_ID, PAD_ID, 3, 1, 4, 0]])
>>> similar = jnp.array([1, PAD_ID, 0, 2, 3])
>>> substitute(key, history, share=1.0, similar=similar).tolist()
[[-1, -1, 2, 1, 3, 1]]
>>> insert(key, history, share=1.0, similar=similar).tolist()
[[3, 1, 3, 4, 1, 0]]
>>> first, second = two_views(key, history, ["crop", "mask", "reorder"], mask_id=5)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.registry import Registry
from recjax.types import PAD_ID, Array

Augmentation = Callable[[Array, Array], Array]
"""``(key, history i32[B, L]) -> i32[B, L]``, padded on the left, with each row drawn on its own."""


@dataclasses.dataclass(frozen=True)
class NamedAugmentation:
    """An augmentation that can be named, and the options that it takes from :func:`two_views`.

    Attributes:
      augment: ``(key, history, **options) -> history``.
      needs: names of options that it must be given.
      takes: names of further options.
    """

    augment: Callable[..., Array]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def __call__(self, key: Array, history: Array, *args: Any, **options: Any) -> Array:
        """See ``augment``."""
        return self.augment(key, history, *args, **options)


augmentations: Registry[NamedAugmentation] = Registry("augmentation")
"""Augmentations by the names that :func:`two_views` and ``SequenceConfig.views`` take."""


def crop(key: Array, history: Array, share: float = 0.6) -> Array:
    """Keeps a contiguous part of every history, any of them with equal probability.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: of the events that is kept; at least one event is.

    Returns:
      ``i32[B, L]``, the part at the right end.

    Raises:
      ValueError: ``share`` is outside [0, 1], or ``history`` is no integer matrix.

    References:
      Xie et al., "Contrastive Learning for Sequential Recommendation" (CL4SRec), ICDE 2022.
    """

    def row(key: Array, events: Array) -> Array:
        place = jnp.arange(len(events))
        size = jnp.maximum(_count(events, share), (events != PAD_ID).any())
        first = _first_of_part(key, events, size)
        start = len(events) - size
        return jnp.where(place >= start, jnp.roll(events, start - first), PAD_ID)

    return _by_row(row, key, history, share)


def mask(key: Array, history: Array, share: float = 0.3, *, mask_id: int) -> Array:
    """Puts ``mask_id`` in the place of events drawn without replacement.

    A history of one event becomes the mask alone, which says nothing of its user.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: of the events that is masked.
      mask_id: the item that says so, such as ``num_items``, the row of unknown items.

    Returns:
      ``i32[B, L]``.

    Raises:
      ValueError: ``mask_id`` is below 0; and see :func:`crop`.

    References:
      Xie et al., "Contrastive Learning for Sequential Recommendation" (CL4SRec), ICDE 2022.
    """
    if mask_id < 0:
        raise ValueError(f"mask_id is {mask_id}, which reads as padding; give an id of the table, such as num_items.")

    def row(key: Array, events: Array) -> Array:
        return jnp.where(_chosen(key, events, share), mask_id, events)

    return _by_row(row, key, history, share)


def reorder(key: Array, history: Array, share: float = 0.3) -> Array:
    """Shuffles a contiguous part of every history; its items are those of the history.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: of the events that is in the part.

    Returns:
      ``i32[B, L]``.

    Raises:
      ValueError: ``share`` is outside [0, 1], or ``history`` is no integer matrix.

    References:
      Xie et al., "Contrastive Learning for Sequential Recommendation" (CL4SRec), ICDE 2022.
    """

    def row(key: Array, events: Array) -> Array:
        part_key, order_key = jax.random.split(key)
        place = jnp.arange(len(events))
        size = _count(events, share)
        first = _first_of_part(part_key, events, size)
        inside = (place >= first) & (place < first + size)
        # Sorted by place first and by lot second: events of the part share a place, all others keep theirs.
        order = jnp.lexsort((jax.random.uniform(order_key, events.shape), jnp.where(inside, first, place)))
        return events[order]

    return _by_row(row, key, history, share)


def substitute(key: Array, history: Array, share: float = 0.3, *, similar: Array) -> Array:
    """Puts a correlated item in the place of events drawn without replacement.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: of the events that is drawn; those without a correlated item stay as they are, and
        so do items outside the catalogue.
      similar: ``i32[N]`` or ``i32[N, n]`` items correlated with each, ``PAD_ID`` where there are
        fewer, such as ``ItemKNN.ids[:, :n]``; one of an event's is drawn uniformly.

    Returns:
      ``i32[B, L]``.

    Raises:
      ValueError: ``similar`` is no integers of that shape; and see :func:`crop`.

    References:
      Liu et al., "Contrastive Self-supervised Sequential Recommendation with Robust
      Augmentation" (CoSeRec), 2021.
    """
    similar = _table(similar)

    def row(key: Array, events: Array) -> Array:
        chosen_key, similar_key = jax.random.split(key)
        other = _correlated(similar_key, events, similar)
        return jnp.where(_chosen(chosen_key, events, share) & (other != PAD_ID), other, events)

    return _by_row(row, key, history, share)


def insert(key: Array, history: Array, share: float = 0.3, *, similar: Array) -> Array:
    """Puts a correlated item before events drawn without replacement; the newest ``L`` remain.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: of the events that is drawn; before those without a correlated item, and before
        items outside the catalogue, nothing is inserted.
      similar: see :func:`substitute`.

    Returns:
      ``i32[B, L]``; its last event is that of ``history``.

    Raises:
      ValueError: see :func:`substitute`, as for the source.
    """
    similar = _table(similar)

    def row(key: Array, events: Array) -> Array:
        chosen_key, similar_key = jax.random.split(key)
        inserted = jnp.where(_chosen(chosen_key, events, share), _correlated(similar_key, events, similar), PAD_ID)
        longer = jnp.stack([inserted, events], axis=-1).reshape(-1)
        padding_first = jnp.argsort(longer != PAD_ID, stable=True)
        return longer[padding_first[-len(events) :]]

    return _by_row(row, key, history, share)


augmentations.register("crop", NamedAugmentation(crop, takes=("share",)))
augmentations.register("mask", NamedAugmentation(mask, needs=("mask_id",), takes=("share",)))
augmentations.register("reorder", NamedAugmentation(reorder, takes=("share",)))
augmentations.register("substitute", NamedAugmentation(substitute, needs=("similar",), takes=("share",)))
augmentations.register("insert", NamedAugmentation(insert, needs=("similar",), takes=("share",)))


def two_views(key: Array, history: Array, choices: Sequence[str | Augmentation], **options: Any) -> tuple[Array, Array]:
    """Two views of every history, each by one augmentation drawn uniformly from ``choices``.

    All augmentations are computed for all rows and one is taken: a branch that differs by row
    would be computed on both sides too.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      choices: names in :data:`augmentations`, or functions ``(key, history) -> history``, such
        as ``functools.partial(crop, share=0.8)``; one given twice is drawn twice as often.
      **options: go to every named augmentation that needs or takes an option of that name: ``mask_id``,
        ``similar``, ``share``.

    Returns:
      Two arrays ``i32[B, L]``, drawn independently of each other.

    Raises:
      ValueError: ``choices`` is empty or has an unknown name, a named augmentation misses an
        option, no named augmentation has an option, or an augmentation changes the shape.
    """
    if isinstance(choices, str) or not choices:
        raise ValueError(f"choices is {choices!r}; give a list of at least one of {', '.join(augmentations)}.")
    functions = _with_options(choices, options)

    def view(key: Array) -> Array:
        choice_key, *keys = jax.random.split(key, 1 + len(functions))
        views = [function(key, history) for function, key in zip(functions, keys, strict=True)]
        for name, each in zip(choices, views, strict=True):
            if each.shape != history.shape:
                raise ValueError(f"{name!r} made {each.shape} of {history.shape}; an augmentation keeps the shape.")
        choice = jax.random.randint(choice_key, history.shape[:1], 0, len(functions))
        return jnp.stack(views)[choice, jnp.arange(len(history))]

    first, second = map(view, jax.random.split(key))
    return first, second


def _with_options(choices: Sequence[str | Augmentation], options: dict[str, Any]) -> list[Augmentation]:
    functions: list[Augmentation] = []
    unused = set(options)
    for choice in choices:
        if not isinstance(choice, str):
            functions.append(choice)
            continue
        named = augmentations[choice]
        own = {name: value for name, value in options.items() if name in named.needs + named.takes}
        unused -= set(own)
        for name in named.needs:
            if name not in own:
                raise ValueError(f"The augmentation {choice!r} needs {name}; give two_views {name}=... as well.")
        functions.append(functools.partial(named.augment, **own))
    if unused:
        raise ValueError(
            f"No augmentation named in {list(choices)} has the option {', '.join(sorted(unused))};"
            " leave it out, or give functions with functools.partial."
        )
    return functions


def _by_row(row: Augmentation, key: Array, history: Array, share: float) -> Array:
    if history.ndim != 2 or not jnp.issubdtype(history.dtype, jnp.integer):
        raise ValueError(f"history must be integers of shape [B, L]; got {history.dtype}{list(history.shape)}.")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in [0, 1].")
    return jax.vmap(row)(jax.random.split(key, len(history)), history)


def _table(similar: Array) -> Array:
    """``similar`` as ``i32[N, n]``."""
    if similar.ndim not in (1, 2) or not similar.size or not jnp.issubdtype(similar.dtype, jnp.integer):
        raise ValueError(
            "similar must be integers of shape [N] or [N, n], items correlated with each;"
            f" got {similar.dtype}{list(similar.shape)}."
        )
    return jnp.asarray(similar).reshape(len(similar), -1)


def _count(events: Array, share: float) -> Array:
    """``⌈share · n⌉``, from a table: products of floats that should be whole are not, e.g. 0.55 · 100."""
    counts = np.ceil(np.round(share * np.arange(len(events) + 1), 9)).astype(np.int32)
    return jnp.asarray(counts)[(events != PAD_ID).sum()]


def _first_of_part(key: Array, events: Array, size: Array) -> Array:
    """Where a contiguous part of ``size`` events begins, drawn uniformly."""
    length = (events != PAD_ID).sum()
    return len(events) - length + jax.random.randint(key, (), 0, length - size + 1)


def _chosen(key: Array, events: Array, share: float) -> Array:
    """``bool[L]``: ``⌈share · n⌉`` of the events, drawn without replacement."""
    lots = jnp.where(events != PAD_ID, jax.random.uniform(key, events.shape), 2.0)
    # Ranks differ even where lots are equal, so the count is exact.
    rank = jnp.argsort(jnp.argsort(lots))
    return rank < _count(events, share)


def _correlated(key: Array, events: Array, similar: Array) -> Array:
    """``i32[L]``: for each event one of the items correlated with it, ``PAD_ID`` where there is none."""
    known = (events >= 0) & (events < len(similar))
    candidates = similar[jnp.where(known, events, 0)]
    valid = known[:, None] & (candidates >= 0) & (candidates < len(similar))
    number = valid.sum(axis=-1)
    drawn = jax.random.randint(key, events.shape, 0, jnp.maximum(number, 1))
    column = jnp.argmax(jnp.cumsum(valid, axis=-1) > drawn[:, None], axis=-1)
    one = jnp.take_along_axis(candidates, column[:, None], axis=-1)[:, 0]
    return jnp.where(number > 0, one, PAD_ID).astype(events.dtype)
