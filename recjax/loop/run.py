"""Drives a compiled loop from the host: schedule, progress, checkpoints, interrupts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from recjax.agents.base import Agent
from recjax.envs.base import Environment
from recjax.fit import Checkpoints, Progress, shard_seeds
from recjax.loop.config import LoopConfig
from recjax.loop.interrupt import Interrupted, deferred_interrupt
from recjax.loop.program import LoopState, Program
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.types import Array, PyTree, seed_axes

SAVE_SECONDS = 15.0
"""A checkpoint is written at the end of a chunk when the last one is older than this."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Attributes:
      state: the loop's state after the last step.
      evaluated_at: ``int[E]`` steps at which the policy was evaluated without exploration.
      evaluations: metric name to ``float[E, seeds]``.
      online_at: ``int[C]`` steps at which a chunk ended.
      online: metric name to ``float[C, seeds]``: the chunk's own traffic, with exploration.
      seconds: wall-clock time of the steps, compilation included, evaluations excluded.
    """

    state: LoopState
    evaluated_at: np.ndarray
    evaluations: dict[str, np.ndarray]
    online_at: np.ndarray
    online: dict[str, np.ndarray]
    seconds: float

    def final(self) -> dict[str, np.ndarray]:
        """The last evaluation: metric name to ``float[seeds]``."""
        return {name: values[-1] for name, values in self.evaluations.items()}


def run(
    env: Environment,
    agent: Agent,
    config: LoopConfig = LoopConfig(),  # noqa: B008 (frozen)
    *,
    key: Array,
    reward: Reward | str = "click",
    **options: Any,
) -> Result:
    """Closes the loop between ``env`` and ``agent``.

    Args:
      env: the environment.
      agent: the agent.
      config: how long and how wide.
      key: one typed PRNG key; the whole run follows from it.
      reward: function of the response, or a name as :func:`recjax.rewards.parse` takes.
      **options: as for :func:`run_program`.

    Returns:
      The final state and all metrics.
    """
    reward = parse_reward(reward) if isinstance(reward, str) else reward
    return run_program(Program(env, agent, config, reward), key, **options)


def run_program(
    program: Program,
    key: Array,
    *,
    hparams: PyTree = None,
    params: PyTree = None,
    vary: bool = False,
    devices: int = 1,
    directory: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    name: str = "loop",
    on_record: Callable[[str, dict[str, Any]], None] | None = None,
) -> Result:
    """Runs a compiled program from its first step, or from its last checkpoint.

    Args:
      program: the compiled loop; runs that share one do not compile again.
      key: one typed PRNG key; the whole run follows from it.
      hparams: replaces the agent's hyper-parameters.
      params: warm-starts the agent's network.
      vary: whether ``hparams`` has a leading ``[seeds]`` axis.
      devices: devices among which the seeds are divided; must divide ``config.seeds``.
      directory: where checkpoints go; None keeps none.
      resume: continue from the last checkpoint in ``directory``, if there is one. The
        results are bit-identical to those of a run that was never stopped, on the same
        machine and software.
      progress: where to show progress.
      name: what the progress bar calls this run.
      on_record: called with ``("evaluation" | "online", row)`` as soon as a row of metrics is
        there, where a row maps ``step`` to an int and each metric to one float a seed. A
        resumed run first reports the rows of its past.

    Raises:
      Interrupted: on Ctrl-C, after the current chunk was finished and saved.
      ValueError: the checkpoint was made by a run of another shape.
    """
    config = program.config
    run_key, evaluation_key = jax.random.split(key)
    state = program.init(run_key, hparams=hparams, params=params, vary=vary)
    record: dict[str, Any] = {"evaluation": [], "online": [], "seconds": 0.0}
    checkpoints = Checkpoints(directory) if directory is not None else None
    if checkpoints is not None and resume and checkpoints.latest_step() is not None:
        state, record = checkpoints.restore(state)
    elif checkpoints is not None:
        checkpoints.clear()
    state = shard_seeds(state, seed_axes(state), devices)
    step = int(state.step)
    progress = progress or Progress(enabled=False)
    task = progress.task(name, total=config.steps * config.users * config.seeds, unit="user-steps")
    task.update(step * config.users * config.seeds)

    def report(kind: str, metrics: dict[str, Array]) -> None:
        row = {"step": step} | _to_lists(metrics)
        record[kind].append(row)
        if on_record:
            on_record(kind, row)

    def evaluate() -> None:
        report("evaluation", program.evaluate(state, jax.random.fold_in(evaluation_key, step)))

    def save() -> None:
        if checkpoints is not None:
            checkpoints.save(step, state, record)

    if on_record:
        for kind in ("evaluation", "online"):
            for row in record[kind]:
                on_record(kind, row)
    with deferred_interrupt() as interrupt:
        if not record["evaluation"]:
            evaluate()
        saved = time.monotonic()
        while step < config.steps:
            begun = time.perf_counter()
            state, metrics = program.chunk(state)
            step += config.chunk
            report("online", metrics)
            elapsed = time.perf_counter() - begun
            record["seconds"] += elapsed
            if step % config.eval_every == 0 or step == config.steps:
                evaluate()
            numbers = {"reward": float(np.mean(record["online"][-1]["reward"]))}
            if program.buffer:
                updates = config.chunk // config.learn_every * config.updates * config.seeds
                numbers["updates/s"] = updates / elapsed
            task.update(config.chunk * config.users * config.seeds, **numbers)
            if step == config.steps or interrupt.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
            if interrupt.is_set():
                raise Interrupted(f"{name} stopped after {step} of {config.steps} steps.")
    task.finish()
    evaluated_at, evaluations = _to_arrays(record["evaluation"])
    online_at, online = _to_arrays(record["online"])
    return Result(state, evaluated_at, evaluations, online_at, online, record["seconds"])


def _to_lists(metrics: dict[str, Array]) -> dict[str, list[float]]:
    return {name: np.asarray(values, np.float64).tolist() for name, values in jax.device_get(metrics).items()}


def _to_arrays(rows: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    steps = np.array([row["step"] for row in rows], int)
    return steps, {name: np.array([row[name] for row in rows], float) for name in names}
