"""Throughput of the closed loop: user-steps and TD updates a second, and the memory of the compiled loop.

Run:    python benchmarks/loop_throughput.py            (about ten minutes on two CPU cores)
Smoke:  python benchmarks/loop_throughput.py --smoke
Prints: one table. The peers do the same work in the same run: for acting and responding a Python loop
        over NumPy batches with the same users, network, exploration, arrivals and metrics
        (``_numpy_loop.py``, whose metrics a test holds against the compiled ones), and PyTorch for
        the TD update, if it is installed.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable

import jax
import optax
import tyro
from _measure import Options, clock, megabytes, number, ratio, show
from _numpy_loop import NumpyLoop
from rich.console import Console

from recjax import agents, envs, nn
from recjax.fit import Progress
from recjax.loop import LoopConfig, Program, run_program
from recjax.rewards import click

SLATE, HISTORY, DIM, BATCH, EPSILON = 5, 20, 32, 128, 0.1


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
        agent = agents.dqn(
            nn.DotProductQ.of(num_items=items, dim=DIM), optax.adam(1e-3), policy=agents.SlatePolicy(epsilon=EPSILON)
        )
        config = LoopConfig(
            steps=chunk, chunk=chunk, eval_every=chunk, users=users, seeds=1, batch_size=BATCH,
            replay_capacity=max(65_536, users * 16), learn_start=0,
        )  # fmt: skip
        self.program = Program(env, agent if learn else agent._replace(learn=None), config, click)
        self.state = self.program.init(jax.random.key(0))

    def __call__(self) -> None:
        self.state, metrics = self.program.chunk(self.state)
        jax.block_until_ready(metrics)

    def updates(self, count: int) -> Callable[[], None]:
        """The loop's own learning alone, ``count`` updates a call: sample from its replay, one TD update."""
        program, replay = self.program, jax.tree.map(lambda x: x[0] if x.ndim else x, self.state.replay)
        agent = program.agent.init(jax.random.key(0), program.env.spec, program.env.items)

        @jax.jit
        def run(agent, replay):
            def update(agent, key):
                sample = program.buffer.sample(key, replay, BATCH)
                return program.agent.learn(key, agent, sample)[:2]

            return jax.lax.scan(update, agent, jax.random.split(jax.random.key(1), count))

        return lambda: jax.block_until_ready(run(agent, replay))

    def peer(self) -> NumpyLoop:
        """The same loop in NumPy, with the same network."""
        params = jax.tree.map(lambda leaf: leaf[0], self.state.agent.params)
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


def torch_update(items: int) -> Callable[[], None] | None:
    """The peer: one double-DQN update of the same sizes in PyTorch, dense Adam as is usual; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    table = torch.nn.Embedding(items + 2, DIM)
    tower = torch.nn.Sequential(torch.nn.Linear(DIM, DIM), torch.nn.ReLU(), torch.nn.Linear(DIM, DIM))
    value = torch.nn.Linear(DIM, 1)
    parameters = [*table.parameters(), *tower.parameters(), *value.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    history = torch.randint(items, (2, BATCH, HISTORY))
    actions, reward = torch.randint(items, (BATCH, SLATE)), torch.rand(BATCH, SLATE)

    def user(ids: torch.Tensor) -> torch.Tensor:
        return tower(table(ids).mean(1))

    def update() -> None:
        with torch.no_grad():
            after = user(history[1])
            vectors = torch.nn.functional.normalize(table.weight[:items], dim=-1)
            best = (torch.nn.functional.normalize(after, dim=-1) @ vectors.T).max(dim=1).values
            target = reward + 0.95 * (best + value(after)[:, 0])[:, None]
        state = user(history[0])
        chosen = torch.nn.functional.normalize(table(actions), dim=-1)
        q = (torch.nn.functional.normalize(state, dim=-1)[:, None] * chosen).sum(-1) + value(state)
        loss = torch.nn.functional.huber_loss(q, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, users=(16,), items=(100,), seconds=0.0)
    rows = []
    for items in config.items:
        peer_update = torch_update(items)
        torch_seconds = clock(peer_update, config.seconds) if peer_update else float("nan")
        for users in config.users:
            # Chunks long enough that calling one costs nothing, short enough to be timed.
            chunk = 2 if config.smoke else max(4, min(256, int(2e6 / (users * items / 50 + 1e4))))
            loop = Loop(users, items, False, chunk)
            acting = chunk * users / clock(loop, config.seconds)
            numpy_loop = loop.peer()
            peer = chunk * users / clock(lambda run=numpy_loop.run, steps=chunk: run(steps), config.seconds)
            learning_loop = Loop(users, items, True, chunk)
            learning_seconds = clock(learning_loop, config.seconds)
            count = 2 if config.smoke else max(4, min(200, 2_000_000 // items))
            update_seconds = clock(learning_loop.updates(count), config.seconds) / count
            temporary, replay = learning_loop.memory()
            per_second = "user-steps/s"
            rows.append([
                f"{items:,}", f"{users:,}", number(acting, per_second), ratio(acting / peer),
                number(chunk * users / learning_seconds, per_second), number(1 / update_seconds, "updates/s"),
                ratio(torch_seconds / update_seconds), megabytes(temporary, 1), megabytes(replay, 1),
            ])  # fmt: skip
    headings = [
        "items", "users", "act + respond /s", "× NumPy", "with learning /s", "TD updates/s", "× PyTorch",
        "temporary MB", "replay MB",
    ]  # fmt: skip
    title = f"Closed loop, slate {SLATE}, history {HISTORY}, D={DIM}, one seed, one update of {BATCH} windows a step"
    show(config, "loop_throughput", f"{title}; medians", headings, rows, ["jax", "numpy", "torch"])
    cost = progress_cost(*((4, 2, 1) if config.smoke else (400, 50, 5)))
    print(f"A live progress bar costs {cost:+.1%} of the time of a learning loop (256 users, 1,000 items).")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
