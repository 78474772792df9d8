"""What the benchmarks share: a clock, and contenders in processes of their own, with their peak memory."""

from __future__ import annotations

import functools
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

Contender = Callable[..., tuple[Callable[[], Any], float | None]]
"""``(**sizes) -> (one call of the work, temporary megabytes of the compiled program or None)``."""


def measure(contender: Contender, seconds: float, **sizes: int) -> dict[str, float | None]:
    """Runs a contender in a fresh process.

    Returns:
      ``seconds``, the median of a call; ``temporary``, what the compiled program says of its
      own temporary memory; ``peak``, by how many megabytes the process grew at its peak while
      it made its data and worked.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(functools.partial(_run, contender, seconds, sizes))


def _run(contender: Contender, seconds: float, sizes: dict[str, int]) -> dict[str, float | None]:
    before = _peak()
    work, temporary = contender(**sizes)
    return {"seconds": clock(work, seconds, at_least=5), "temporary": temporary, "peak": _peak() - before}


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


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def temporary_megabytes(compiled: Any) -> float:
    """Temporary memory of a compiled JAX program."""
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def milliseconds(seconds: float | None) -> str:
    """Three significant digits, or a dash."""
    return "–" if seconds is None else f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], packages: Sequence[str]) -> None:
    """Prints the table, with the hardware and the versions below."""
    from importlib import metadata

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages if _has(name))
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = f"{cores} CPU cores, {platform.machine()}, Python {platform.python_version()}; {versions}"
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def _has(name: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
