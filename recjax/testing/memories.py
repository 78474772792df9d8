"""What every memory owes to the loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.replay import Memory
from recjax.types import Observation, Response, Step, seed_axes

USERS, STRIDE = 3, 1 << 20


def stamped_step(time: Any, users: int = USERS) -> Step:
    """A step whose slate says whose it is and when it was, in integers that no float32 holds.

    Users leave at every fifth step; every other user is cut off at every seventh, and would have seen something
    that nobody else sees.
    """
    time = jnp.asarray(time, jnp.int32)
    code = (1 << 24) + 1 + jnp.arange(users, dtype=jnp.int32) * STRIDE + time
    pair = lambda x: jnp.broadcast_to(x[:, None], (users, 2))  # noqa: E731
    left = jnp.broadcast_to(time % 5 == 4, (users,))
    cut = (time % 7 == 6) & (jnp.arange(users) % 2 == 1) & ~left
    observation = Observation(history=pair(code), behaviour=jnp.zeros((users, 2), jnp.int32))
    after = observation.replace(history=observation.history + jnp.where(cut, 1 << 19, 1)[:, None])  # type: ignore[attr-defined]
    value = pair(jnp.broadcast_to(time.astype(jnp.float32), (users,)))
    return Step(observation, pair(code), value[:, 0], None, Response(click=value), value, left, cut, after)


def check_memory(memory: Memory, *, capacity: int = 40 * USERS) -> None:
    """Checks a memory with steps that say where they come from.

    Windows are consecutive steps of one user, as they were added, dtypes included; what is ``valid`` has the next
    observation that was seen, across the end of a recording too; nothing is valid before a whole window was added;
    indices name windows; probabilities are positive; and a state is written in place under ``vmap`` over seeds. Where
    there is ``update``, windows are drawn as often as their probabilities say, and these follow the priorities.

    Args:
      memory: what an agent asks for.
      capacity: steps of single users.

    Raises:
      ValueError, AssertionError: what does not keep the contract of :class:`recjax.replay.Buffer`.
    """
    buffer, adds = memory.make(capacity), 2 * capacity // USERS + 1

    @jax.jit
    def run(key: Any) -> Any:
        def body(state: Any, time: Any) -> tuple[Any, Any]:
            state = buffer.add(state, stamped_step(time))
            batch = buffer.sample(jax.random.fold_in(key, time), state, 32)
            if buffer.update is not None:
                state = buffer.update(state, batch.indices, 1.0 + batch.probabilities)
            return state, batch

        return jax.lax.scan(body, buffer.init(stamped_step(0)), jnp.arange(adds))

    state, batches = run(jax.random.key(0))
    seen_valid = False
    for time in range(adds):
        batch = jax.tree.map(lambda x, time=time: np.asarray(x[time]), batches)
        assert not batch.valid.any() or time + 1 >= memory.window, (
            f"A window of {memory.window} steps is valid after {time + 1} were added."
        )
        _check_batch(jax.tree.map(lambda x, keep=batch.valid: x[keep], batch), time, memory.window)
        seen_valid |= bool(batch.valid.any())
    assert seen_valid, f"No window was ever valid, after {adds} steps of {USERS} users."
    _check_in_place(buffer, state)
    if buffer.update is not None:
        _check_priorities(buffer, state)


def _check_batch(batch: Any, time: int, window: int) -> None:
    steps = batch.experience
    code = steps.slate[..., 0] - (1 << 24) - 1
    user, when = code // STRIDE, code % STRIDE
    assert steps.slate.dtype == np.int32, f"Slates were i32 when they were added and are {steps.slate.dtype} now."
    assert code.shape[1:] == (window,), f"Windows have shape {code.shape[1:]}; the memory says window={window}."
    assert ((user >= 0) & (user < USERS) & (when <= time)).all(), "A window holds steps that were never added."
    assert (user == user[:, :1]).all(), "A window holds steps of several users."
    assert (np.diff(when, axis=1) == 1).all(), "A window holds steps that do not follow each other."
    expected = jax.device_get(jax.vmap(jax.vmap(lambda t: stamped_step(t)))(when))
    rows = np.arange(len(when))[:, None], np.arange(window)[None], user
    counts = ~steps.terminated
    after = steps.next_observation.history
    wanted = expected.next_observation.history[rows]
    assert (after[counts] == wanted[counts]).all(), "A next observation is not the one that was seen."
    assert (steps.reward == expected.reward[rows]).all(), "A reward is not the one that was added."
    assert (batch.probabilities > 0).all(), "A window was drawn whose probability is 0."
    of_window: dict[int, int] = {}
    for index, first in zip(batch.indices.tolist(), code[:, 0].tolist(), strict=True):
        assert of_window.setdefault(index, first) == first, f"Index {index} stands for two windows."


def _check_in_place(buffer: Any, state: Any) -> None:
    axes = seed_axes(state)
    two = jax.tree.map(
        lambda axis, leaf: leaf if axis is None else jax.tree.map(lambda x: jnp.stack([x, x]), leaf),
        axes, state, is_leaf=lambda axis: axis is None,
    )  # fmt: skip

    def body(state: Any, time: Any) -> tuple[Any, Any]:
        state = buffer.add(state, stamped_step(time))
        return state, buffer.sample(jax.random.key(0), state, 8).experience.reward.sum()

    run = jax.vmap(lambda state: jax.lax.scan(body, state, jnp.arange(4)), in_axes=(axes,), out_axes=(axes, 0))
    memory = jax.jit(run, donate_argnums=0).lower(two).compile().memory_analysis()
    assert memory is not None
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(two))
    assert memory.alias_size_in_bytes >= 0.9 * size, (
        f"Of {size} bytes of two seeds' memory only {memory.alias_size_in_bytes} are written in place; declare what"
        " seeds have in common with recjax.types.shared, and write before you read."
    )


def _check_priorities(buffer: Any, state: Any) -> None:
    draws = 20_000
    sample = jax.jit(buffer.sample, static_argnums=2)
    held = np.unique(sample(jax.random.key(1), state, draws).indices)
    priorities = 1.0 + np.arange(len(held)) % 4
    batch = sample(
        jax.random.key(2), buffer.update(state, jnp.asarray(held), jnp.asarray(priorities, jnp.float32)), draws
    )
    drawn, first, counts = np.unique(batch.indices, return_index=True, return_counts=True)
    chance = np.asarray(batch.probabilities, np.float64)[first]
    assert abs(chance.sum() - 1) < 0.01, f"The probabilities of all windows add up to {chance.sum():.3f}."
    surprise = ((counts - draws * chance) ** 2 / (draws * chance)).sum()
    freedom = len(drawn) - 1
    assert surprise < freedom + 5 * np.sqrt(2 * freedom), (
        f"Windows are not drawn as often as their probabilities say: chi-squared is {surprise:.0f} for {freedom}."
    )
    given = priorities[np.searchsorted(held, drawn)]
    means = [chance[given == priority].mean() for priority in np.unique(given)]
    assert (np.diff(means) > 0).all(), (
        f"Priorities 1, 2, 3 and 4 give probabilities {np.round(means, 4)}; they must rise."
    )
