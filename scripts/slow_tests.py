#!/usr/bin/env python3
"""Writes tests/slow.txt, the tests that `bootstrap.py test --quick` leaves out, from the last complete run.

usage: slow_tests.py [SECONDS]

A test is slow when one of its cases took more than SECONDS (0.35 by default) in .cache/tests.xml, which
`bootstrap.py test` writes. Run it after a complete run with an empty .cache/jax.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# Tests that `python3 scripts/bootstrap.py test --quick` leaves out; written by scripts/slow_tests.py.
# A name stands for all cases of a test.
"""


def slow(record: Path, seconds: float) -> list[str]:
    """Names of tests, as pytest writes them, of which a case took longer than ``seconds``."""
    found = set()
    for case in ElementTree.parse(record).iter("testcase"):
        if float(case.get("time", 0)) > seconds:
            module, test = case.get("classname", ""), case.get("name", "").partition("[")[0]
            path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            # Doctests, which are named by their modules, are in every run.
            if path.is_relative_to(ROOT / "tests") and path.is_file():
                found.add(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return sorted(found)


def main(arguments: list[str]) -> int:
    """Returns 0 when the file was written."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    record = ROOT / ".cache" / "tests.xml"
    if not record.is_file():
        print("There is no .cache/tests.xml; run `python3 scripts/bootstrap.py test` first.", file=sys.stderr)
        return 1
    names = slow(record, float(arguments[0]) if arguments else 0.35)
    (ROOT / "tests" / "slow.txt").write_text(HEAD + "".join(f"{name}\n" for name in names), encoding="utf-8")
    print(f"tests/slow.txt names {len(names)} tests.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
