"""What a log tells of a policy: rewards, and how much likelier the policy makes what was shown."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from recjax.types import Array


class Feedback(NamedTuple):
    """Rewards of a log, weighted for a policy; one row a round, or ``[n, T]`` for the slots of slates and for episodes.

    Attributes:
      reward: ``f32[n]`` or ``f32[n, T]``.
      weight: of the same shape, ``pi(a | x) / b(a | x)``: how much likelier the policy ``pi`` makes what the logging
        policy ``b`` showed, given all that came before in its row.
      predicted: of the same shape, the predicted reward of what was shown; in episodes ``q(s_t, a_t)``, in slates the
        predicted sum from this slot on. None without a model.
      expected: of the same shape, the mean of the prediction over what the policy would show; in episodes ``v(s_t)``.
      marginal: of the same shape, the weight of that part of the action on which the reward depends: a group of items
        (:func:`mips`), or one slot whatever is in the others (:func:`iips`).
    """

    reward: Array
    weight: Array
    predicted: Array | None = None
    expected: Array | None = None
    marginal: Array | None = None


def feedback(
    reward: ArrayLike,
    propensity: ArrayLike,
    probability: ArrayLike,
    *,
    valid: ArrayLike | None = None,
    predicted: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    marginal: ArrayLike | None = None,
) -> Feedback:
    """What a log tells of a policy, from the probability of each logged action under both policies.

    Args:
      reward: ``f32[n]``, or ``f32[n, T]`` for slates and episodes.
      propensity: of the same shape, probability with which the logging policy showed what it did, in (0, 1].
      probability: of the same shape, probability with which the policy would show the same, in [0, 1];
        ``jnp.exp(agent.log_prob(...))`` of an agent.
      valid: ``bool`` of the same shape, False after an episode has ended; what stands there is not read.
      predicted: see :class:`Feedback`.
      expected: likewise.
      marginal: likewise.

    Raises:
      ValueError: shapes differ, a number is not finite, or a probability is out of range.

    >>> feedback([1.0, 0.0], propensity=[0.5, 0.25], probability=[0.25, 0.75]).weight.tolist()
    [0.5, 3.0]
    """
    shape = np.shape(reward)
    if len(shape) not in (1, 2) or not shape[0]:
        raise ValueError(
            f"reward has shape {shape}; give one a round, [n], or one a step, [n, T], and at least one row."
        )
    mask = None if valid is None else _column("valid", valid, shape).astype(bool)

    def read(name: str, values: ArrayLike, where_invalid: float) -> np.ndarray:
        column = _column(name, values, shape)
        column = column if mask is None else np.where(mask, column, where_invalid)
        if not np.isfinite(column).all():
            row = np.argwhere(~np.isfinite(column))[0].tolist()
            raise ValueError(f"{name} is {column[tuple(row)]} at {row}; leave out rows that have none.")
        return column

    b, pi = read("propensity", propensity, 1.0), read("probability", probability, 1.0)
    _check_range("propensity", b, "in (0, 1], since the row was shown", (b > 0) & (b <= 1))
    _check_range("probability", pi, "in [0, 1]", (pi >= 0) & (pi <= 1))
    optional = {"predicted": (predicted, 0.0), "expected": (expected, 0.0), "marginal": (marginal, 1.0)}
    more = {name: None if given is None else _f32(read(name, given, pad)) for name, (given, pad) in optional.items()}
    return Feedback(_f32(read("reward", reward, 0.0)), _f32(pi / b), **more)


def feedback_of_actions(
    action: ArrayLike,
    reward: ArrayLike,
    logging: ArrayLike,
    policy: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Feedback:
    """What a log tells of a policy whose probabilities of all ``A`` actions are known; for few actions.

    Args:
      action: ``i32[n]`` what was shown.
      reward: ``f32[n]``.
      logging: ``f32[n, A]`` distributions of the logging policy, or ``f32[n]`` its probability of what was shown.
      policy: ``f32[n, A]`` distributions of the policy, or ``f32[A]`` one for all rounds.
      predicted: ``f32[n, A]`` or ``f32[A]`` predicted rewards, None without a model.
      groups: ``i32[A]`` the group of each action, if rewards depend on that alone; needs distributions in ``logging``.

    Raises:
      ValueError: shapes do not fit, distributions do not sum to 1, or as :func:`feedback`.
    """
    action, pi = np.asarray(action), np.asarray(policy, np.float64)
    count, actions = len(action), pi.shape[-1]
    if not np.issubdtype(action.dtype, np.integer) or action.min(initial=0) < 0 or action.max(initial=0) >= actions:
        raise ValueError(f"action must hold whole numbers from 0 to {actions - 1}, as policy has {actions} columns.")
    pi = _distributions("policy", pi, count)
    b = np.asarray(logging, np.float64)
    if groups is not None and b.ndim != 2:
        raise ValueError("groups need the logging policy's probabilities of all actions: give logging as [n, A].")
    b = _distributions("logging", b, count) if b.ndim == 2 else b
    rows = np.arange(count)
    model = None if predicted is None else np.broadcast_to(np.asarray(predicted, np.float64), pi.shape)
    return feedback(
        reward,
        b[rows, action] if b.ndim == 2 else b,
        pi[rows, action],
        predicted=None if model is None else model[rows, action],
        expected=None if model is None else (pi * model).sum(1),
        marginal=None if groups is None else _marginal(action, b, pi, np.asarray(groups)),
    )


def _marginal(action: np.ndarray, b: np.ndarray, pi: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """``f64[n]``: how much likelier the policy makes the group of what was shown."""
    same = groups[None, :] == groups[action][:, None]
    return np.sum(pi, 1, where=same) / np.sum(b, 1, where=same)


def _distributions(name: str, values: np.ndarray, count: int) -> np.ndarray:
    """Distributions, one a row."""
    total = values.sum(-1)
    if np.abs(total - 1).max(initial=0.0) > 1e-3:
        raise ValueError(
            f"{name} must hold distributions over actions; its rows sum to {total.min()} to {total.max()}."
        )
    if values.ndim > 2 or (values.ndim == 2 and len(values) != count):
        raise ValueError(f"{name} has shape {values.shape}; give [n, A] with {count} rows, or [A].")
    return np.broadcast_to(values, (count, values.shape[-1]))


def _column(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    column = np.asarray(values, np.float64)
    if column.shape != shape:
        raise ValueError(f"{name} has shape {column.shape} and reward {shape}; they must be the same.")
    return column


def _check_range(name: str, values: np.ndarray, allowed: str, inside: np.ndarray) -> None:
    if not inside.all():
        row = np.argwhere(~inside)[0].tolist()
        raise ValueError(f"{name} is {values[tuple(row)]} at {row}; it must be {allowed}.")


def _f32(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
