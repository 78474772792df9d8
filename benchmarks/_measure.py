"""What the benchmarks share: options, a clock, contenders in processes of their own, a table, and rows of numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

Contender = Callable[..., tuple[Callable[[], Any], float | None]]
"""``(**sizes) -> (one call of the work, temporary megabytes of the compiled program or None)``."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every benchmark."""

    smoke: bool = False
    """Tiny sizes, in this process alone: checks that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


class Number(NamedTuple):
    """A number of a table."""

    value: float | None
    unit: str
    text: str


def milliseconds(seconds: float | None) -> Number:
    """Three significant digits, or a dash."""
    if seconds is None:
        return Number(None, "ms", "–")
    return Number(1e3 * seconds, "ms", f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}")


def megabytes(value: float | None, digits: int = 0) -> Number:
    """Or a dash."""
    return Number(value, "MB", "–" if value is None else f"{value:,.{digits}f}")


def ratio(value: float | None, digits: int = 1) -> Number:
    """To another contender, or a dash."""
    return Number(value, "×", "–" if value is None or math.isnan(value) else f"{value:.{digits}f}")


def percent(share: float) -> Number:
    """Of a whole."""
    return Number(100 * share, "%", f"{share:.0%}")


def number(value: float | None, unit: str, digits: int = 0) -> Number:
    """Any other number, or a dash."""
    return Number(value, unit, "–" if value is None else f"{value:,.{digits}f}")


def measure(contender: Contender, seconds: float, *, alone: bool = True, **sizes: Any) -> dict[str, Any]:
    """Runs a contender in a fresh process.

    Args:
      contender: makes one call of the work.
      seconds: how long it is timed.
      alone: False runs it in this process, which spares a smoke run the starts of others; then there is no peak.
      **sizes: arguments of the contender.

    Returns:
      ``seconds``, the median of a call; ``temporary``, what the compiled program says of its
      own temporary memory; ``peak``, by how many megabytes the process grew at its peak while
      it made its data and worked.
    """
    if not alone:
        work, temporary = contender(**sizes)
        return {"seconds": clock(work, seconds, at_least=1), "temporary": temporary, "peak": None}
    return in_own_process(_run, contender, seconds, sizes)


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a fresh process, whose memory no other work has grown."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def _run(contender: Contender, seconds: float, sizes: dict[str, int]) -> dict[str, float | None]:
    before = peak_megabytes()
    work, temporary = contender(**sizes)
    return {"seconds": clock(work, seconds, at_least=5), "temporary": temporary, "peak": peak_megabytes() - before}


def clock(work: Callable[[], object], seconds: float, at_least: int = 3) -> float:
    """Median seconds of a call, after one that does not count."""
    work()
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < at_least:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def temporary_megabytes(compiled: Any) -> float:
    """Temporary memory of a compiled JAX program."""
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def show(
    options: Options,
    name: str,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str | Number]],
    packages: Sequence[str],
) -> None:
    """Prints the table, with the hardware and the versions below, and writes its numbers where ``--json`` asks for it.

    Args:
      options: of the benchmark.
      name: of the benchmark, with which the names of numbers begin.
      title: above the table.
      headings: of the columns.
      rows: names first, then numbers.
      packages: whose versions are told.
    """
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages if _has(name))
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = f"{hardware()}, Python {platform.python_version()}; {versions}"
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(cell.text if isinstance(cell, Number) else cell for cell in row))
    Console(width=140).print(table)
    if options.json is not None:
        write_rows(options.json, name, headings, rows)


def write_rows(path: Path, name: str, headings: Sequence[str], rows: Sequence[Sequence[str | Number]]) -> None:
    """Writes every number as an object of name, value, unit and hardware."""
    found = []
    for row in rows:
        words = [cell for cell in row if isinstance(cell, str) and cell]
        for heading, cell in zip(headings, row, strict=True):
            if isinstance(cell, Number):
                value = cell.value if cell.value is not None and math.isfinite(cell.value) else None
                whole = "/".join((name, *words, heading))
                found.append({"name": whole, "value": value, "unit": cell.unit, "hardware": hardware()})
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def hardware() -> str:
    """Cores that this process may use, and the architecture."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores, {platform.machine()}"


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
