"""How the experiments keep what each run found, and print several seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from recjax.eval import paired_difference

NOT_OF_A_RUN = ("seeds", "data_dir", "out", "work", "smoke")
"""Options of a script that no single run depends on."""


def stated(config: Any, *others: str) -> dict[str, Any]:
    """The options that a run depends on: all but those above and ``others``."""
    left_out = (*NOT_OF_A_RUN, *others)
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}


def recipe_hash(*recipe: Any) -> str:
    """What tells results of different recipes apart."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]


def run_study(main: Callable[[Any], None], config: Any, **smoke: Any) -> None:
    """Runs a study; a smoke run at the sizes ``smoke``, in a folder that is thrown away."""
    if not config.smoke:
        main(config)
        return
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in ("out", "work") if hasattr(config, name)}
        main(dataclasses.replace(config, **places, **smoke))


def kept(path: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``run`` found, read from ``path`` if it lies there, else written there, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(run() | machine(), indent=1) + "\n", encoding="utf-8")
        half.replace(path)
        # Programs of hundreds of trainings would use up the memory maps that one process may have.
        jax.clear_caches()
    return json.loads(path.read_text(encoding="utf-8"))


def machine() -> dict[str, Any]:
    """What a run was made on and with."""
    return {
        "hardware": f"{len(os.sched_getaffinity(0))} cores of {platform.machine()}, {jax.default_backend()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
    }


def mean_and_spread(values: Sequence[float]) -> str:
    """The mean and, of several, half the range."""
    return f"{np.mean(values):.4f}" + (f" ± {np.ptp(values) / 2:.4f}" if len(values) > 1 else "")


def paired_text(own: Sequence[float], other: Sequence[float]) -> str:
    """The mean difference and, of several seeds, its paired interval."""
    if len(own) == 1:
        return f"{own[0] - other[0]:+.4f}"
    interval = paired_difference(own, other)
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
