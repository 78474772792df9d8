"""What our agents earn on the simulators, beside what others have published and what could be reached.

Every row is one task: the mean return of new users and its 95 % interval over seeds, that of the random policy, of the
oracle that earns the most, and the bar, which is what others have published or what a simple policy earns. Settings of
learners were chosen with seeds and users of their own; those of the table are others. All policies of a seed are tested
with the same users and the same chance. Oracles see what is hidden from the learners.

The rows of ``--json`` hold each seed, the curves of learning, and of all policies the share of items that they show.
Coat and VirtualTaobao need their files, see the pages on these simulators; without them their rows are left out.

    python experiments/simulators/learners.py                     # all of them: hours
    python experiments/simulators/learners.py --only virtual      # tasks whose names begin so
    python experiments/simulators/learners.py --smoke             # small sizes, to check that the script runs
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import _learn_interest
import _learn_matrix
import _learn_sardine
import _learn_taobao
from _learners import Learned, Task, tested, yardsticks
from _results import Row, machine, write_rows

from recjax.data import UnavailableError
from recjax.eval import mean_interval

MODULES = (_learn_interest, _learn_sardine, _learn_matrix, _learn_taobao)


@dataclasses.dataclass(frozen=True)
class Config:
    only: str = ""
    """Tasks whose names begin with this; all by default."""
    seeds: int = 5
    """Independent repetitions."""
    users: int = 2048
    """New users whom each policy serves in the end."""
    smoke: bool = False
    """Small sizes, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Of a task: what the learner did, metrics ``float[seeds]`` of all policies by name, and the seconds it took."""

    task: Task
    learned: Learned
    metrics: dict[str, dict[str, np.ndarray]]
    seconds: float

    def returns(self, policy: str) -> np.ndarray:
        """``float[seeds]``."""
        return self.metrics[policy]["session_reward"]

    def oracle(self) -> str:
        """The oracle that earns the most."""
        return max(sorted(self.metrics.keys() - {LEARNER, RANDOM}), key=lambda name: self.returns(name).mean())

    def cells(self) -> list[str]:
        """A row of the table."""
        found, oracle = mean_interval(self.returns(LEARNER)), self.oracle()
        return [
            self.task.name,
            self.task.learner,
            found.plus_minus(),
            f"{self.returns(RANDOM)[0]:.4g}",
            f"{self.returns(oracle)[0]:.4g} {oracle}",
            f"{self.task.bar:g} {self.task.whose}",
            "yes" if found.mean > self.task.bar else "no",
            _share(self.metrics[LEARNER]),
            f"{self.seconds:.0f}",
        ]

    def rows(self) -> list[Row]:
        """Numbers for other programs."""
        begin, hardware = f"learners/{self.task.name}", machine()["hardware"]
        numbers = {
            f"{policy}/{name}/{seed}": value
            for policy, metrics in self.metrics.items()
            for name in ("session_reward", "session_length", "coverage")
            for seed, value in enumerate(metrics.get(name, ()))
        }
        curve = zip(self.learned.steps, self.learned.curve, strict=True)
        numbers |= {f"curve/{step}/{seed}": value for step, values in curve for seed, value in enumerate(values)}
        numbers |= {"bar": self.task.bar}
        rows = [Row(f"{begin}/{name}", float(value), "", hardware) for name, value in numbers.items()]
        return [*rows, Row(f"{begin}/seconds", self.seconds, "s", hardware)]


LEARNER, RANDOM = "learner", "random"
HEADINGS = ("task", "learner", "return", "random", "best oracle", "bar", "above", "items shown", "seconds")


def measure(task: Task, config: Config) -> Found:
    """Trains and tests."""
    begun = time.perf_counter()
    env = task.make(config.smoke)
    if config.smoke:
        env = env._replace(oracles={name: env.oracles[name] for name in [*env.oracles][-1:]})
    learned = task.learn(env, config.seeds, config.smoke)
    seconds = time.perf_counter() - begun
    metrics = {LEARNER: tested(env, learned, task, config.seeds, config.users)}
    metrics |= yardsticks(env, task, min(config.users, task.cohort))
    return Found(task, learned, metrics, seconds)


def main(config: Config) -> None:
    """Learns, tests and prints."""
    tasks = [task for module in MODULES for task in module.TASKS if task.name.startswith(config.only)]
    if config.smoke:
        config = dataclasses.replace(config, seeds=2, users=16)
        tasks = [dataclasses.replace(module.TASKS[0], longest=10) for module in MODULES]
    table = Table(title="Mean return of new users, 95 % intervals over seeds", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading)
    rows, console = [], Console(width=180)
    for task in tasks:
        try:
            found = measure(task, config)
        except UnavailableError as error:
            console.print(f"Left out: {task.name}: {error}")
            continue
        table.add_row(*found.cells())
        rows += found.rows()
        write_rows(config.json, rows)
    console.print(table)


def _share(metrics: dict[str, np.ndarray]) -> str:
    """Of the items of the catalogue."""
    return f"{metrics['coverage'].mean():.0%}" if "coverage" in metrics else ""


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
