"""Throughput of the closed loop: user-steps and TD updates a second, and the memory of the compiled loop.

Run:    python benchmarks/loop_throughput.py            (about ten minutes on two CPU cores)
Smoke:  python benchmarks/loop_throughput.py --smoke
Prints: one table. The peers do the same work in the same run: for acting and responding a Python loop
        over NumPy batches with the same users, network, exploration, arrivals and metrics
        (``_numpy_loop.py``, whose metrics a test holds against the compiled ones), and for the TD update PyTorch,
        if it is installed: the same sampling, network and update (``_torch_update.py``, whose parameters a test
        holds against the compiled ones), by whole tables or by rows, whichever is faster.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import time
from collections.abc import Callable
from functools import partial

import jax
import optax
import tyro
from _loops import BATCH, DIM, EPSILON, SLATE, dqn, product_rate
from _measure import Number, Options, clock, in_own_process, megabytes, number, peak_megabytes, percent, ratio, show
from _numpy_loop import NumpyLoop
from rich.console import Console

from recjax import agents, envs, nn
from recjax.fit import Progress
from recjax.loop import LoopConfig, Program, run_program
from recjax.prng import inlined
from recjax.replay import Ring
from recjax.rewards import click
from recjax.study import first_seed

HISTORY = 20


@dataclasses.dataclass(frozen=True)
class Config(Options):
    users: tuple[int, ...] = (1, 16, 256, 4096)
    items: tuple[int, ...] = (1_000, 10_000, 100_000)
    seconds: float = 2.0
    """Time spent on each measurement after warming up."""


class Loop:
    """A compiled chunk that can be timed again and again."""

    def __init__(self, users: int, items: int, learn: bool, chunk: int) -> None:
        env = envs.synthetic(num_items=items, slate_size=SLATE, history_length=HISTORY)
        agent = dqn(items, HISTORY)
        config = LoopConfig(
            steps=chunk, chunk=chunk, eval_every=chunk, users=users, seeds=1, batch_size=BATCH,
            replay_capacity=max(65_536, users * 16), learn_start=0,
        )  # fmt: skip
        self.program = Program(env, agent if learn else agent._replace(learn=None), config, click)
        self.state = self.program.init(jax.random.key(0))

    def __call__(self) -> None:
        self.state, metrics = self.program.chunk(self.state)
        jax.block_until_ready(metrics)

    @property
    def replay(self) -> Ring:
        """What the seed remembers."""
        return first_seed(self.state.replay)

    def updates(self, count: int) -> Callable[[], None]:
        """The loop's own learning alone, ``count`` updates a call: sample from its replay, one TD update."""
        program, replay = self.program, self.replay
        held = [program.agent.init(jax.random.key(0), program.env.spec, program.env.items)]

        @partial(jax.jit, donate_argnums=0)
        def run(agent, replay):
            def update(agent, key):
                sample = program.buffer.sample(key, replay, BATCH)
                return program.agent.learn(key, agent, sample)[:2]

            return jax.lax.scan(update, agent, jax.random.split(inlined(jax.random.key(1)), count))

        def work() -> None:
            held[0], metrics = run(held[0], replay)
            jax.block_until_ready(metrics)

        return work

    def peer(self) -> NumpyLoop:
        """The same loop in NumPy, with the same network."""
        params = first_seed(self.state.agent).params
        return NumpyLoop(self.program.env, params, self.program.config.users, EPSILON)

    def memory(self) -> tuple[float, float]:
        """MB of temporary memory of the compiled chunk, and of the replay buffer."""
        analysis = self.program.lower(self.state).compile().memory_analysis()
        replay = self.state.replay
        buffer = 0 if replay is None else sum(leaf.nbytes for leaf in jax.tree.leaves(replay))
        return analysis.temp_size_in_bytes / 1e6, buffer / 1e6


def progress_cost(steps: int, chunk: int, repeats: int) -> float:
    """Share of throughput that a live progress bar costs: the same run with and without, best of each."""
    env = envs.synthetic(num_items=1000, slate_size=SLATE, history_length=HISTORY)
    config = LoopConfig(
        steps=steps, chunk=chunk, eval_every=steps, users=256, eval_users=16, eval_steps=1, seeds=1, batch_size=BATCH
    )
    agent = agents.dqn(nn.DotProductQ.of(num_items=1000, dim=DIM), optax.adam(1e-3))
    program = Program(env, agent, config, click)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for shown in [False, True] * (1 + repeats):
        with Progress(enabled=shown, console=Console(file=io.StringIO(), force_terminal=True)) as progress:
            start = time.perf_counter()
            run_program(program, jax.random.key(0), progress=progress)
            seconds[shown].append(time.perf_counter() - start)
    # The first pair compiles.
    return min(seconds[True][1:]) / min(seconds[False][1:]) - 1


def torch_seconds(loop: Loop, seconds: float) -> float:
    """Seconds of an update by the peer: the faster of its two ways; NaN without torch."""
    if importlib.util.find_spec("torch") is None:
        return float("nan")
    from _torch_update import TorchUpdate

    program, replay = loop.program, loop.replay
    params = program.agent.init(jax.random.key(0), program.env.spec, program.env.items).params
    ways = (TorchUpdate(params, program.env.items, replay, BATCH, by_rows=by_rows) for by_rows in (False, True))
    return min(clock(way, seconds) for way in ways)


def cell(config: Config, users: int, items: int) -> list[Number]:
    """One row of the table."""
    # Chunks long enough that calling one costs nothing, short enough to be timed.
    chunk = 2 if config.smoke else max(4, min(256, int(2e6 / (users * items / 50 + 1e4))))
    before = peak_megabytes()
    loop = Loop(users, items, False, chunk)
    acting = clock(loop, config.seconds) / chunk
    learning_loop = Loop(users, items, True, chunk)
    learning = clock(learning_loop, config.seconds) / chunk
    peak, (temporary, replay) = peak_megabytes() - before, learning_loop.memory()
    count = 2 if config.smoke else max(4, min(200, 2_000_000 // items))
    updating = clock(learning_loop.updates(count), config.seconds) / count
    numpy_loop = loop.peer()
    peer = clock(lambda: numpy_loop.run(chunk), config.seconds) / chunk
    operations = 2 * items * (DIM + 1) / product_rate(DIM + 1, config.seconds / 4)
    return [
        number(users / acting, "user-steps/s"), ratio(peer / acting), percent(users * operations / acting),
        number(users / learning, "user-steps/s"), number(1 / updating, "updates/s"),
        ratio(torch_seconds(learning_loop, config.seconds) / updating), percent(BATCH * operations / updating),
        megabytes(temporary, 1), megabytes(replay, 1), megabytes(peak),
    ]  # fmt: skip


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, users=(16,), items=(100,), seconds=0.0)
    rows: list[list[str | Number]] = []
    for items in config.items:
        for users in config.users:
            numbers = cell(config, users, items) if config.smoke else in_own_process(cell, config, users, items)
            rows.append([f"{items:,}", f"{users:,}", *numbers])
    headings = [
        "items", "users", "act + respond /s", "× NumPy", "floor", "with learning /s", "TD updates/s", "× PyTorch",
        "floor", "temporary MB", "replay MB", "peak MB",
    ]  # fmt: skip
    title = f"Closed loop, slate {SLATE}, history {HISTORY}, D={DIM}, one seed, one update of {BATCH} windows a step"
    show(config, "loop_throughput", f"{title}; medians", headings, rows, ["jax", "numpy", "torch"])
    print("floor: share of the time that the product of queries and item vectors takes at the rate of this machine.")
    cost = progress_cost(*((4, 2, 1) if config.smoke else (400, 50, 5)))
    print(f"A live progress bar costs {cost:+.1%} of the time of a learning loop (256 users, 1,000 items).")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
