"""Smaller data sets: some items, items and users with enough events, one event of a user with an item."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from recjax.data.ids import IdMap
from recjax.data.schema import BEHAVIOUR_WEIGHTS, Dataset, Interactions, behaviour_weights
from recjax.types import Behaviour


def with_enough_events(
    dataset: Dataset, *, per_item: int = 1, per_user: int = 1, until_stable: bool = False
) -> Dataset:
    """The data set without items and users that have too few events.

    Items are counted first, then users on what is left of them. Removing users may leave
    items with too few events again; ``until_stable`` repeats both until none is left, which
    gives the ``k``-core. Events of items outside the vocabulary are removed.

    Args:
      dataset: the data set.
      per_item: events that an item must have.
      per_user: events that a user must have.
      until_stable: whether to repeat.

    Returns:
      A data set whose users and items are numbered anew, in the same order. The owner's
      held-out interactions keep what is left of them.

    Raises:
      ValueError: a bound is below 1, or nothing is left.
    """
    if per_item < 1 or per_user < 1:
        raise ValueError(f"per_item={per_item} and per_user={per_user} must be at least 1.")
    log = dataset.interactions
    kept = log.item < dataset.num_items
    while True:
        before = kept.sum()
        kept = kept & (np.bincount(log.item[kept], minlength=dataset.num_items + 1)[log.item] >= per_item)
        kept = kept & (np.bincount(log.user[kept], minlength=dataset.num_users)[log.user] >= per_user)
        if not until_stable or kept.sum() == before:
            break
    if not kept.any():
        raise ValueError(
            f"No event of {dataset.name} is left with per_item={per_item} and per_user={per_user}; lower them."
        )
    users = np.unique(log.user[kept])
    fewer = dataclasses.replace(
        dataset,
        interactions=_of_users(log, kept, users),
        users=IdMap(tuple(dataset.users.names[i] for i in users)),
        context=None if dataset.context is None else dataset.context[users],
        test=None if dataset.test is None else _of_users(dataset.test, np.isin(dataset.test.user, users), users),
        extras={name: values[kept] for name, values in dataset.extras.items()},
    )
    return with_items(fewer, np.unique(log.item[kept]))


def with_items(dataset: Dataset, items: np.ndarray) -> Dataset:
    """The data set with some of its items, in any order, and with all of its users.

    Events of the others are removed, those of items outside the vocabulary among them.

    >>> from recjax.data import IdMap
    >>> log = Interactions([0, 0, 1], [0, 1, 2])
    >>> dataset = Dataset("small", log, IdMap(("u", "v")), IdMap(("a", "b", "c")), titles=("A", "B", "C"))
    >>> turned = with_items(dataset, np.array([2, 0]))
    >>> turned.items.names, turned.titles, turned.interactions.item.tolist()
    (('c', 'a'), ('C', 'A'), [1, 0])

    Args:
      dataset: the data set, ``N`` items.
      items: ``i[M]`` different ids; the first of them becomes item 0.

    Returns:
      A data set of ``M`` items. The owner's held-out interactions keep what is left of them.

    Raises:
      ValueError: there is no such item, or one is named twice.
    """
    items = np.asarray(items, np.int64)
    missing = items[(items < 0) | (items >= dataset.num_items)]
    if len(missing):
        raise ValueError(f"items names {missing[0]}; {dataset.name} has items 0 to {dataset.num_items - 1}.")
    named = np.bincount(items, minlength=dataset.num_items)
    if (named > 1).any():
        raise ValueError(f"items names {named.argmax()} {named.max()} times; name every item once.")
    # The last is that of items outside the vocabulary.
    number = np.full(dataset.num_items + 1, -1)
    number[items] = np.arange(len(items))

    def left(log: Interactions) -> Interactions:
        some = log.take(number[log.item] >= 0)
        return dataclasses.replace(some, item=number[some.item])

    def pick(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[items]

    kept = number[dataset.interactions.item] >= 0
    return dataclasses.replace(
        dataset,
        interactions=left(dataset.interactions),
        items=IdMap(tuple(dataset.items.names[i] for i in items)),
        titles=None if dataset.titles is None else tuple(dataset.titles[i] for i in items),
        multi_hot=pick(dataset.multi_hot),
        numeric=pick(dataset.numeric),
        test=None if dataset.test is None else left(dataset.test),
        extras={name: values[kept] for name, values in dataset.extras.items()},
        item_extras={name: values[items] for name, values in dataset.item_extras.items()},
    )


def strongest(interactions: Interactions, weights: Mapping[Behaviour, float] = BEHAVIOUR_WEIGHTS) -> Interactions:
    """One event of every user with every item: that of the weightiest behaviour, the newest where several are.

    Logs of shops hold an item when it was viewed, put into the cart and purchased. A model of purchases that
    learns from all of these learns that an item which was viewed is purchased, and little of other items.

    >>> log = Interactions([0, 0, 0], [7, 7, 8], behaviour=[Behaviour.VIEW, Behaviour.PURCHASE, Behaviour.VIEW])
    >>> one = strongest(log)
    >>> one.item.tolist(), one.behaviour.tolist()
    ([7, 8], [3, 0])

    Args:
      interactions: ``E`` events.
      weights: of behaviours; those of one weight are as strong as each other.

    Returns:
      The kept rows, in the order of the log.

    Raises:
      ValueError: the log has a behaviour that ``weights`` lacks.
    """
    order = interactions.order()
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    rows = np.lexsort((position, behaviour_weights(interactions, weights), interactions.item, interactions.user))
    user, item = interactions.user[rows], interactions.item[rows]
    is_last = np.ones(len(rows), bool)
    is_last[:-1] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return interactions.take(np.sort(rows[is_last]))


def without_impressions(dataset: Dataset) -> Dataset:
    """The data set without events of items that were only shown, which are no part of what a user had."""
    log = dataset.interactions
    rows = log.behaviour != Behaviour.IMPRESSION
    if rows.all():
        return dataset
    extras = {name: values[rows] for name, values in dataset.extras.items()}
    return dataclasses.replace(dataset, interactions=log.take(rows), extras=extras)


def draw_users(events: np.ndarray, most_events: int, rng: np.random.Generator) -> np.ndarray:
    """``i[M]``, ascending: users drawn at random who have at most ``most_events`` events together, but one at least.

    >>> draw_users(np.array([2, 0, 2, 2]), 4, np.random.default_rng(0)).tolist()
    [0, 3]

    Args:
      events: ``i[U]`` how many each user has; those without any are not drawn.
      most_events: of the users that are drawn.
      rng: of the draw.
    """
    order = rng.permutation(np.flatnonzero(events))
    enough = int(np.searchsorted(np.cumsum(events[order]), most_events, side="right"))
    return np.sort(order[: max(1, enough)])


def _of_users(log: Interactions, kept: np.ndarray, users: np.ndarray) -> Interactions:
    left = log.take(kept)
    return dataclasses.replace(left, user=np.searchsorted(users, left.user))
