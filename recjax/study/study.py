"""The study that ``recjax loop`` runs: prepare, close the loop for every policy, compare."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import recjax
from recjax.agents import Agent
from recjax.data import Dataset
from recjax.eval import default_metrics, describe
from recjax.fit import Checkpoints, Progress
from recjax.loop.program import Program
from recjax.loop.run import Logger, Result, Saving, run_program
from recjax.rewards import parse as parse_reward
from recjax.study.check import check_study, import_plugins
from recjax.study.config import StudyConfig
from recjax.study.examples import Followed, Onlooker, first_seed, summarise
from recjax.study.policies import Policy, explain, make_policy
from recjax.study.prepare import Prepared, prepare
from recjax.study.yardsticks import PREFIX, Yardstick, compare_with, long_term_value, yardsticks
from recjax.types import PyTree

SOFTWARE = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "polars")

Recorder = Callable[[str], Logger]
"""``policy name -> on_record`` of :func:`recjax.loop.run_program`."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that has run.

    Attributes:
      results: plain data, as ``metrics.json`` holds it.
      prepared: what the loop started from.
      runs: the loop of each policy.
      agents: the agent of each policy.
    """

    results: dict[str, Any]
    prepared: Prepared
    runs: dict[str, Result]
    agents: dict[str, Agent]

    def __repr__(self) -> str:
        name = self.results["data"]["name"]
        return f"Study({', '.join(self.results['policies'])} on {name}: {self.results['seconds']['total']:.0f} s)"

    def policy(self, name: str) -> tuple[Agent, PyTree]:
        """A policy's agent, and its state of the first seed.

        Raises:
          ValueError: the study has no such policy.
        """
        if name not in self.runs:
            raise ValueError(f"The study has no policy {name!r}; it has {', '.join(self.runs)}.")
        return self.agents[name], first_seed(self.runs[name].state.agent)


def run_study(
    config: StudyConfig,
    *,
    dataset: Dataset | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_checked: Callable[[], None] | None = None,
    on_prepared: Callable[[Prepared], None] | None = None,
    recorder: Recorder | None = None,
) -> Study:
    """Runs every policy of a study in the same closed loop.

    All policies get the same keys: they meet the same arriving users and the same chance,
    as far as their slates do not lead them apart, so their differences are paired by seed.

    Args:
      config: the study.
      dataset: the log, where :func:`open_source` has loaded it already; loaded by its name if None.
      directory: where checkpoints go; None keeps none.
      resume: continues what is in ``directory``; finished stages and policies are not run again. Without it,
        all checkpoints that are there are removed first.
      progress: where to show progress.
      on_checked: called once it is known that the study can run, before anything is written.
      on_prepared: called once the log is represented and the simulator fitted.
      recorder: gives, for a policy's name, a function that is called with each row of metrics.

    Raises:
      ValueError: the study cannot run (see :func:`check_study`), or what is in ``directory`` was made with another
        configuration.
      Interrupted: on Ctrl-C, after the current chunk was finished and saved.
    """
    import_plugins(config.plugins)
    check_study(config)
    if on_checked:
        on_checked()
    reward = parse_reward(config.reward)
    root = None if directory is None else Path(directory)
    if root is not None and not resume:
        _clear(root)
    clock = _Clock()
    with clock("prepare"):
        prepared = prepare(config, dataset=dataset, directory=root, resume=resume, progress=progress)
    policies = {name: make_policy(name, prepared.policies) for name in dict.fromkeys(config.agent)}
    if on_prepared:
        on_prepared(prepared)
    programs: list[Program] = []
    runs: dict[str, Result] = {}
    followed: dict[str, Followed] = {}
    key, examples_key = (jax.random.fold_in(jax.random.key(config.seed), part) for part in (1, 2))
    onlooker = None if prepared.env.spec.action_space == "vector" else Onlooker(prepared.env, reward, examples_key)
    oracles = _oracles(config, prepared, reward, clock, jax.random.fold_in(jax.random.key(config.seed), 3))
    policies |= {name: each.policy for name, each in oracles.items()}
    for name, policy in policies.items():
        with clock(f"loop/{name}"):
            runs[name] = run_program(
                _program_for(policy, prepared, config, reward, programs),
                key,
                hparams=policy.hparams,
                params=policy.params,
                devices=config.devices,
                saving=None if root is None else Saving(root / name, resume, config.recipe()),
                progress=progress,
                name=name,
                on_record=recorder(name) if recorder else None,
            )
        clock.move(runs[name].compile_seconds, f"loop/{name}", "compile")
        if onlooker is not None and not policy.agent.is_oracle:
            with clock(f"examples/{name}"):
                followed[name] = onlooker(policy.agent, runs[name].state)
    results = _results(config, prepared, runs, clock.seconds)
    for name, each in oracles.items():
        results["policies"][name]["description"] = each.description
    results["examples"] = summarise(followed, prepared.dataset) if followed else None
    return Study(results, prepared, runs, {name: policy.agent for name, policy in policies.items()})


def _clear(directory: Path) -> None:
    """Removes the checkpoints of an earlier study, so that none of them can be taken for one of this."""
    for folder in sorted(directory.glob("*")):
        if folder.is_dir():
            Checkpoints(folder).clear()


def _program_for(
    policy: Policy, prepared: Prepared, config: StudyConfig, reward: Any, programs: list[Program]
) -> Program:
    """The compiled program of the policy's agent; one that exists already serves again."""
    for program in programs:
        if program.agent is policy.agent:
            return program
    # A policy that never changes is evaluated; there is nothing to follow in a loop.
    program = Program(prepared.env, policy.agent, config, reward)
    if program.is_constant:
        still = dataclasses.replace(config, steps=0, chunk=0, eval_every=0)
        program = Program(prepared.env, policy.agent, still, reward)
    programs.append(program)
    return program


def _oracles(config: StudyConfig, prepared: Prepared, reward: Any, clock: _Clock, key: Any) -> dict[str, Yardstick]:
    if not config.oracles:
        return {}
    with clock("oracles"):
        return yardsticks(prepared.env, reward, config.eval_steps, key)


def _results(
    config: StudyConfig, prepared: Prepared, runs: dict[str, Result], seconds: dict[str, float]
) -> dict[str, Any]:
    policies = {
        name: {
            "description": explain(name),
            "is_oracle": name.startswith(PREFIX),
            "evaluated_at": run.evaluated_at,
            "evaluations": run.evaluations,
            "online_at": run.online_at,
            "online": run.online,
            "seconds": run.seconds,
            "compile_seconds": run.compile_seconds,
            "user_steps_per_second": run.evaluated_at[-1] * config.users * config.seeds / max(run.seconds, 1e-9),
        }
        for name, run in runs.items()
    }
    measured = next(iter(runs.values())).evaluations
    of_metrics = {
        name: metric for sums in default_metrics(prepared.env.spec) for name, metric in sums.definitions.items()
    }
    return {
        "recjax": recjax.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "config": dataclasses.asdict(config),
        "data": prepared.dataset.describe(),
        "ranking": prepared.ranking,
        "simulator": prepared.simulator,
        "policies": policies,
        "reached": compare_with(runs),
        "long_term_value": long_term_value(runs),
        "definitions": {name: dataclasses.asdict(of_metrics.get(name) or describe(name)) for name in measured},
        "hardware": _hardware(),
        "software": {"python": platform.python_version()} | {name: metadata.version(name) for name in SOFTWARE},
        "seconds": seconds | {"total": sum(seconds.values())},
    }


def _hardware() -> dict[str, Any]:
    devices = sorted({device.device_kind for device in jax.devices()})
    cores = _cpu_cores()
    return {
        "summary": f"{', '.join(devices)} × {jax.device_count()}, {cores} CPU cores",
        "machine": platform.machine(),
        "system": platform.system(),
        "devices": devices,
        "device_count": jax.device_count(),
        "cpu_cores": cores,
    }


def _cpu_cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        return os.cpu_count()


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begun

    def move(self, seconds: float, stage: str, other: str) -> None:
        """Counts seconds of a stage to another one."""
        self.seconds[stage] -= seconds
        self.seconds[other] = self.seconds.get(other, 0.0) + seconds
