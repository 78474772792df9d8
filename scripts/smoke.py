#!/usr/bin/env python3
"""Runs the smoke modes of scripts, one after the other in this process, which imports and compiles once for all.

usage: smoke.py SCRIPT ...

Each script runs as a program of its own would: by its path, with ``--smoke --json rows.json``, in an empty folder. It
fails when it writes no rows. Of one that fails, the output is printed, and nothing runs after it; of the others, one
line tells the seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import tempfile
import time
import traceback
from pathlib import Path


def smoke(script: Path) -> tuple[bool, str]:
    """Whether a script passes, and what it prints."""
    output = io.StringIO()
    path, arguments, start = list(sys.path), sys.argv, time.monotonic()
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), "--smoke", "--json", "rows.json"]
    passed = False
    try:
        with (
            tempfile.TemporaryDirectory(prefix="recjax-smoke-") as folder,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            runpy.run_path(str(script), run_name="__main__")
            passed = bool(json.loads(Path("rows.json").read_text(encoding="utf-8")))
    except SystemExit as end:
        output.write("" if end.code is None else f"exit status {end.code}\n")
    except Exception:
        output.write(traceback.format_exc())
    finally:
        sys.path[:], sys.argv = path, arguments
    line = f"{script.parent.name}/{script.name} --smoke"
    if passed:
        return True, f"{line}: passed in {time.monotonic() - start:.1f} s"
    return False, f"{output.getvalue()}{line} failed"


def main(scripts: list[str]) -> int:
    """Returns 0 when all pass."""
    if not scripts or scripts[0].startswith("-"):
        print(__doc__.strip())
        return 0 if scripts[:1] in (["-h"], ["--help"]) else 2
    for script in scripts:
        passed, text = smoke(Path(script).resolve())
        print(text, flush=True)
        if not passed:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
