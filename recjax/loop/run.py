"""Drives a compiled loop from the host: schedule, progress, checkpoints, interrupts."""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from recjax.agents.base import Agent
from recjax.display import html_table
from recjax.envs.base import Environment
from recjax.eval import Accumulator, label, mean_interval
from recjax.fit import Checkpoints, Progress, Task, resumed, shard_seeds, tree_digest
from recjax.interrupt import Interrupted, answered_interrupts, deferred_interrupt
from recjax.loop.config import LoopConfig
from recjax.loop.faults import raise_faults
from recjax.loop.program import LoopState, Program
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.types import Array, PyTree, seed_axes

Logger = Callable[[str, dict[str, Any]], None]
"""``("evaluation" | "online", row)``, where a row maps ``step`` to an int and each metric to one float a seed."""

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
      seconds: wall-clock time of the steps, without compilation and evaluations.
      compile_seconds: wall-clock time of tracing and compiling in this process, and of making the first state; next
        to nothing for a program that was compiled before.
    """

    state: LoopState
    evaluated_at: np.ndarray
    evaluations: dict[str, np.ndarray]
    online_at: np.ndarray
    online: dict[str, np.ndarray]
    seconds: float
    compile_seconds: float = 0.0

    def final(self) -> dict[str, np.ndarray]:
        """The last evaluation: metric name to ``float[seeds]``."""
        return {name: values[-1] for name, values in self.evaluations.items()}

    def __repr__(self) -> str:
        """The last evaluation in a few lines; :attr:`state` alone would fill pages."""
        shown = ", ".join(f"{name} {mean_interval(values).plus_minus()}" for name, values in self.final().items())
        return "\n".join(
            [f"Result({self._facts()})", *textwrap.wrap(shown, 112, initial_indent="  ", subsequent_indent="  ")]
        )

    def _repr_html_(self) -> str:
        rows = [[label(name), mean_interval(values).plus_minus()] for name, values in self.final().items()]
        return html_table(f"Result: {self._facts()}", rows, ["last evaluation", "mean ± 95 % interval over seeds"])

    def _facts(self) -> str:
        seeds = self.state.key.shape[0]
        steps = int(self.state.step)
        return f"{steps:,} steps, {seeds} seeds, {len(self.evaluated_at)} evaluations, {self.seconds:.1f} s"


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where a run keeps its checkpoints, and what it goes on from.

    Attributes:
      directory: where checkpoints go.
      resume: whether to continue from the last checkpoint in ``directory``, if there is one. The
        results are bit-identical to those of a run that was never stopped, on the same
        machine and software. Without it, what is there is removed first.
      recipe: what else the run follows from than can be read off its arguments, such as the configuration that
        its agent was made from; anything JSON can hold. A checkpoint of another recipe is refused.
    """

    directory: str | Path
    resume: bool = False
    recipe: Any = None


def run(
    env: Environment,
    agent: Agent,
    config: LoopConfig = LoopConfig(),  # noqa: B008 (frozen)
    *,
    key: Array,
    reward: Reward | str = "click",
    metrics: Sequence[Accumulator] | None = None,
    **options: Any,
) -> Result:
    """Closes the loop between ``env`` and ``agent``.

    Args:
      env: the environment.
      agent: the agent.
      config: how long and how wide.
      key: one typed PRNG key; the whole run follows from it.
      reward: function of the response, or a name as :func:`recjax.rewards.parse` takes.
      metrics: what is accumulated; :func:`recjax.eval.default_metrics` unless given.
      **options: as for :func:`run_program`.

    Returns:
      The final state and all metrics.
    """
    reward = parse_reward(reward) if isinstance(reward, str) else reward
    return run_program(Program(env, agent, config, reward, metrics), key, **options)


def run_program(
    program: Program,
    key: Array,
    *,
    hparams: PyTree = None,
    params: PyTree = None,
    per_seed_hparams: bool = False,
    devices: int = 1,
    saving: Saving | None = None,
    progress: Progress | None = None,
    name: str = "loop",
    on_record: Logger | None = None,
) -> Result:
    """Runs a compiled program from its first step, or from its last checkpoint.

    Args:
      program: the compiled loop; runs that share one do not compile again.
      key: one typed PRNG key; the whole run follows from it.
      hparams: replaces the agent's hyper-parameters.
      params: warm-starts the agent's network.
      per_seed_hparams: whether ``hparams`` has a leading ``[seeds]`` axis.
      devices: devices among which the seeds are divided; must divide ``config.seeds``.
      saving: where checkpoints go; None keeps none.
      progress: where to show progress.
      name: what the progress bar calls this run.
      on_record: called with each row of metrics as soon as it is there. A resumed run first reports the
        rows of its past.

    Raises:
      Interrupted: on Ctrl-C, after the current chunk was finished and saved.
      ValueError: the loop does not fit into memory; the checkpoint was made by another run; the agent showed what
        is no slate.
      Diverged: a reward or a metric of learning became infinite or NaN.
    """
    run_key, evaluation_key = jax.random.split(key)
    record = _Record(on_record)
    checkpoints = None if saving is None else Checkpoints(saving.directory)
    identity = {} if saving is None else _identity(program, key, hparams, params, saving.recipe)
    config, display = program.config, progress or Progress(enabled=False)
    task = display.task(name, total=config.steps * config.users * config.seeds, unit="user-steps")
    begun = time.perf_counter()
    with contextlib.nullcontext() if program.is_compiled else task.stage("compiling"):
        state = program.init(run_key, hparams=hparams, params=params, per_seed_hparams=per_seed_hparams)
        if checkpoints is not None:
            if saving and saving.resume:
                state, metadata = resumed(checkpoints, state, identity)
                record.go_on_from(metadata.get("record", {}))
            if not record.rows["evaluation"]:
                checkpoints.clear()
        state = shard_seeds(state, seed_axes(state), devices)
        if int(state.step) < config.steps or not record.rows["evaluation"]:
            program.compile(state, evaluation_key)
    compile_seconds = time.perf_counter() - begun
    result = _Drive(program, evaluation_key, record, checkpoints, identity, name).to_the_end(state, task)
    return dataclasses.replace(result, compile_seconds=compile_seconds)


@dataclasses.dataclass
class _Record:
    """The rows of metrics of a run, and the seconds that its steps took."""

    on_record: Logger | None
    rows: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=lambda: {"evaluation": [], "online": []})
    seconds: float = 0.0

    def add(self, kind: str, step: int, metrics: dict[str, Array]) -> None:
        self._append(kind, {"step": step} | _to_lists(metrics))

    def repeat(self, kind: str, step: int) -> None:
        """The newest row again, at another step."""
        self._append(kind, self.rows[kind][-1] | {"step": step})

    def _append(self, kind: str, row: dict[str, Any]) -> None:
        self.rows[kind].append(row)
        if self.on_record:
            self.on_record(kind, row)

    def go_on_from(self, saved: dict[str, Any]) -> None:
        """Takes up what :meth:`to_json` gave; nothing where that is empty."""
        self.seconds = saved.get("seconds", self.seconds)
        self.rows |= {kind: saved[kind] for kind in self.rows if kind in saved}

    def report_again(self) -> None:
        for kind, rows in self.rows.items():
            for row in rows if self.on_record else ():
                self.on_record(kind, row)  # type: ignore[misc]

    def to_json(self) -> dict[str, Any]:
        return {**self.rows, "seconds": self.seconds}


@dataclasses.dataclass(frozen=True)
class _Drive:
    """Runs chunks one after the other: schedule, records, checkpoints, interrupts."""

    program: Program
    evaluation_key: Array
    record: _Record
    checkpoints: Checkpoints | None
    identity: dict[str, Any]
    name: str

    def to_the_end(self, state: LoopState, task: Task) -> Result:
        config, record = self.program.config, self.record
        step, width = int(state.step), config.users * config.seeds
        task.update(step * width)
        record.report_again()
        with answered_interrupts(), deferred_interrupt() as interrupt:
            if not record.rows["evaluation"]:
                self._evaluate(state, step)
            saved = time.monotonic()
            while step < config.steps:
                state, seconds = self._chunk(state, step)
                step += config.chunk
                if step % config.eval_every == 0 or step == config.steps:
                    self._evaluate(state, step)
                task.update(config.chunk * width, **self._numbers(seconds))
                if step == config.steps or interrupt.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                    self._save(state, step)
                    saved = time.monotonic()
                if interrupt.is_set():
                    raise Interrupted(f"{self.name} stopped after {step} of {config.steps} steps.")
        task.finish()
        evaluated_at, evaluations = _to_arrays(record.rows["evaluation"])
        online_at, online = _to_arrays(record.rows["online"])
        return Result(state, evaluated_at, evaluations, online_at, online, record.seconds)

    def _chunk(self, state: LoopState, step: int) -> tuple[LoopState, float]:
        begun = time.perf_counter()
        state, metrics = self.program.chunk(state)
        last = step + self.program.config.chunk
        raise_faults(state.faults, self.name, step + 1, last)
        self.record.add("online", last, metrics)
        seconds = time.perf_counter() - begun
        self.record.seconds += seconds
        return state, seconds

    def _evaluate(self, state: LoopState, step: int) -> None:
        if self.record.rows["evaluation"] and self.program.is_constant:
            self.record.repeat("evaluation", step)
        else:
            # The same users each time: a curve tells what was learned, and not who came.
            self.record.add("evaluation", step, self.program.evaluate(state, self.evaluation_key))

    def _numbers(self, seconds: float) -> dict[str, float]:
        newest, updates = self.record.rows["online"][-1], self.program.updates_per_chunk
        numbers = {"reward": float(np.mean(newest["reward"]))} if "reward" in newest else {}
        return numbers | ({"updates/s": updates * self.program.config.seeds / seconds} if updates else {})

    def _save(self, state: LoopState, step: int) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(step, state, {"record": self.record.to_json(), "identity": self.identity})


def _identity(program: Program, key: Array, hparams: PyTree, params: PyTree, recipe: Any) -> dict[str, Any]:
    """What makes two runs the same, ready for JSON."""
    return {
        "key": np.ravel(jax.random.key_data(key)).tolist(),
        "config": {f.name: getattr(program.config, f.name) for f in dataclasses.fields(LoopConfig)},
        "environment": tree_digest((program.env.params, program.env.items)),
        "hyper-parameters": tree_digest(program.agent.hparams if hparams is None else hparams),
        "parameters": tree_digest(params),
        "recipe": recipe,
    }


def _to_lists(metrics: dict[str, Array]) -> dict[str, list[float]]:
    return {name: np.asarray(values, np.float64).tolist() for name, values in jax.device_get(metrics).items()}


def _to_arrays(rows: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    steps = np.array([row["step"] for row in rows], int)
    return steps, {name: np.array([row[name] for row in rows], float) for name in names}
