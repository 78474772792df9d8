#!/usr/bin/env python3
"""Runs the tutorial as a reader would, and says what it shows that the commands do not print.

usage: tutorial.py FOLDER

FOLDER must not exist yet; everything is left there. `recjax` and `python` are those of the active environment. Takes
some minutes. Exit status 1 where a command fails or a line of the page was not printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    """What a command prints; stops where it fails."""
    print(f"$ {command[-1].splitlines()[0]}", flush=True)
    environ = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[-1]}\n{done.stdout}{done.stderr}\nended with exit status {done.returncode}.")
    return done.stdout + done.stderr


def main(arguments: list[str]) -> int:
    """Returns 0 when every line that the page shows was printed."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True)
    printed, shown, python = "", [], ""
    for language, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        name = re.match(r"# (\w+\.py)\n", code)
        if language == "text":
            shown += code.splitlines()
        elif language == "sh" and "pip install" not in code:
            printed += run(["bash", "-c", code], folder)
        elif name:
            (folder / name[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            python += code  # blocks go on from each other
    (folder / "blocks.py").write_text(python, encoding="utf-8")
    printed += run([sys.executable, "blocks.py"], folder)
    missing = [line for line in shown if line.strip("… ") and " ".join(line.split()) not in " ".join(printed.split())]
    print("\n".join([f"{len(missing)} lines of {PAGE.name} were not printed:", *missing]))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
