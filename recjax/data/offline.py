"""Logs as transitions, for learning and evaluating policies without a simulator."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from recjax import rewards
from recjax.data.histories import sequences, windows
from recjax.data.schema import Dataset, Interactions
from recjax.rewards import Reward
from recjax.types import PAD_ID, Array, Behaviour, Observation, Response, Step


def transitions(
    interactions: Interactions,
    length: int,
    reward: Reward = rewards.click,
    *,
    num_users: int | None = None,
    context: np.ndarray | None = None,
) -> Step:
    """One step for each event: the history before it, the item as a slate of one, the history after it.

    Steps are ordered by user, then time, then file order. Such a log holds only what users
    did, so every step has a click, and what else could have been shown is unknown.

    Args:
      interactions: the log.
      length: ``L``, positions of a history.
      reward: turns the responses into rewards: a function of
        :class:`~recjax.types.Response`, e.g. ``rewards.weighted(click=1, conversion=5)``.
      num_users: of the data set. Default: the largest user id + 1.
      context: ``f32[U, C]`` for ``Observation.context``, or None.

    Returns:
      A :class:`~recjax.types.Step` whose leaves have shape ``[E, ...]``. ``response`` has
      ``click`` 1 and ``conversion`` 1 for purchases. Where the log has ratings,
      ``satisfaction`` of a RATING is its place between the smallest and the largest in the
      log (1 if all are equal), of a LIKE its rating, else 0; ``watch_time`` is the rating
      of a PLAY. ``log_prob`` is NaN: unknown. ``terminated`` marks each user's last
      event, ``truncated`` none. ``next_observation`` ends with the event itself.
    """
    user = interactions.user
    num_users = int(user.max(initial=-1)) + 1 if num_users is None else num_users
    order = interactions.order()
    log = interactions.take(order)
    found = sequences(log, num_users)
    positions = jnp.arange(len(log), dtype=jnp.int32)
    rows = None if context is None else jnp.asarray(context, jnp.float32)[log.user]

    history, behaviour = windows(found, positions, length)
    item = found.items[:, None]
    response = _response(log)
    return Step(
        observation=Observation(history, behaviour, rows),
        slate=item,
        log_prob=jnp.full(len(log), jnp.nan, jnp.float32),
        extras=None,
        response=response,
        reward=reward(response),
        terminated=jnp.asarray(np.diff(log.user, append=-1) != 0),
        truncated=jnp.zeros(len(log), bool),
        next_observation=Observation(_shift_in(history, item), _shift_in(behaviour, found.behaviours[:, None]), rows),
    )


def bandit_steps(dataset: Dataset, length: int = 1, reward: Reward = rewards.click) -> Step:
    """Logged bandit feedback as steps of one round each, with the log-probabilities of the logging policy.

    For data sets whose ``extras`` have ``click`` and ``propensity``, such as the Open
    Bandit sample; what off-policy estimators need.

    Args:
      dataset: the log; one row for each impression.
      length: ``L``, positions of the (empty) history.
      reward: turns the responses into rewards.

    Returns:
      A :class:`~recjax.types.Step` with leading ``[E]``, in the order of the log:
      ``observation`` has no history and the user's context, ``response`` has clicks,
      ``terminated`` is True everywhere.

    Raises:
      ValueError: the data set has no clicks or no propensities.
    """
    missing = [name for name in ("click", "propensity") if name not in dataset.extras]
    if missing:
        raise ValueError(
            f"Bandit feedback needs the extras 'click' and 'propensity'; {dataset.name!r} lacks {missing}."
        )
    log = dataset.interactions
    empty = jnp.full((len(log), length), PAD_ID, jnp.int32)
    context = None if dataset.context is None else jnp.asarray(dataset.context, jnp.float32)[log.user]
    observation = Observation(empty, empty, context)
    response = Response(click=jnp.asarray(dataset.extras["click"], jnp.float32)[:, None])
    return Step(
        observation=observation,
        slate=jnp.asarray(log.item)[:, None],
        log_prob=jnp.log(jnp.asarray(dataset.extras["propensity"], jnp.float32)),
        extras=None,
        response=response,
        reward=reward(response),
        terminated=jnp.ones(len(log), bool),
        truncated=jnp.zeros(len(log), bool),
        next_observation=observation,
    )


def _shift_in(history: Array, newest: Array) -> Array:
    return jnp.concatenate([history[:, 1:], newest], axis=1)


def _response(log: Interactions) -> Response:
    def column(values: np.ndarray) -> Array:
        return jnp.asarray(values, jnp.float32)[:, None]

    satisfaction = watch_time = None
    if log.rating is not None:
        rating = np.nan_to_num(log.rating)
        stars, likes, plays = (log.behaviour == b for b in (Behaviour.RATING, Behaviour.LIKE, Behaviour.PLAY))
        low, high = (rating[stars].min(), rating[stars].max()) if stars.any() else (0.0, 1.0)
        place = (rating - low) / (high - low) if high > low else np.ones(len(log))
        satisfaction = np.select([stars, likes], [place, np.clip(rating, 0.0, 1.0)], 0.0)
        watch_time = np.where(plays, rating, 0.0)
    return Response(
        click=column(np.ones(len(log))),
        conversion=column(log.behaviour == Behaviour.PURCHASE),
        satisfaction=None if satisfaction is None else column(satisfaction),
        watch_time=None if watch_time is None else column(watch_time),
    )
