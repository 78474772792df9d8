"""How well models rank what users took next, before any loop, in time that is bounded however big the log is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax import data
from recjax.data import Interactions, NextItems, Split
from recjax.eval import Protocol, evaluate
from recjax.models.collaborative import ItemKNN, als, popularity, user_knn
from recjax.study.config import StudyConfig

RANKED_USERS = 10_000
"""Users at most, drawn at random, whose held-out items are ranked."""

COMPARISONS = 3e12
"""Multiplications that user kNN may take for it, which compares each of them with every user and item."""

DENSE_SCORES = 2**25
"""Scores of collaborative filtering that are held at once: 128 MB."""

QUESTION = "What does a user take next, liked or not? The loop asks for what is liked."
"""That the table answers."""

COLUMNS = {
    "HR@10": "hit_rate@10",
    "NDCG@10": "ndcg@10",
    "MRR": "mrr",
    "Recall@10": "recall@10",
    "Recall@20": "recall@20",
}


class KnownUsers(NamedTuple):
    """The part of a log that models learn from.

    Attributes:
      log: its events.
      num_users: users in it, numbered anew where they are a sample.
      text: whether and how they were drawn, for the protocol; empty for all.
    """

    log: Interactions
    num_users: int
    text: str = ""


def known_users(log: Interactions, num_users: int, most_events: int, seed: int) -> KnownUsers:
    """The log, or of a bigger one as many users, drawn at random, as have ``most_events`` events together."""
    if len(log) <= most_events:
        return KnownUsers(log, num_users)
    per_user = np.bincount(log.user, minlength=num_users)
    chosen = data.draw_users(per_user, most_events, np.random.default_rng(seed))
    number = np.full(num_users, -1, np.int32)
    number[chosen] = np.arange(len(chosen))
    some = log.take(number[log.user] >= 0)
    renumbered = Interactions(number[some.user], some.item, some.time, some.rating, some.behaviour)
    of = f"{len(chosen):,} of {np.count_nonzero(per_user):,} users, drawn at random"
    text = f" | models learn from: {len(some):,} events of {of}"
    return KnownUsers(renumbered, len(chosen), text)


def rank(
    config: StudyConfig,
    known: KnownUsers,
    split: Split,
    two_towers: Mapping[str, Any],
    neighbours: ItemKNN,
) -> dict[str, Any]:
    """Full ranking of held-out next items, beside collaborative filtering, under one protocol.

    It tells what a user takes next, liked or not.

    Args:
      config: the study.
      known: what models learn from.
      split: the whole log.
      two_towers: by name, functions that score observations, see :func:`recjax.nn.scorer`.
      neighbours: of items, from ``known``.

    Returns:
      ``protocol``, and ``models`` with the metrics of each.
    """
    num_items = len(neighbours.ids)
    protocol = Protocol(split=split.protocol, history_length=config.history_length, ks=(10, 20))
    task, sampled = _task(config, split, int(min(RANKED_USERS, COMPARISONS / (known.num_users * num_items))))
    others = {
        "popularity": popularity(known.log, num_items),
        "item kNN": neighbours,
        "user kNN": user_knn(known.log, num_items),
        "matrix factorisation (ALS)": als(known.log, num_items),
    }
    # These score a batch of users densely.
    users = max(1, min(256, DENSE_SCORES // num_items))
    evaluations = {
        name: evaluate(
            jax.tree_util.Partial(type(other).scores, other),
            task.observation.history,
            task.targets,
            protocol,
            seen=task.seen,
            batch_size=users,
        )
        for name, other in others.items()
    }
    for name, scores in two_towers.items():
        evaluations[name] = evaluate(scores, task.observation, task.targets, protocol, seen=task.seen)
    return {
        "question": QUESTION,
        "protocol": f"{protocol} | users: {len(task.targets):,}{sampled}{known.text}",
        "models": {
            name: {column: evaluation.metrics[metric] for column, metric in COLUMNS.items()}
            for name, evaluation in evaluations.items()
        },
    }


def _task(config: StudyConfig, split: Split, most_users: int) -> tuple[NextItems, str]:
    """The held-out items of all users, or of ``most_users``, and what to say of them then."""
    before = data.concatenate(split.train, split.validation)
    num_users = 1 + int(max(before.user.max(), split.test.user.max()))
    task = data.next_items(before, split.test, num_users, config.history_length)
    users = np.unique(split.test.user)
    if len(users) <= most_users:
        return task, ""
    chosen = np.sort(np.random.default_rng(config.seed).choice(users, max(1, most_users), replace=False))
    return task.take(chosen), f" of {len(users):,}, drawn at random"
