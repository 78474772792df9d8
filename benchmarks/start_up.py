"""How long one waits before anything happens: help texts, and a toy loop in a new process with and without its cache.

Run:    python benchmarks/start_up.py            (about 5 minutes on two CPU cores)
Smoke:  python benchmarks/start_up.py --smoke
Prints: one table. Every figure is the median of several processes, each from its start to its end, interpreter
        included. The toy is ``recjax.loop.run`` of DQN over 100 items, 20 steps; "compiling" starts from an empty cache
        of compiled programs, "second process" from the cache that the one before has left.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import tyro
from _measure import Options, number, show

COMMANDS = (["--version"], ["--help"], ["loop", "--help"], ["data", "list"], ["recommend", "--help"])

TOY = """
import sys
import recjax
if sys.argv[1]:
    recjax.enable_compilation_cache(sys.argv[1])
import jax, optax
from recjax import agents, envs, loop, nn
env = envs.synthetic(num_items=100, slate_size=3)
agent = agents.dqn(nn.DotProductQ.of(num_items=100, dim=16), optax.adam(1e-3))
small = dict(users=16, eval_users=16, eval_steps=5, batch_size=16)
config = loop.LoopConfig(steps=20, chunk=10, seeds=2, learn_start=4, **small)
result = loop.run(env, agent, config, key=jax.random.key(0))
print(result.final()["ctr"])
"""


@dataclasses.dataclass(frozen=True)
class Config(Options):
    repeats: int = 5
    """Processes of which the median is shown."""


def seconds(*arguments: str) -> float:
    """Wall-clock time of a Python process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environ)
    return time.perf_counter() - begun


def main(config: Config) -> None:
    repeats = 1 if config.smoke else config.repeats
    rows = []
    for command in COMMANDS:
        times = [seconds("-m", "recjax", *command) for _ in range(repeats)]
        rows.append([f"recjax {' '.join(command)}", number(float(np.median(times)), "s", 2)])
    if not config.smoke:
        with tempfile.TemporaryDirectory() as cache:
            first = seconds("-c", TOY, cache)
            times = [seconds("-c", TOY, cache) for _ in range(repeats)]
        rows.append(["toy loop.run, compiling (once)", number(first, "s", 2)])
        rows.append(["toy loop.run, second process", number(float(np.median(times)), "s", 2)])
    title = f"Start-up, median of {repeats} processes"
    show(config, "start_up", title, ["process", "seconds"], rows, ["recjax", "jax"])


if __name__ == "__main__":
    main(tyro.cli(Config))
