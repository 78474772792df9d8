"""Results of studies: one JSON file each, and rows of numbers for other programs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

UNITS = {"seconds": "s", "seconds_per_epoch": "s", "seconds_per_evaluation": "s", "latency_ms": "ms"}
"""Of numbers that are no shares, by the names under which they are found."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What was computed under one condition with one seed.

    Attributes:
      condition: the point of the grid.
      config: the options that it depends on.
      seed: of draws, initial parameters and training.
      found: numbers and notes, ready for JSON.
      code: ``hash`` of the code that computed it, "unknown" where it was not recorded, and the ``date``.
      machine: ``hardware`` and ``versions``.
    """

    condition: dict[str, Any]
    config: dict[str, Any]
    seed: int
    found: dict[str, Any]
    code: dict[str, str]
    machine: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Result:
        """A cached result."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Caches it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in dataclasses.asdict(self).items())
        half = path.with_suffix(".half")
        half.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        half.replace(path)

    @property
    def name(self) -> str:
        """The condition and the seed in words, and the hash of condition and options."""
        config = config_hash(self.condition, self.config)
        words = [self.config.get("data", ""), *_words(self.condition), config, str(self.seed)]
        plain = (re.sub(r"[^\w.+-]+", "_", str(word), flags=re.ASCII).strip("_") for word in words)
        return "-".join(filter(None, plain))


class Row(NamedTuple):
    """One number for other programs."""

    name: str
    value: float | None
    unit: str
    hardware: str


def config_hash(condition: dict[str, Any], config: dict[str, Any]) -> str:
    """12 hexadecimal digits of a SHA-256 of a condition and options."""
    return hashlib.sha256(json.dumps([condition, config], sort_keys=True).encode()).hexdigest()[:12]


def _words(condition: dict[str, Any]) -> list[str]:
    """What of a condition is short enough for a name."""
    return [str(value) for value in condition.values() if isinstance(value, (str, int, float)) and len(str(value)) < 40]


def machine() -> dict[str, Any]:
    """What a result is computed on and with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "hardware": f"{cores} cores of {platform.machine()}, {jax.default_backend()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
    }


def rows(study: str, code: str, results: Sequence[Result]) -> list[Row]:
    """Every number that was found, the mean over seeds; with the hardware stands the code, where it is not ``code``."""
    found: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for result in results:
        on = result.machine["hardware"]
        if result.code["hash"] != code:
            on += f", with code {result.code['hash']} of {result.code['date']}"
        for path, value in _numbers(result.found):
            name = "/".join((study, *_words(result.condition), *path))
            found.setdefault((name, _unit(path)), []).append((value, on))
    return [
        Row(
            name,
            _number(np.mean([value for value, _ in values])),
            unit,
            "; ".join(dict.fromkeys(on for _, on in values)),
        )
        for (name, unit), values in found.items()
    ]


def _numbers(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """The numbers in nested dictionaries, with the names that lead to them."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _numbers(value, (*path, name))
    elif isinstance(found, (int, float)) and not isinstance(found, bool):
        yield path, float(found)


def _unit(path: tuple[str, ...]) -> str:
    return next((UNITS[name] for name in path if name in UNITS), "")


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


def write_rows(path: Path | None, rows: Iterable[Row]) -> None:
    """Writes rows as a JSON list of objects, if there is a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n", encoding="utf-8")
