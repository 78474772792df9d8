"""When users leave: a hazard of every exposure, fitted to the sessions of a log.

After the ``t``-th exposure of a session, of which a share ``g = (positive + 1) / (t + 2)`` was answered in any way, a
user leaves with probability ``sigmoid(w_0 + w_1 log(t) + w_2 (g - 1/2))``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recjax.envs.users.exposures import Exposures
from recjax.types import Array

ROUNDS = 30
RIDGE = 1.0
"""Precision of the prior of the two slopes: as much as a few sessions tell."""


def leave_probability(ends: Array, exposures: Array, positive: Array) -> Array:
    """How probable it is that a user leaves after the last of a session's exposures so far.

    Args:
      ends: ``f32[3]`` of :func:`fit_session_ends`.
      exposures: how many there were, at least 1.
      positive: how many of them were answered.
    """
    share = (positive + 1.0) / (exposures + 2.0)
    return jax.nn.sigmoid(ends[0] + ends[1] * jnp.log(exposures) + ends[2] * (share - 0.5))


def moments(exposures: Exposures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far each exposure's session had come.

    Returns:
      ``f64[E]`` exposures of the session up to and with each, ``f64[E]`` how many of these were answered, and
      ``bool[E]`` which are the last of a session. Where feedback is implicit, an item is presumed to have been passed
      over for each that was taken.
    """
    sessions = exposures.sessions
    first = np.searchsorted(sessions, sessions)
    count = np.arange(len(sessions)) - first + 1.0
    positive = np.cumsum(exposures.answers.any(axis=1)).astype(np.float64)
    positive -= np.concatenate([[0.0], positive])[first]
    is_last = np.append(sessions[1:] != sessions[:-1], True)
    return (count if exposures.has_impressions else 2.0 * count), positive, is_last


def fit_session_ends(exposures: Exposures, rows: np.ndarray) -> Array:
    """``f32[3]``: the hazard of leaving, by penalised maximum likelihood (Newton's method).

    Args:
      exposures: the log. A user's last session ends with the last event.
      rows: those that it is fitted to.
    """
    count, positive, is_last = (column[rows] for column in moments(exposures))
    features = np.stack([np.ones(len(rows)), np.log(count), (positive + 1) / (count + 2) - 0.5], axis=1)
    ends, chances = is_last.astype(np.float64), np.ones(len(rows))
    if not exposures.has_impressions:
        chances *= 2.0  # nobody left after the item that is presumed to have been passed over
    rate = (ends.sum() + 0.5) / (chances.sum() + 1.0)
    weights = np.array([np.log(rate / (1 - rate)), 0.0, 0.0])
    prior = np.diag([1e-6, RIDGE, RIDGE])
    for _ in range(ROUNDS):
        leaving = 1 / (1 + np.exp(-features @ weights))
        slope = features.T @ (ends - chances * leaving) - prior @ weights
        curve = (features * (chances * leaving * (1 - leaving))[:, None]).T @ features + prior
        step = np.linalg.solve(curve, slope)
        weights += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return jnp.asarray(weights, jnp.float32)
