"""A ring buffer that hands out windows of consecutive steps, uniformly with replacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from recjax.replay.base import Buffer
from recjax.types import Array, PyTree, Sample, Step, shared


@struct.dataclass
class ReplayState:
    """A ring of ``T`` rows, each one step of all ``U`` users.

    Attributes:
      data: a :class:`~recjax.types.Step` whose leaves have shape ``[T, U, ...]`` and
        the dtypes of the steps that were added, so item ids stay integers.
      cursor: ``i32[]``, the row that is written next.
      filled: ``i32[]``, how many rows have been written, at most ``T``.
    """

    data: Step
    cursor: Array = shared()
    filled: Array = shared()


def uniform(capacity: int, window: int = 1) -> Buffer:
    """A uniform ring buffer of windows.

    The ring holds ``T = capacity // U`` rows of all ``U`` users. ``add`` writes one row,
    a contiguous slice at a cursor that seeds share. ``sample`` draws with replacement
    among all whole windows that the ring holds: ``window`` consecutive steps of one user
    which never run over the cursor, so old and new steps never mix. A window may run
    over the end of an episode; see :class:`~recjax.types.Sample`.

    Until ``window`` rows are written no whole window exists, and every sampled row has
    ``valid`` False.

    Args:
      capacity: steps of single users that the buffer may hold; rounded down to whole
        rows.
      window: consecutive steps in a sample, the ``n`` of n-step returns.

    Returns:
      The buffer's functions.

    Raises:
      ValueError: ``capacity`` or ``window`` is below 1; at ``init``, the capacity holds
        no whole window of all users; at ``add``, shapes or dtypes are not those of
        ``init``.
    """
    if window < 1 or capacity < 1:
        raise ValueError(f"capacity and window must be at least 1; got capacity={capacity}, window={window}.")

    def init(step: Step) -> ReplayState:
        users = step.terminated.shape[0]
        rows = capacity // users
        if rows < window:
            raise ValueError(
                f"capacity={capacity} holds {rows} steps of each of {users} users, fewer than window={window};"
                f" use a capacity of at least {users * window}."
            )
        return ReplayState(
            data=jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), step),
            cursor=jnp.zeros((), jnp.int32),
            filled=jnp.zeros((), jnp.int32),
        )

    def add(state: ReplayState, step: Step) -> ReplayState:
        _check_same_rows(state.data, step)
        rows = state.data.terminated.shape[0]
        write = jax.lax.dynamic_update_index_in_dim
        return ReplayState(
            data=jax.tree.map(lambda ring, x: write(ring, x, state.cursor, axis=0), state.data, step),
            cursor=(state.cursor + 1) % rows,
            filled=jnp.minimum(state.filled + 1, rows),
        )

    def sample(key: Array, state: ReplayState, batch_size: int) -> Sample:
        rows, users = state.data.terminated.shape
        user_key, start_key = jax.random.split(key)
        user = jax.random.randint(user_key, (batch_size, 1), 0, users)
        # Ages count from the oldest row, so whole windows are contiguous whatever the cursor.
        whole_windows = state.filled - window + 1
        age = jax.random.randint(start_key, (batch_size, 1), 0, jnp.maximum(whole_windows, 1))
        oldest = state.cursor - state.filled
        row = (oldest + age + jnp.arange(window)[None]) % rows
        return Sample(
            steps=jax.tree.map(lambda ring: ring[row, user], state.data),
            valid=jnp.broadcast_to(whole_windows > 0, (batch_size,)),
        )

    return Buffer(init, add, sample)


def _check_same_rows(data: PyTree, step: PyTree) -> None:
    held = jax.tree.map(lambda x: (x.shape[1:], x.dtype.name), data)
    given = jax.tree.map(lambda x: (x.shape, x.dtype.name), step)
    if held != given:
        raise ValueError(f"A step must look as it did at init.\nThe buffer holds: {held}\nThe step is: {given}")
