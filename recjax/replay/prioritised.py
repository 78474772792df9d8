"""A ring buffer of windows that are drawn in proportion to their priorities."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import struct

from recjax.replay import ring, sum_tree
from recjax.replay.base import Batch, Buffer, Memory
from recjax.replay.ring import Ring
from recjax.replay.sum_tree import SumTree
from recjax.types import Array, PyTree


@struct.dataclass
class PrioritisedRing:
    """A ring and how likely its windows are drawn.

    Attributes:
      ring: ``T`` rows of ``U`` users.
      weights: ``p ** alpha`` of the window that begins at row ``t`` of user ``u`` at ``t * U + u``; 0 where
        there is no whole window.
      largest: ``f32[]`` the largest weight that was ever given, at least 1.
    """

    ring: Ring
    weights: SumTree
    largest: Array


def prioritised(
    window: int = 1, *, alpha: float = 0.6, epsilon: float = 1e-6, truncated_share: float = 0.125
) -> Memory:
    """Proportional prioritised replay.

    A window of priority ``p`` is drawn with probability ``P = (p + ε) ** α / Σ (p + ε) ** α``. Draws are
    stratified (one from each of ``batch_size`` equal parts of the sum) and with replacement. A window that has just
    become whole has the largest priority that was ever given, and 1 at first, so that everything new is soon learned
    from. ``agent.learn`` returns the priorities, such as absolute TD errors, and weighs its losses by
    :func:`importance_weights` of the batch.

    The ring is that of :func:`recjax.replay.uniform`. Windows that run over the cursor or are not whole yet have weight
    0. A window that has lost the next observation of a truncated step is not ``valid`` when it is drawn, and is not
    drawn any more once its priority was updated.

    Priorities must be finite and not below 0. A NaN or a negative one makes all probabilities NaN, and with
    them the importance weights and the loss, at which a loop stops.

    Args:
      window: consecutive steps in a sample, the ``n`` of n-step returns.
      alpha: α in [0, 1]; 0 draws all windows alike.
      epsilon: ε above 0, without which a window of priority 0 would never be drawn again.
      truncated_share: see :func:`recjax.replay.uniform`.

    Returns:
      What the agent asks for; ``.make(capacity)`` is the buffer.

    Raises:
      ValueError: as :func:`recjax.replay.uniform`, or ``alpha`` or ``epsilon`` is out of range.

    References:
      Schaul et al., "Prioritized Experience Replay", ICLR 2016.
    """
    ring.check_windows(window, truncated_share)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must be in [0, 1].")
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}; it must be above 0.")

    def make(capacity: int) -> Buffer:
        empty_ring = ring.of_capacity(capacity, window, truncated_share)

        def init(experience: PyTree) -> PrioritisedRing:
            held = empty_ring(experience)
            return PrioritisedRing(held, sum_tree.empty(held.num_rows * held.num_users), jnp.ones((), jnp.float32))

        def update(state: PrioritisedRing, indices: Array, priorities: Array) -> PrioritisedRing:
            return _update(state, indices, jnp.where(priorities < 0, jnp.nan, priorities + epsilon) ** alpha, window)

        return Buffer(
            init=init,
            add=lambda state, experience: _add(state, experience, window),
            sample=lambda key, state, batch_size: _sample(key, state, batch_size, window),
            update=update,
        )

    return Memory(make, window)


def importance_weights(batch: Batch, beta: Array | float) -> Array:
    """Weights of losses that correct for how likely windows were drawn: ``(1 / P) ** β``, the largest of a batch 1.

    With β = 1 the weighted gradient is, up to the one factor, that of uniform replay; β below 1 corrects in
    part, and is raised to 1 while an agent learns: ``recjax.fit.linear_decay(0.4, 1.0, steps)(state.step)``.

    Args:
      batch: of any memory.
      beta: β in [0, 1], a scalar that may be traced.

    Returns:
      ``f32[B]`` in [0, 1]; 0 where rows are not ``valid``.

    References:
      Schaul et al., "Prioritized Experience Replay", ICLR 2016, section 3.4.

    >>> batch = Batch(None, jnp.array([True, True, False]), jnp.arange(3), jnp.array([0.1, 0.4, 0.0]))
    >>> importance_weights(batch, 0.5).tolist()
    [1.0, 0.5, 0.0]
    """
    rarest = jnp.min(batch.probabilities, initial=jnp.inf, where=batch.valid)
    return jnp.where(batch.valid, (rarest / batch.probabilities) ** beta, 0.0)


def _add(state: PrioritisedRing, experience: PyTree, window: int) -> PrioritisedRing:
    row, held = state.ring.cursor, ring.push(state.ring, experience)
    users = held.num_users
    # What begins in the written row is not whole, unless one step is; what the row completes is.
    completed = (row - (window - 1)) % held.num_rows
    weight = jnp.where(held.filled >= window, state.largest, 0.0)
    ranges = (row * users, jnp.zeros(users)), (completed * users, jnp.broadcast_to(weight, (users,)))
    weights = sum_tree.put_ranges(state.weights, ranges[window == 1 :])
    return dataclasses.replace(state, ring=held, weights=weights)


def _sample(key: Array, state: PrioritisedRing, batch_size: int, window: int) -> Batch:
    index = sum_tree.draw(key, state.weights, batch_size)
    experience, is_whole = ring.windows(state.ring, *_place(state, index), window)
    weight = state.weights.nodes[index]
    return Batch(
        experience=experience,
        valid=is_whole & (weight > 0),
        indices=index,
        probabilities=weight / jnp.maximum(state.weights.total, jnp.finfo(jnp.float32).tiny),
    )


def _update(state: PrioritisedRing, indices: Array, weights: Array, window: int) -> PrioritisedRing:
    can_be_drawn = (state.weights.nodes[indices] > 0) & ring.are_whole(state.ring, *_place(state, indices), window)
    weights = jnp.where(can_be_drawn, weights, 0.0)
    return dataclasses.replace(
        state,
        weights=sum_tree.put(state.weights, indices, weights),
        largest=jnp.maximum(state.largest, jnp.max(weights)),
    )


def _place(state: PrioritisedRing, index: Array) -> tuple[Array, Array]:
    """The row and the user of a window."""
    return index // state.ring.num_users, index % state.ring.num_users
