"""Memory of on-policy learners: the steps since the last update, each learned from once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.replay import ring
from recjax.replay.base import Batch, Buffer, Memory
from recjax.replay.ring import Ring
from recjax.types import Array, PyTree


def rollout(length: int) -> Memory:
    """The last ``length`` steps of every user, given whole every ``length`` steps.

    ``sample`` draws nothing: its batch is all ``U`` users in their order, whatever the batch size of the
    loop, each a window of ``length`` steps. The loop updates once every ``length`` steps, so that all
    experience comes from the policy that learns from it. The capacity of the loop does not matter.

    Args:
      length: steps of a rollout.

    Returns:
      What the agent asks for.

    Raises:
      ValueError: ``length`` is below 1; at ``add``, shapes or dtypes are not those of ``init``.

    >>> memory = rollout(length=3)
    >>> buffer = memory.make(capacity=1)
    >>> state = buffer.init({"reward": jnp.zeros(2)})
    >>> for step in range(3):
    ...     state = buffer.add(state, {"reward": jnp.full(2, float(step))})
    >>> batch = buffer.sample(jax.random.key(0), state, 1)
    >>> batch.experience["reward"].tolist(), batch.valid.tolist()
    ([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], [True, True])
    """
    if length < 1:
        raise ValueError(f"length is {length}; a rollout has at least 1 step.")

    def init(experience: PyTree) -> Ring:
        users = jax.tree.leaves(experience)[0].shape[0]
        # Every step is learned from, so every truncated one needs what its episode ended with.
        return ring.empty(experience, length, finals=length * users)

    def sample(key: Array, state: Ring, batch_size: int) -> Batch:
        del key, batch_size
        users = jnp.arange(state.num_users)
        experience, is_whole = ring.windows(state, jnp.broadcast_to(state.oldest, users.shape), users, length)
        return Batch(
            experience=experience,
            valid=is_whole & (state.filled == length),
            indices=users,
            probabilities=jnp.ones(users.shape, jnp.float32),
        )

    return Memory(lambda capacity: Buffer(init, ring.push, sample), length, period=length)
