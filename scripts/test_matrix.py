#!/usr/bin/env python3
"""Runs the tests on the oldest and newest Python and on the oldest dependencies; prints one table.

usage: test_matrix.py [PYTEST ARGUMENTS ...]

    python      dependencies                    what runs
    3.11        newest that pip finds           the complete test command
    3.13        newest that pip finds           the complete test command
    3.11        constraints/floor.txt           pytest

The interpreters are looked for on PATH (python3.11, python3.13) and among pyenv's versions. Each
run has a virtual environment of its own, made by scripts/bootstrap.py, and its output is kept
in .cache/matrix/.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BOOTSTRAP = ROOT / "scripts" / "bootstrap.py"
LOGS = ROOT / ".cache" / "matrix"


class Run(NamedTuple):
    """One row of the matrix."""

    name: str
    python: str
    options: tuple[str, ...]
    words: tuple[str, ...]


MATRIX = (
    Run("3.11", "3.11", (), ("test",)),
    Run("3.13", "3.13", (), ("test",)),
    Run(
        "3.11-floor",
        "3.11",
        ("--constraint", str(ROOT / "constraints" / "floor.txt")),
        ("pytest", "-n", "auto", "--dist", "worksteal"),
    ),
)


def candidates(version: str) -> Iterator[Path]:
    """Where an interpreter may lie: every folder of PATH, then pyenv's versions, newest first."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        yield Path(folder, f"python{version}")
    roots = [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    if pyenv := shutil.which("pyenv"):
        roots.insert(0, subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip())
    for root in filter(None, roots):
        found = Path(root, "versions").glob(f"{version}.*/bin/python")
        yield from sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def interpreter(version: str) -> str | None:
    """The first candidate that runs and is what its name says; None when there is none."""
    question = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for path in candidates(version):
        if path.is_file():
            answer = subprocess.run([path, "-c", question], capture_output=True, text=True).stdout.split(maxsplit=1)
            if answer[:1] == [version]:
                return answer[1].strip()
    return None


def last_line(log: Path) -> str:
    """The closing line of a run, without pytest's frame."""
    lines = [line.strip("= \n") for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "(no output)")


def main() -> int:
    """Runs every row and returns 0 when all passed."""
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    rows = [("run", "passed", "seconds", "closing line")]
    passed = True
    for run in MATRIX:
        python = interpreter(run.python)
        if python is None:
            passed = False
            rows.append((run.name, "no", "-", f"there is no Python {run.python} on PATH or among pyenv's versions"))
            continue
        log = LOGS / f"{run.name}.log"
        print(f"{run.name}: {python} -> {log.relative_to(ROOT)}", flush=True)
        command = [sys.executable, str(BOOTSTRAP), "--python", python, *run.options, *run.words, *sys.argv[1:]]
        start = time.monotonic()
        with log.open("w") as output:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
        passed = passed and code == 0
        rows.append((run.name, "no" if code else "yes", f"{time.monotonic() - start:.0f}", last_line(log)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
