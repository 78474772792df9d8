"""Scale on one machine: speed and memory of the closed loop by users and items, and a million users.

Run:    python benchmarks/scale.py            (about half an hour on two CPU cores)
Smoke:  python benchmarks/scale.py --smoke
Prints: one table, each cell from a process of its own: user-steps a second and microseconds a user-step, with and
        without learning. The floor is what the product of users and items alone would take, at the rate of this machine
        for products of that inner dimension that stay in its caches. Megabytes are those of users, of replay, of the
        compiled learning loop between its parts, and by how much its process grew at its peak. Big catalogues
        are learned by rows, with cached vectors (``fit.rows_pay``). Cells of more than a minute a step are left out,
        and said to be, unless --full is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import tyro
from _loops import BATCH, DIM, SLATE, dqn, product_rate
from _measure import Number, Options, measure, megabytes, number, percent, show, temporary_megabytes

from recjax import envs
from recjax.loop import LoopConfig, Program
from recjax.loop.memory import GIB, tree_bytes
from recjax.rewards import click


@dataclasses.dataclass(frozen=True)
class Config(Options):
    users: tuple[int, ...] = (1, 16, 256, 4096, 65_536)
    items: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    many_users: int = 1_000_000
    """Users of the last rows, whose histories are of 50."""
    many_items: tuple[int, ...] = (1_000, 10_000)
    """Items of the last rows."""
    full: bool = False
    """Also cells of more than a minute a step."""
    seconds: float = 1.0
    """Time spent on each measurement after warming up."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A loop of some size."""

    users: int
    items: int
    history: int
    rows: int
    """Steps of each user that replay holds."""
    learn: bool = True

    def seconds_a_step(self) -> float:
        """About how long a step takes on one core: a nanosecond a score and a little more, and what an update takes."""
        learning = 3e-9 * BATCH * self.items if self.learn else 0.0
        return 1e-5 + learning + self.users * (2e-6 + 1e-9 * self.items)

    def program(self) -> Program:
        env = envs.synthetic(num_items=self.items, slate_size=SLATE, history_length=self.history)
        agent = dqn(self.items, self.history)
        # Chunks long enough that calling one costs little, short enough to be timed.
        chunk = max(2, min(256, int(0.5 / self.seconds_a_step())))
        config = LoopConfig(
            steps=chunk, chunk=chunk, eval_every=chunk, users=self.users, seeds=1, batch_size=BATCH,
            replay_capacity=self.rows * self.users, learn_start=0,
        )  # fmt: skip
        return Program(env, agent if self.learn else agent._replace(learn=None), config, click)


def loop(cell: Cell) -> tuple[Callable[[], None], float]:
    """A chunk that can be run again and again, and its temporary megabytes."""
    program = cell.program()
    state = program.init(jax.random.key(0))
    temporary = temporary_megabytes(program.lower(state).compile())

    def run() -> None:
        nonlocal state
        state, metrics = program.chunk(state)
        jax.block_until_ready((state.step, metrics))

    return run, temporary


def microseconds(seconds: float) -> Number:
    """Two decimals where they say something."""
    return number(1e6 * seconds, "µs", 2 if seconds < 1e-4 else 0)


def row(cell: Cell, config: Config, rate: float) -> list[str | Number]:
    """Measures a loop with and without learning."""
    shapes = cell.program().shapes()
    costs, found = [], {}
    for learn in (False, True):
        one = dataclasses.replace(cell, learn=learn)
        found = measure(partial(loop, one), config.seconds, alone=not config.smoke)
        costs.append(found["seconds"] / one.program().config.chunk / cell.users)
    floor = 2 * cell.items * (DIM + 1) / rate
    return [
        f"{cell.items:,}", f"{cell.users:,}", f"{cell.history}",
        number(1 / costs[0], "user-steps/s"), microseconds(costs[0]),
        number(1 / costs[1], "user-steps/s"), microseconds(costs[1]),
        microseconds(floor), percent(floor / costs[0]),
        megabytes(tree_bytes(shapes.users) / 1e6, 1), megabytes(tree_bytes(shapes.replay) / 1e6, 1),
        megabytes(found["temporary"], 1), megabytes(found["peak"]),
    ]  # fmt: skip


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, users=(16,), items=(100,), many_users=64, many_items=(100,), seconds=0.0)
    rate = product_rate(DIM + 1, config.seconds)
    cells = [Cell(users, items, 20, max(16, 65_536 // users)) for items in config.items for users in config.users]
    cells += [Cell(config.many_users, items, 50, 4) for items in config.many_items]
    wanted = [cell for cell in cells if config.full or cell.seconds_a_step() < 60]
    headings = [
        "items", "users", "history", "act + respond /s", "µs", "learning /s", "µs, learning", "floor µs", "floor",
        "users MB", "replay MB", "temporary MB", "peak MB",
    ]  # fmt: skip
    title = f"Closed loop, slate {SLATE}, D={DIM}, one seed, one update of {BATCH} windows a step; medians"
    show(config, "scale", title, headings, [row(cell, config, rate) for cell in wanted], ["jax", "numpy"])
    for cell in cells:
        if cell not in wanted:
            print(
                f"Left out: {cell.users:,} users and {cell.items:,} items take over a minute a step; --full has them."
            )
    print(f"Products of inner dimension {DIM + 1}: {rate / 1e9:.1f} GFLOP/s. 24 GiB are {24 * GIB / 1e6:,.0f} MB.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
