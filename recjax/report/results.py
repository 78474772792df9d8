"""The results of a study as plain data: what ``metrics.json`` holds, and how it is read again.

Every table, plot and page is drawn from this dictionary alone, so a report can be made
anew, and runs compared, from ``metrics.json``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

METRICS_FILE = "metrics.json"

RESPONSE_METRICS = ("ctr", "conversion_rate", "satisfaction", "session_reward", "session_length")
"""The metrics of the closing table that tell how users responded."""

CATALOGUE_METRICS = ("coverage", "novelty_information", "novelty_new", "diversity", "gini")
"""The metrics of the closing table that tell what of the catalogue was shown."""

TABLE_METRICS = RESPONSE_METRICS + CATALOGUE_METRICS
"""The metrics of the closing table, in its order."""


def write_text(path: Path, text: str) -> None:
    """Writes a file in one piece: it is there as a whole, or as it was before."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Writes ``results`` in one piece; numbers that are not finite become null."""
    write_text(path, json.dumps(_plain(results), indent=1, allow_nan=False) + "\n")


def read_results(run: str | Path) -> dict[str, Any]:
    """Reads the results of a run from its directory.

    Raises:
      ValueError: the directory holds no finished run.
    """
    path = Path(run) / METRICS_FILE
    if not path.is_file():
        raise ValueError(
            f"{run} has no {METRICS_FILE}, so it is not the directory of a finished run;"
            f" give the --out of `recjax loop`, or finish that run with --resume."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def final_values(results: dict[str, Any], policy: str, metric: str) -> np.ndarray:
    """The last evaluation of ``policy``: ``float[seeds]``, NaN where a metric is undefined."""
    return curve(results, policy, metric)[-1]


def curve(results: dict[str, Any], policy: str, metric: str) -> np.ndarray:
    """A metric over loop time: ``float[evaluations, seeds]``."""
    return np.array(results["policies"][policy]["evaluations"][metric], float)


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
