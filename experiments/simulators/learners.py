"""What our agents earn on the simulators, beside what others have published and what could be reached.

Every row is one task: the mean return of new users and its 95 % interval over seeds, that of the random policy, of the
oracle that earns the most, and the bar, which is what others have published or what a simple policy earns. Settings of
learners were chosen with seeds and users of their own; those of the table are others. All policies of a seed are tested
with the same users and the same chance. Oracles see what is hidden from the learners.

A task is one result, of all its seeds, which learn side by side. The rows of ``--json`` hold each seed, the curves of
learning, and of all policies the share of items that they show. Coat and VirtualTaobao need their files, see the pages
on these simulators; without them their rows are left out.

    python experiments/simulators/learners.py                     # all of them: long on two cores
    python experiments/simulators/learners.py --only virtual      # tasks whose names begin so
    python experiments/simulators/learners.py --smoke             # small sizes, to check that the script runs
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import _learn_interest
import _learn_matrix
import _learn_sardine
import _learn_taobao
from _learners import Task, tested, yardsticks
from _results import Result
from runner import Options, Study, run

from recjax.data import UnavailableError
from recjax.eval import mean_interval

MODULES = (_learn_interest, _learn_sardine, _learn_matrix, _learn_taobao)
LEARNER, RANDOM = "learner", "random"
METRICS = ("session_reward", "session_length", "coverage")
HEADINGS = ("task", "learner", "return", "random", "best oracle", "bar", "above", "items shown", "minutes")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    seeds: int = 5
    """Independent repetitions of each learner."""
    only: str = ""
    """Tasks whose names begin with this; all by default."""
    users: int = 2048
    """New users whom each policy serves in the end."""


def measure(task: Task, config: Config) -> dict[str, Any]:
    """Trains and tests; the metrics of a policy are by number of the seed."""
    begun = time.perf_counter()
    env = task.make(config.smoke)
    if config.smoke:
        task = dataclasses.replace(task, longest=10)
        env = env._replace(oracles={name: env.oracles[name] for name in [*env.oracles][:1]})
    learned = task.learn(env, config.seeds, config.smoke)
    seconds = time.perf_counter() - begun
    policies = {LEARNER: tested(env, learned, task, config.seeds, config.users)}
    policies |= yardsticks(env, task, min(config.users, task.cohort))
    return {
        "policies": {
            policy: {name: _numbered(metrics[name]) for name in METRICS if name in metrics}
            for policy, metrics in policies.items()
        },
        "curve": {str(step): _numbered(values) for step, values in zip(learned.steps, learned.curve, strict=True)},
        "bar": task.bar,
        "seconds": seconds,
    }


def main(study: Study) -> None:
    """Learns, tests and prints."""
    config = study.config
    assert isinstance(config, Config)
    modules = [module.TASKS[:1] if config.smoke else module.TASKS for module in MODULES]
    lines = []
    for task in (task for tasks in modules for task in tasks if task.name.startswith(config.only)):
        condition = {"task": task.name, "seeds": config.seeds}
        try:
            result = study.result(lambda task=task: measure(task, config), 0, condition, ["only"])
        except UnavailableError as error:
            print(f"Left out: {task.name}: {error}")
            continue
        lines.append((_cells(task, result), [result]))
    study.show("Mean return of new users, 95 % intervals over seeds", HEADINGS, lines, left=2)


def _cells(task: Task, result: Result) -> list[str]:
    """A line of the table."""
    of = {
        policy: {name: np.array([*values.values()]) for name, values in metrics.items()}
        for policy, metrics in result.found["policies"].items()
    }
    earned = {policy: mean_interval(metrics["session_reward"]) for policy, metrics in of.items()}
    oracle = max(earned.keys() - {LEARNER, RANDOM}, key=lambda policy: earned[policy].mean)
    return [
        task.name,
        task.learner,
        earned[LEARNER].plus_minus(),
        f"{earned[RANDOM].mean:.4g}",
        f"{earned[oracle].mean:.4g} {oracle}",
        f"{task.bar:g} {task.whose}",
        "yes" if earned[LEARNER].mean > task.bar else "no",
        f"{of[LEARNER]['coverage'].mean():.0%}" if "coverage" in of[LEARNER] else "",
        f"{result.found['seconds'] / 60:.1f}",
    ]


def _numbered(values: np.ndarray) -> dict[str, float]:
    """One number a seed, by its number."""
    return {str(seed): round(float(value), 4) for seed, value in enumerate(values)}


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, users=16)
