"""The results of a study as plain data: what ``metrics.json`` holds, and how it is read again.

Every table, plot and page is drawn from this dictionary alone, so a report can be made
anew, and runs compared, from ``metrics.json``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

import recjax
from recjax._files import write_text
from recjax.eval import metrics
from recjax.loop import Result
from recjax.study import Study

METRICS_FILE = "metrics.json"

Kind = Literal["evaluations", "online"]

PARTS = ("config", "policies", "date", "recjax", "hardware", "seconds")
"""What a run of `recjax loop` always holds."""

RESPONSE_METRICS = ("ctr", "conversion_rate", "satisfaction", "session_reward", "session_length")
"""The metrics of the closing table that tell how users responded."""

CATALOGUE_METRICS = ("coverage", "novelty_information", "novelty_new", "diversity", "gini")
"""The metrics of the closing table that tell what of the catalogue was shown."""

FURTHER_METRICS = (
    "reward", "click_rate", "satisfaction_per_slate", "tail_coverage", "new_coverage", "popularity_lift",
)  # fmt: skip
"""The other metrics of every loop over a catalogue, which a page lists and does not draw."""

TABLE_METRICS = RESPONSE_METRICS + CATALOGUE_METRICS
"""The metrics of the closing table, in its order."""


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Writes ``results`` in one piece; numbers that are not finite become null."""
    write_text(path, json.dumps(_plain(results), indent=1, allow_nan=False) + "\n")


def read_results(run: str | Path) -> dict[str, Any]:
    """Reads the results of a run from its directory.

    Raises:
      ValueError: the directory holds no finished run, or its results are damaged.
    """
    path = Path(run) / METRICS_FILE
    if not path.is_file():
        raise ValueError(
            f"{run} has no {METRICS_FILE}, so it is not the directory of a finished run;"
            f" give the --out of `recjax loop`, or finish that run with --resume."
        )
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run it again, or restore the file.") from None
    missing = [part for part in PARTS if part not in results] if isinstance(results, dict) else PARTS
    if missing:
        raise ValueError(f"{path} does not hold the results of a run: it lacks {', '.join(missing)}.")
    return results


def results_of(runs: Result | Mapping[str, Result] | Study) -> dict[str, Any]:
    """Results in the form of ``metrics.json``, as far as runs that were made in Python tell them.

    Args:
      runs: one run, which is called "policy", several by name, or a study, which tells all of it.

    Raises:
      ValueError: there is no run.
    """
    if isinstance(runs, Study):
        return _plain(runs.results)
    named = {"policy": runs} if isinstance(runs, Result) else dict(runs)
    if not named:
        raise ValueError("There is nothing to report on: no runs were given.")
    measured = dict.fromkeys(name for run in named.values() for name in [*run.evaluations, *run.online])
    policies = {
        name: {
            "evaluated_at": run.evaluated_at,
            "evaluations": run.evaluations,
            "online_at": run.online_at,
            "online": run.online,
            "seconds": run.seconds,
        }
        for name, run in named.items()
    }
    return _plain(
        {
            "recjax": recjax.__version__,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "policies": policies,
            "definitions": {name: dataclasses.asdict(metrics[name]) for name in measured if name in metrics},
        }
    )


def time_unit(results: dict[str, Any]) -> str:
    """What :func:`timed_curve` measures time in."""
    return "user-steps of a seed" if "users" in results.get("config", {}) else "loop steps"


def timed_curve(
    results: dict[str, Any], policy: str, metric: str, kind: Kind = "evaluations"
) -> tuple[list[int], list[np.ndarray]]:
    """A metric over loop time: when it was measured, and ``float[seeds]`` each time.

    Time is counted in user-steps of a seed where the number of users is known, else in loop steps. Policies that never
    change, and so were evaluated once, last as long as the longest loop.
    """
    run, values = results["policies"][policy], list(curve(results, policy, metric, kind))
    steps = run["evaluated_at" if kind == "evaluations" else "online_at"]
    if kind == "evaluations" and len(steps) == 1:
        steps, values = [0, last_step(results)], [values[-1]] * 2
    users = results.get("config", {}).get("users", 1)
    return [users * step for step in steps], values


def last_step(results: dict[str, Any]) -> int:
    """How many steps the longest loop has."""
    return int(max(run["evaluated_at"][-1] for run in results["policies"].values()))


def final_values(results: dict[str, Any], policy: str, metric: str) -> np.ndarray:
    """The last evaluation of ``policy``: ``float[seeds]``, NaN where a metric is undefined or was not measured."""
    measured = results["policies"][policy]["evaluations"]
    if metric not in measured:
        return np.full(len(next(iter(measured.values()))[-1]), np.nan)
    return curve(results, policy, metric)[-1]


def curve(results: dict[str, Any], policy: str, metric: str, kind: Kind = "evaluations") -> np.ndarray:
    """A metric over loop time, of the evaluations or of the loop's own traffic: ``float[rows, seeds]``."""
    return np.array(results["policies"][policy][kind][metric], float)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
