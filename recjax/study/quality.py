"""What the log says of items that any platform could count: how often each is liked, and what a user has just had."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from recjax import agents
from recjax.agents import Agent
from recjax.catalogue import BlockScorer
from recjax.data import Dataset, Interactions
from recjax.envs import Evidence
from recjax.envs.evidence import Events
from recjax.nn import Recommendation
from recjax.types import PAD_ID, Array, Behaviour, Items, Observation, PyTree

PRIOR = 20.0
"""Events that the mean of all items stands for in the share of each."""

BOREDOM_WEIGHT = 4.0
"""Logits that a topic loses which was all that a user had of late. Set once, as that of the simulator was."""

DECAY = 0.64
"""Of the memory of a click by each click that follows."""

IN_SESSION = (Behaviour.CLICK, Behaviour.PURCHASE)
"""What users do on the platform."""


def quality(evidence: Evidence, held_out: Interactions) -> np.ndarray:
    """``f32[N]``: the logit of the share of an item's events that say it was liked, smoothed by the mean of all.

    Where a log says only what was taken, that is the share of all that was taken.

    Args:
      evidence: what the log tells.
      held_out: pairs of users and items that must not be known.
    """
    rows, count = evidence.observed, evidence.num_items
    pairs, hidden = (log[0].astype(np.int64) * count + log[1] for log in (rows[:2], (held_out.user, held_out.item)))
    weight = np.where(np.isin(pairs, hidden), 0.0, rows.weight)
    total = np.bincount(rows.items, weight, minlength=count)
    liked = np.bincount(rows.items, weight * rows.liked, minlength=count)
    if evidence.exposure is not None:
        share = (liked + 1.0) / (liked.sum() + count)
    else:
        share = (liked + PRIOR * liked.sum() / total.sum()) / (total + PRIOR)
    return np.log(share / (1.0 - share)).astype(np.float32)


def all_liked(dataset: Dataset) -> Evidence:
    """A log that was collected by a study, of which every event is a sign of liking; however small, it can be read."""
    log, ones = dataset.interactions, np.ones(len(dataset.interactions), np.float32)
    events, exposure = Events(log.user, log.item, ones, ones), np.ones(dataset.num_items)
    return Evidence(events, dataset.num_users, dataset.num_items, "", "implicit", exposure=exposure)


def liked_events(log: Interactions, evidence: Evidence) -> np.ndarray | None:
    """``bool[E]``: which events say that the item was liked; None where every event of a log says so."""
    if evidence.threshold is None or log.rating is None:
        return None
    return np.nan_to_num(log.rating, nan=-np.inf) >= evidence.threshold


def rested_policy(model: Recommendation) -> Agent:
    """The same less what a user's own clicks have made boring, seen by the item vectors of a trained model.

    ``logit_i - w max(0, <m, z_i>)``, where ``z`` are the model's item vectors without their mean, of norm 1, and ``m``
    is the decaying mean of those that the user clicked.

    Args:
      model: the supervised model; ``init(..., params=...)`` is given ``(logits of quality, its parameters)``.
    """

    def prepare(given: PyTree, items: Items) -> tuple[Array, Array]:
        logits, params = given
        index: Any = model.apply(params, items, method="item_index")
        centred = index.vectors - jnp.mean(index.vectors, axis=0, keepdims=True)
        return logits, centred / jnp.maximum(jnp.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)

    def rate(params: tuple[Array, Array], observation: Observation, items: Items) -> tuple[Array, BlockScorer]:
        logits, topics = params
        memory = session_memory(observation, topics)

        def of_block(memory: Array, start: Array | int, size: int) -> Array:
            rows = start + jnp.arange(size)
            return logits[rows][None] - BOREDOM_WEIGHT * jnp.maximum(memory @ topics[rows].T, 0.0)

        return memory, BlockScorer(of_block, len(logits))

    return agents.fixed_policy(rate, prepare=prepare)


def session_memory(observation: Observation, topics: Array) -> Array:
    """``f32[B, D]``: the decaying mean of the topics ``f32[N, D]`` that users clicked, newest counted most.

    >>> seen = Observation(jnp.array([[0, 1]]), jnp.array([[int(Behaviour.CLICK)] * 2]))
    >>> (100 * session_memory(seen, jnp.eye(2))).round().tolist()
    [[23.0, 36.0]]
    """
    clicked = jnp.isin(observation.behaviour, jnp.array(IN_SESSION)) & (observation.history != PAD_ID)
    later = jnp.cumsum(clicked[:, ::-1], axis=-1)[:, ::-1] - clicked
    weights = jnp.where(clicked, (1 - DECAY) * DECAY**later, 0.0)
    known = jnp.where(observation.history < len(topics), observation.history, 0)
    weights = jnp.where(observation.history < len(topics), weights, 0.0)
    return jnp.einsum("bl,bld->bd", weights, topics[known])
