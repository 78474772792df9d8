"""Replay of a data set: the same batches as from a loop, drawn from a log that does not grow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.replay.base import Batch, Buffer
from recjax.types import Array, PyTree, Step


@struct.dataclass
class Logged:
    """A log of steps, one after the other.

    Attributes:
      steps: leaves ``[E, ...]``; the next observation is None where it is that of the following step.
    """

    steps: Step


def from_dataset(steps: Step, window: int = 1) -> tuple[Buffer, Logged]:
    """A data set as a buffer, for the ``learn`` of any agent.

    ``sample`` draws the first step of a window uniformly among all steps, with replacement. A window may
    run over the end of an episode into the next one, and from the end of the log to its beginning.

    Args:
      steps: leaves ``[E, ...]``, episode by episode, each in order of time and ending with a step that
        is ``terminated`` or ``truncated``, such as :func:`recjax.data.transitions` and
        :func:`recjax.data.bandit_steps` make them.
      window: consecutive steps in a sample; ``agent.memory.window``.

    Returns:
      The buffer, and its state. Next observations that are the observation of the following step are
      not held twice.

    Raises:
      ValueError: there are no steps, the last one ends no episode, a truncated step has no next
        observation, or ``window`` is below 1; at ``add``, always: a data set does not grow.
    """
    count = int(np.shape(steps.terminated)[0])
    if window < 1 or not count:
        raise ValueError(f"window is {window} and the log has {count} steps; both must be at least 1.")
    terminated, truncated = np.asarray(steps.terminated), np.asarray(steps.truncated)
    if not (terminated | truncated)[-1]:
        raise ValueError(
            f"The last step (row {count - 1}) is neither terminated nor truncated; the log must end with the end of an"
            " episode."
        )
    if steps.next_observation is None and truncated.any():
        raise ValueError(
            f"Row {np.flatnonzero(truncated)[0]} is truncated, but next_observation is None; give what was seen next."
        )
    if steps.next_observation is not None and _follows(steps):
        steps = dataclasses.replace(steps, next_observation=None)
    state = Logged(jax.tree.map(jnp.asarray, steps))
    return Buffer(_init, _add, lambda key, state, batch_size: _sample(key, state, batch_size, window)), state


def _sample(key: Array, state: Logged, batch_size: int, window: int) -> Batch:
    count = state.steps.terminated.shape[0]
    first = jax.random.randint(key, (batch_size,), 0, count)
    rows = (first[:, None] + jnp.arange(window)[None]) % count
    steps = jax.tree.map(lambda x: x[rows], state.steps)
    if steps.next_observation is None:
        following = jax.tree.map(lambda x: x[(rows + 1) % count], state.steps.observation)
        steps = dataclasses.replace(steps, next_observation=following)
    return Batch(
        experience=steps,
        valid=jnp.ones(batch_size, bool),
        indices=first,
        probabilities=jnp.full(batch_size, 1.0 / count, jnp.float32),
    )


def _follows(steps: Step) -> bool:
    """Whether every next observation that counts is the observation of the following step."""
    going = ~np.asarray(steps.terminated)[:-1]
    if np.asarray(steps.truncated).any():
        return False
    pairs = zip(jax.tree.leaves(steps.next_observation), jax.tree.leaves(steps.observation), strict=True)
    return all(np.array_equal(np.asarray(after)[:-1][going], np.asarray(before)[1:][going]) for after, before in pairs)


def _init(experience: PyTree) -> PyTree:
    raise ValueError("The state of a data set comes from recjax.replay.from_dataset; it is not made empty.")


def _add(state: PyTree, experience: PyTree) -> PyTree:
    raise ValueError("A data set does not grow; give the whole log to recjax.replay.from_dataset.")
