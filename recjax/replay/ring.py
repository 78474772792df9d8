"""Ring storage of experience, from which windows of consecutive steps are read.

A :class:`~recjax.types.Step` is stored without its next observation, which is the observation
of the row that follows. Where an episode was cut short, that row belongs to another user; the
observation from before the reset is then stored apart, in a small ring of its own.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from recjax.replay.base import Init
from recjax.types import Array, Observation, PyTree, Step, shared


@struct.dataclass
class FinalObservations:
    """The observations that truncated episodes ended with, the newest ``F`` of them.

    Attributes:
      observations: leaves ``[F, ...]``; number ``s`` stands at ``s % F``.
      number: ``i32[T, U]`` which one belongs to a truncated step; other places mean nothing.
      count: ``i32[]`` how many there have been.
    """

    observations: Observation
    number: Array
    count: Array


@struct.dataclass
class Ring:
    """``T`` rows, each one step of all ``U`` users.

    Attributes:
      data: the experience, leaves ``[T, U, ...]`` in the dtypes of what was added; a
        :class:`~recjax.types.Step` has no next observation here.
      latest: the next observation of the newest row, leaves ``[U, ...]``; None for other experience.
      finals: what truncated episodes ended with; None for other experience.
      cursor: ``i32[]`` the row that is written next.
      filled: ``i32[]`` rows that have been written, at most ``T``.
    """

    data: PyTree
    latest: Observation | None
    finals: FinalObservations | None
    cursor: Array = shared()
    filled: Array = shared()

    @property
    def num_rows(self) -> int:
        """``T``."""
        return jax.tree.leaves(self.data)[0].shape[0]

    @property
    def num_users(self) -> int:
        """``U``."""
        return jax.tree.leaves(self.data)[0].shape[1]

    @property
    def oldest(self) -> Array:
        """``i32[]`` the row that was written first of those that are held."""
        return (self.cursor - self.filled) % self.num_rows


def empty(experience: PyTree, rows: int, finals: int) -> Ring:
    """A ring without experience.

    Args:
      experience: leaves ``[U, ...]``; only its shapes and dtypes are used.
      rows: ``T``.
      finals: ``F``, for a :class:`~recjax.types.Step` with a next observation.
    """
    data, following = _split(experience)
    users = jax.tree.leaves(data)[0].shape[0]
    blank = lambda *shape: lambda x: jnp.zeros((*shape, *x.shape[1:]), x.dtype)  # noqa: E731
    apart = None
    if following is not None:
        apart = FinalObservations(
            observations=jax.tree.map(blank(finals), following),
            number=jnp.zeros((rows, users), jnp.int32),
            count=jnp.zeros((), jnp.int32),
        )
    return Ring(
        data=jax.tree.map(blank(rows, users), data),
        latest=jax.tree.map(blank(users), following),
        finals=apart,
        cursor=jnp.zeros((), jnp.int32),
        filled=jnp.zeros((), jnp.int32),
    )


def check_windows(window: int, truncated_share: float) -> None:
    """Refuses arguments of :func:`recjax.replay.uniform` that are out of range."""
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1.")
    if not 0 < truncated_share <= 1:
        raise ValueError(f"truncated_share is {truncated_share}; it must be in (0, 1].")


def of_capacity(capacity: int, window: int, truncated_share: float) -> Init:
    """What makes an empty ring for experience, of ``capacity`` steps of single users.

    Raises:
      ValueError: ``capacity`` is below 1; when it is called, the ring would hold no whole window of all users.
    """
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}; it must be at least 1.")

    def init(experience: PyTree) -> Ring:
        users = jax.tree.leaves(experience)[0].shape[0]
        rows = capacity // users
        if rows < window:
            raise ValueError(
                f"capacity={capacity} holds {rows} steps of each of {users} users, fewer than window={window};"
                f" use a capacity of at least {users * window}."
            )
        return empty(experience, rows, finals=max(users, round(truncated_share * rows * users)))

    return init


def push(state: Ring, experience: PyTree) -> Ring:
    """The ring with one more row, written in place of the oldest where it is full.

    Raises:
      ValueError: shapes or dtypes are not those of :func:`empty`.
    """
    data, following = _split(experience)
    _check_same_rows((state.data, state.latest), (data, following))

    def write(rows: Array, row: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(rows, row, state.cursor, axis=0)

    return Ring(
        data=jax.tree.map(write, state.data, data),
        latest=following,
        finals=None if state.finals is None else _push_finals(state.finals, state.cursor, data.truncated, following),
        cursor=(state.cursor + 1) % state.num_rows,
        filled=jnp.minimum(state.filled + 1, state.num_rows),
    )


def windows(ring: Ring, row: Array, user: Array, length: int) -> tuple[PyTree, Array]:
    """Consecutive steps of single users.

    Args:
      ring: holds rows ``row .. row + length - 1`` (modulo ``T``) of all users.
      row: ``i32[B]`` where each window begins.
      user: ``i32[B]`` whose it is.
      length: ``n``.

    Returns:
      ``(experience, is_whole)``: leaves ``[B, n, ...]``, a :class:`~recjax.types.Step` with its next
      observation; and ``bool[B]``, False where a truncated step of the window ended with an observation
      that is not held any more.
    """
    rows, user = _rows_of(ring, row, length), user[:, None]
    own, after = rows[:, :-1], rows[:, 1:]
    if ring.latest is None or ring.finals is None:
        return jax.tree.map(lambda x: x[own, user], ring.data), jnp.ones(len(rows), bool)
    observed = jax.tree.map(lambda x: x[rows, user], ring.data.observation)
    step = jax.tree.map(lambda x: x[own, user], dataclasses.replace(ring.data, observation=None))

    is_newest = after == ring.cursor
    following = jax.tree.map(lambda x: x[:, 1:], observed)
    following = _where(is_newest, jax.tree.map(lambda x: x[user], ring.latest), following)
    number, finals = ring.finals.number[own, user], ring.finals.observations
    is_apart = step.truncated & ~is_newest
    size = ring.finals.observations.history.shape[0]
    following = _where(is_apart, jax.tree.map(lambda x: x[number % size], finals), following)
    step = dataclasses.replace(
        step, observation=jax.tree.map(lambda x: x[:, :-1], observed), next_observation=following
    )
    return step, _are_held(ring.finals, number, is_apart)


def are_whole(ring: Ring, row: Array, user: Array, length: int) -> Array:
    """Of windows only whether all their observations are held, as :func:`windows` says it, ``bool[B]``."""
    if ring.finals is None:
        return jnp.ones(len(row), bool)
    rows, user = _rows_of(ring, row, length), user[:, None]
    own, after = rows[:, :-1], rows[:, 1:]
    is_apart = ring.data.truncated[own, user] & (after != ring.cursor)
    return _are_held(ring.finals, ring.finals.number[own, user], is_apart)


def _rows_of(ring: Ring, row: Array, length: int) -> Array:
    """The rows of windows and the one after each, ``i32[B, n + 1]``."""
    return (row[:, None] + jnp.arange(length + 1)[None]) % ring.num_rows


def _are_held(finals: FinalObservations, number: Array, is_apart: Array) -> Array:
    """Whether the final observations that windows need are among the newest, ``bool[B]``."""
    size = finals.observations.history.shape[0]
    return jnp.all(~is_apart | (finals.count - number <= size), axis=-1)


def _split(experience: PyTree) -> tuple[PyTree, Observation | None]:
    """What is stored row by row, and the next observation, which is not."""
    if isinstance(experience, Step):
        return dataclasses.replace(experience, next_observation=None), experience.next_observation
    return experience, None


def _push_finals(finals: FinalObservations, row: Array, truncated: Array, following: PyTree) -> FinalObservations:
    number = finals.count + jnp.cumsum(truncated, dtype=jnp.int32) - 1
    size = finals.observations.history.shape[0]
    place = jnp.where(truncated, number % size, size)
    return FinalObservations(
        observations=jax.tree.map(
            lambda held, new: held.at[place].set(new, mode="drop"), finals.observations, following
        ),
        number=jax.lax.dynamic_update_index_in_dim(finals.number, number, row, axis=0),
        count=finals.count + jnp.sum(truncated, dtype=jnp.int32),
    )


def _where(mask: Array, chosen: PyTree, other: PyTree) -> PyTree:
    """``jnp.where`` of trees whose leaves have trailing axes that ``mask`` has not."""
    return jax.tree.map(
        lambda x, y: jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y), chosen, other
    )


def _check_same_rows(held: tuple[PyTree, PyTree], given: tuple[PyTree, PyTree]) -> None:
    of_ring = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), held[0]), held[1]
    if _described(of_ring) != _described(given):
        raise ValueError(
            f"Experience must look as it did at init.\nThe buffer holds: {_described(of_ring)}\n"
            f"The experience is: {_described(given)}"
        )


def _described(tree: PyTree) -> dict[str, str]:
    """Path to dtype and shape of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype.name}{list(leaf.shape)}" for path, leaf in leaves}
