"""Prioritised replay, a step of it being add + sample + update, beside flashbax and beside uniform replay.

Run:    python benchmarks/replay.py            (about two minutes on two CPU cores)
Smoke:  python benchmarks/replay.py --smoke
Prints: one table. All memories hold the same experience (a history of 20 items, an item, a reward: 88 bytes a
        step) and give the same batches: windows of two consecutive steps of single users. They are filled first.
        A step adds one step of every user, draws a batch, reads its rewards and its probabilities, which importance
        weights need, and gives every drawn window a new priority. Steps run in a compiled scan that reuses the
        memory of the buffer (donated). Each contender runs in a process of its own; flashbax (its prioritised
        trajectory buffer) takes part where it is installed: pip install flashbax==0.1.3. XLA copies its tree in every
        step in which probabilities are read, so the table has it without them as well.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from _measure import Options, measure, megabytes, number, ratio, show, temporary_megabytes

from recjax import replay

WINDOW, HISTORY, STEPS = 2, 20, 20


@dataclasses.dataclass(frozen=True)
class Config(Options):
    capacity: int = 1_000_000
    users: tuple[int, ...] = (1, 64, 1024)
    batch: int = 256
    seconds: float = 5.0
    """Time spent on each measurement after warming up."""


def experience(users: int, time: jax.Array) -> dict[str, jax.Array]:
    ids = jnp.arange(users, dtype=jnp.int32)[:, None] + time
    history = jnp.broadcast_to(ids, (users, HISTORY))
    return {"history": history, "item": ids[:, 0], "reward": ids[:, 0].astype(jnp.float32)}


def stepping(state: Any, add: Callable, learn: Callable, capacity: int, users: int) -> tuple[Callable[[], None], float]:
    """Adds and learns in chunks of ``STEPS``, from a memory that is full."""

    def step(state: Any, time: jax.Array) -> Any:
        return learn(add(state, time), jax.random.split(jax.random.fold_in(jax.random.key(0), time)))

    def chunk(state: Any, first: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, state, first + jnp.arange(STEPS))

    def fill(state: Any) -> Any:
        return jax.lax.fori_loop(0, capacity // users, lambda time, state: add(state, time), state)

    program = jax.jit(chunk, donate_argnums=0).lower(state, jnp.int32(0)).compile()
    box = [jax.jit(fill, donate_argnums=0)(jax.tree.map(jnp.copy, state)), 0]

    def work() -> None:
        box[0] = jax.block_until_ready(program(box[0], jnp.int32(box[1])))[0]
        box[1] += STEPS

    return work, temporary_megabytes(program)


def ours(
    capacity: int, users: int, batch: int, *, memory: Callable[[int], replay.Memory]
) -> tuple[Callable[[], None], float]:
    buffer = memory(WINDOW).make(capacity)

    def learn(state: Any, keys: jax.Array) -> Any:
        drawn = buffer.sample(keys[0], state, batch)
        if buffer.update is not None:
            state = buffer.update(state, drawn.indices, jax.random.uniform(keys[1], (batch,)))
        return state, drawn.experience["reward"].sum() + drawn.probabilities.sum()

    add = lambda state, time: buffer.add(state, experience(users, time))  # noqa: E731
    return stepping(buffer.init(experience(users, jnp.int32(0))), add, learn, capacity, users)


def flashbax(capacity: int, users: int, batch: int, *, weighted: bool) -> tuple[Callable[[], None], float]:
    from flashbax import make_prioritised_trajectory_buffer

    buffer = make_prioritised_trajectory_buffer(
        add_batch_size=users,
        sample_batch_size=batch,
        sample_sequence_length=WINDOW,
        period=1,
        min_length_time_axis=WINDOW,
        max_length_time_axis=capacity // users,
        priority_exponent=0.6,
        device=jax.default_backend(),
    )

    def learn(state: Any, keys: jax.Array) -> Any:
        drawn = buffer.sample(state, keys[0])
        state = buffer.set_priorities(state, drawn.indices, jax.random.uniform(keys[1], (batch,)))
        read = drawn.experience["reward"].sum()
        return state, read + drawn.probabilities.sum() if weighted else read

    add = lambda state, time: buffer.add(state, jax.tree.map(lambda x: x[:, None], experience(users, time)))  # noqa: E731
    one = jax.tree.map(lambda x: x[0], experience(1, jnp.int32(0)))
    return stepping(buffer.init(one), add, learn, capacity, users)


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, capacity=512, users=(1, 4), batch=8, seconds=0.0)
    contenders: dict[str, Callable] = {
        "recjax prioritised": partial(ours, memory=replay.prioritised),
        "recjax uniform": partial(ours, memory=replay.uniform),
    }
    if importlib.util.find_spec("flashbax"):
        contenders["flashbax prioritised"] = partial(flashbax, weighted=True)
        contenders["flashbax, probabilities not read"] = partial(flashbax, weighted=False)
    rows, reference = [], {}
    for users in config.users:
        for name, contender in contenders.items():
            sizes = {"capacity": config.capacity, "users": users, "batch": config.batch}
            found = measure(contender, config.seconds, alone=not config.smoke, **sizes)
            seconds = found["seconds"] / STEPS
            times = ratio(seconds / reference.setdefault(users, seconds))
            memory = megabytes(found["temporary"], 1), megabytes(found["peak"])
            rows.append([name, f"{users:,}", number(1e6 * seconds, "µs"), times, *memory])
    show(
        config,
        "replay",
        f"Add of one step of every user, a batch of {config.batch} windows of {WINDOW} steps, and their new priorities;"
        f" capacity {config.capacity:,}",
        ["", "users", "µs", "× prioritised", "temporary MB", "peak MB"],
        rows,
        ["jax", "flashbax"],
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
