"""Where metrics go while a loop runs: functions of ``(kind, row)``, by name.

A logger is called with each row as soon as it is there, as :data:`recjax.loop.run.Logger` says, and closed in the
end. One of your own is a class and a registration:

>>> from recjax import report
>>> @report.loggers.register("print")
... class Printed:
...     def __init__(self, out, policy, config): ...
...     def __call__(self, kind, row): print(kind, row["step"])
...     def close(self): ...
>>> Printed(None, "dqn", {})("online", {"step": 4, "ctr": [0.5]})
online 4
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

from recjax.registry import Registry
from recjax.report.tensorboard import TensorBoard

LOGS, TENSORBOARD = "logs", "tensorboard"
"""Folders of a run in which loggers write."""


class Logger(Protocol):
    """What takes the rows of one policy."""

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Takes a row.

        Args:
          kind: ``evaluation`` without exploration on new users, or ``online``, the traffic of a chunk.
          row: ``step`` to an int, and each metric to one float a seed. A resumed run reports its past again.
        """

    def close(self) -> None:
        """Nothing follows."""


loggers: Registry = Registry("logger")
"""``(out: Path, policy: str, config: dict) -> Logger``, with the folder of the run and the options of its study."""


@loggers.register("tensorboard")
def _tensorboard(out: Path, policy: str, config: dict[str, Any]) -> Logger:
    return TensorBoard(out / TENSORBOARD / policy, config["seeds"])


@loggers.register("jsonl")
class JSONLines:
    """``logs/<policy>.jsonl``: an object a row, with ``kind``, ``step`` and each metric as a list over seeds."""

    def __init__(self, out: Path, policy: str, config: dict[str, Any]) -> None:
        self._file = _open(out / LOGS / f"{policy}.jsonl")

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Writes the row."""
        numbers = {name: [_finite(x) for x in values] for name, values in row.items() if name != "step"}
        self._file.write(json.dumps({"kind": kind, "step": row["step"], **numbers}, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@loggers.register("csv")
class CSV:
    """``logs/<policy>/<kind>.csv``: a row a step and seed, a column a metric, empty where it has no value."""

    def __init__(self, out: Path, policy: str, config: dict[str, Any]) -> None:
        self._folder = out / LOGS / policy
        self._files: dict[str, IO[str]] = {}

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Writes a line a seed."""
        names = [name for name in row if name != "step"]
        if kind not in self._files:
            self._files[kind] = _open(self._folder / f"{kind}.csv")
            csv.writer(self._files[kind]).writerow(["step", "seed", *names])
        writer = csv.writer(self._files[kind])
        for seed, values in enumerate(zip(*(row[name] for name in names), strict=True)):
            writer.writerow([row["step"], seed, *(_finite(x) for x in values)])
        self._files[kind].flush()

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


@loggers.register("mlflow")
class MLflow:
    """A run a policy in the experiment ``recjax``, with the means over seeds; where is MLflow's own setting."""

    def __init__(self, out: Path, policy: str, config: dict[str, Any]) -> None:
        mlflow = _require("mlflow")
        self._client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment("recjax").experiment_id
        tags = {"mlflow.runName": f"{out.name}/{policy}", "policy": policy, "out": str(out)}
        self._run = self._client.create_run(experiment, tags=tags).info.run_id
        for name, value in _flat(config).items():
            self._client.log_param(self._run, name, value)

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Logs the mean of each metric."""
        for name, mean in _means(row).items():
            self._client.log_metric(self._run, f"{kind}/{name}", mean, step=row["step"])

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._run)


@loggers.register("wandb")
class WeightsAndBiases:
    """A run a policy in the project ``recjax``, grouped by the folder of the study, with the means over seeds."""

    def __init__(self, out: Path, policy: str, config: dict[str, Any]) -> None:
        wandb = _require("wandb")
        self._run = wandb.init(
            project="recjax", name=f"{out.name}/{policy}", group=out.name, config=config, reinit="create_new"
        )
        # A resumed run reports its past by kind, so that W&B's own steps would run backwards.
        self._run.define_metric("*", step_metric="loop_step")

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Logs the mean of each metric."""
        self._run.log({"loop_step": row["step"], **{f"{kind}/{name}": mean for name, mean in _means(row).items()}})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def check_loggers(names: Sequence[str]) -> None:
    """Raises ValueError where there is no such logger, or its package is not installed."""
    for name in names:
        loggers[name]
        if name in ("mlflow", "wandb"):
            _require(name)


@contextlib.contextmanager
def logged(names: Sequence[str], out: Path, config: dict[str, Any]) -> Iterator[Any]:
    """Gives ``policy -> on_record`` of :func:`recjax.study.run_study`, which opens loggers, and closes them.

    Args:
      names: of loggers.
      out: the folder of the run.
      config: the options of the study.
    """
    opened: list[Logger] = []

    def recorder(policy: str) -> Any:
        own = [loggers.make(name, out, policy, config) for name in names]
        opened.extend(own)

        def log(kind: str, row: dict[str, Any]) -> None:
            for logger in own:
                logger(kind, row)

        return log

    try:
        yield recorder
    except BaseException:
        for logger in opened:
            with contextlib.suppress(Exception):  # The first error is the one to tell.
                logger.close()
        raise
    for logger in opened:
        logger.close()


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", newline="")


def _require(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(
            f"Logging to {package} needs a package that is in an extra: pip install 'recjax[{package}]'."
        ) from None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _means(row: dict[str, Any]) -> dict[str, float]:
    """The mean over seeds of each metric that has values."""
    finite = {name: [x for x in values if math.isfinite(x)] for name, values in row.items() if name != "step"}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as ``learn.discount``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
