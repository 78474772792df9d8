#!/usr/bin/env python3
"""Sets recjax up beside its source and runs it; needs nothing but Python >= 3.11 and its pip.

usage: bootstrap.py [--python PATH] [--constraint FILE] WORD [ARGUMENTS ...]

  test [PYTEST ARGUMENTS]    linter, formatter, types, floors, smoke runs of every script, all tests
  test --quick [ARGUMENTS]   the same in minutes, without smoke runs and the tests that tests/slow.txt names
  pytest [ARGUMENTS]         only the tests
  docs                       the documentation, warnings as errors, into docs/_build/html
  loop, recommend, data ...  any other word is a subcommand of `recjax`

  --python PATH      use this interpreter, in a virtual environment of its own (.venv-3.13)
  --constraint FILE  install under the version constraints of FILE, likewise (.venv-floor)

The environment lives in .venv. It is made when it is missing, repaired when an installation
was interrupted, and brought up to date when pyproject.toml, the interpreter or the
constraints change; otherwise it is used as it is.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

MINIMUM = (3, 11)
if sys.version_info < MINIMUM:
    # The whole file parses on old interpreters, so that they get this far and say what is wrong.
    sys.exit(
        f"recjax needs Python {MINIMUM[0]}.{MINIMUM[1]} or newer;"
        f" {sys.executable} is Python {platform.python_version()}."
        f" Run this script with a newer one, e.g. python{MINIMUM[0]}.{MINIMUM[1]}."
    )

ROOT = Path(__file__).resolve().parents[1]
STAMP = "recjax-bootstrap.json"
PROMPT = "recjax"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
EXTRAS = {"test": {"test"}, "pytest": {"test"}, "docs": {"docs"}}


class Environment(NamedTuple):
    """A virtual environment: where it lies, and what it is made from."""

    folder: Path
    interpreter: str
    constraint: Path | None = None

    def program(self, name: str) -> str:
        """The path of a program that is installed in the environment."""
        return str(self.folder / SCRIPTS / (f"{name}.exe" if os.name == "nt" else name))

    def recipe(self) -> dict[str, str]:
        """What the installation depends on; it is stale when any of this changes."""
        inputs = [ROOT / "pyproject.toml", *([self.constraint] if self.constraint else [])]
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()
        return {"python": python_version(self.interpreter), "root": str(ROOT), "inputs": digest}


def python_version(interpreter: str) -> str:
    """The full version of an interpreter, empty when it does not run."""
    if interpreter == sys.executable:
        return platform.python_version()
    command = [interpreter, "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def choose(python: str | None, constraint: str | None) -> Environment:
    """The environment that the options ask for; each interpreter and constraint has its own folder."""
    name, interpreter = ".venv", sys.executable
    if python is not None:
        interpreter = shutil.which(python) or python
        version = python_version(interpreter)
        if not version:
            sys.exit(f"--python {python} does not run; give the path or the name of a Python interpreter.")
        major, minor = version.split(".")[:2]
        if (int(major), int(minor)) < MINIMUM:
            sys.exit(f"--python {python} is Python {version}; recjax needs {MINIMUM[0]}.{MINIMUM[1]} or newer.")
        name += f"-{major}.{minor}"
    path = None
    if constraint is not None:
        path = Path(constraint).resolve()
        if not path.is_file():
            sys.exit(f"--constraint {constraint} is not a file.")
        name += f"-{path.stem}"
    return Environment(ROOT / name, interpreter, path)


def ensure(environment: Environment, extras: set[str]) -> None:
    """Makes the environment hold recjax with ``extras``; does nothing when it does already."""
    stamp = environment.folder / STAMP
    recipe = environment.recipe()
    found = read_stamp(stamp)
    installed = set(found.pop("extras", ()))
    if found == recipe and extras <= installed and Path(environment.program("python")).exists():
        return
    stamp.unlink(missing_ok=True)
    moved = found.get("root", recipe["root"]) != recipe["root"]
    if moved or not usable(environment, recipe["python"]):
        create(environment)
        installed = set()
    install(environment, extras | installed)
    # Written last: an interrupted installation leaves no stamp, so the next run goes on with it.
    stamp.write_text(json.dumps({**recipe, "extras": sorted(extras | installed)}))


def read_stamp(stamp: Path) -> dict:
    """The contents of the stamp, empty when it is missing or unreadable."""
    try:
        return json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}


def usable(environment: Environment, version: str) -> bool:
    """Whether the environment runs this Python version and has a pip that runs."""
    python = environment.program("python")
    if python_version(python) != version:
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def create(environment: Environment) -> None:
    """Makes an empty virtual environment, in place of an unfit one that this script made before."""
    folder, interpreter = environment.folder, environment.interpreter
    if folder.exists() and not is_ours(folder):
        sys.exit(
            f"{folder} was not made by this script and does not run Python {python_version(interpreter)}."
            " Move it away, or name its interpreter with --python."
        )
    say(f"Making {environment.folder.name} with Python {python_version(interpreter)}")
    venv = [interpreter, "-m", "venv", "--clear", "--prompt", PROMPT, str(folder)]
    if subprocess.run(venv, capture_output=True).returncode:
        # Some distributions split ensurepip off; then the interpreter's own pip fills the environment.
        check([*venv[:-1], "--without-pip", str(folder)])
        check([interpreter, "-m", "pip", "--python", environment.program("python"), "install", "--quiet", "pip"])


def is_ours(folder: Path) -> bool:
    """Whether this script made the virtual environment (or left it half made)."""
    with contextlib.suppress(OSError):
        return f"prompt = '{PROMPT}'" in (folder / "pyvenv.cfg").read_text()
    return not any(folder.iterdir())


def install(environment: Environment, extras: set[str]) -> None:
    """Installs the source tree, editable, with pip; tells why when pip fails."""
    what = str(ROOT) + (f"[{','.join(sorted(extras))}]" if extras else "")
    command = [environment.program("python"), "-m", "pip", "install", "--no-input", "--editable", what]
    if environment.constraint:
        command += ["--constraint", str(environment.constraint)]
    say(f"Installing recjax{what[len(str(ROOT)) :]} into {environment.folder.name} (the first time, a minute or two)")
    start = time.monotonic()
    code, lines = run_quietly(command, {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    if code:
        log = environment.folder / "install.log"
        log.write_text("\n".join(lines) + "\n")
        sys.exit(f"pip could not install recjax:\n  {reason(lines)}\nIts whole output is in {log}.")
    say(f"Installed in {time.monotonic() - start:.0f} s")


def reason(lines: list[str]) -> str:
    """Why pip failed: its error lines, each once, without the lists of every release there is."""
    errors = [line.strip() for line in lines if line.strip().lower().startswith("error: ")]
    errors = [line for line in errors if not line.startswith("ERROR: Ignored the following")]
    short = dict.fromkeys(re.sub(r" \(from versions: [^)]*,[^)]*\)", "", line) for line in errors or lines[-10:])
    if "The conflict is caused by:" in lines:
        conflict = lines[lines.index("The conflict is caused by:") :]
        short.update(dict.fromkeys(conflict[: conflict.index("") if "" in conflict else None]))
    if any("(from versions: none)" in line for line in short):
        short["pip saw no release at all: is there a connection to the package index?"] = None
    return "\n  ".join(short)


def run_quietly(command: list[str], variables: dict[str, str]) -> tuple[int, list[str]]:
    """Runs a command, showing its latest line on a terminal; returns its exit status and output."""
    lines: list[str] = []
    terminal = sys.stdout.isatty()
    with subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if terminal:
                    width = shutil.get_terminal_size().columns - 3
                    print(f"\r\x1b[K  {lines[-1].strip()[:width]}", end="", flush=True)
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            if terminal:
                print("\r\x1b[K", end="", flush=True)
    return process.returncode, lines


def say(text: str) -> None:
    """Tells what the script does, at once even into a pipe."""
    print(f"[bootstrap] {text}", flush=True)


def check(command: list[str]) -> None:
    """Runs a command and stops with its output when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def become(command: list[str], variables: dict[str, str] | None = None) -> NoReturn:
    """Hands over to a command: its output is the last, and its exit status this script's."""
    environ = {**os.environ, **(variables or {})}
    if os.name == "nt":
        sys.exit(subprocess.run(command, env=environ).returncode)
    sys.stdout.flush()
    os.execve(command[0], command, environ)


def steps(environment: Environment, *, quick: bool) -> dict[str, list[str]]:
    """Everything that the test command runs before pytest."""
    python = environment.program("python")
    found = {
        "ruff check": [python, "-m", "ruff", "check", "--extend-exclude", ".venv*", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "--extend-exclude", ".venv*", "."],
        "mypy": [python, "-m", "mypy"],
        "lint-imports": [environment.program("lint-imports")],
    }
    if not quick:
        # One process for each folder, the fullest first: what is imported and compiled serves all of its scripts.
        groups = ([*sorted(folder.glob("[!_]*.py"))] for folder in (ROOT / "benchmarks", *ROOT.glob("experiments/*/")))
        for group in sorted(filter(None, groups), key=lambda group: (-len(group), group)):
            scripts = [str(script) for script in group]
            name = f"smoke runs of {group[0].parent.relative_to(ROOT).as_posix()}"
            found[name] = [python, str(ROOT / "scripts" / "smoke.py"), *scripts]
    return found


def test(environment: Environment, arguments: list[str], *, complete: bool) -> NoReturn:
    """Runs the tests, last and so that pytest's closing line ends the output."""
    quick = complete and "--quick" in arguments
    arguments = [argument for argument in arguments if argument != "--quick" or not complete]
    variables = {
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "MPLBACKEND": "Agg",
        "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *quick_to_compile(environment)]).strip(),
    }
    # Compilation keeps one core busy, so a complete run uses all of them. Each gets tests that follow each other, as
    # they share fixtures and programs, and takes from the others when it has none left.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = steps(environment, quick=quick) if complete else {}
        running = {name: pool.submit(run_step, command, variables) for name, command in checks.items()}
        for name, step in running.items():
            done, seconds = step.result()
            if done.returncode:
                pool.shutdown(cancel_futures=True)
                print(done.stdout, end="")
                sys.exit(f"[bootstrap] {name} failed with exit status {done.returncode}.")
            say(f"{name}: passed in {seconds:.1f} s")
    os.chdir(ROOT)
    workers = ["-n", "auto", "--dist", "worksteal"] if complete else []
    left_out = [f"--deselect={name}" for name in slow_tests()] if quick else []
    record = ["--junitxml", str(ROOT / ".cache" / "tests.xml")] if complete and not quick else []
    become([environment.program("python"), "-m", "pytest", *workers, *left_out, *record, *arguments], variables)


def slow_tests() -> list[str]:
    """Tests that a quick run leaves out, as ``tests/slow.txt`` names them."""
    lines = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def quick_to_compile(environment: Environment) -> list[str]:
    """Options of XLA for tests and smoke runs, which are mostly compilation, and run for seconds what they compile."""
    # Worth a quarter of the time. JAX 0.12, which needs Python 3.12, crashes without these emitters.
    has_old_jax = python_version(environment.interpreter).startswith("3.11.")
    without_emitters = ["--xla_cpu_use_fusion_emitters=false"] if has_old_jax else []
    # Programs in one piece compile on one core, in a fifth less of its time: the other cores have work of their own.
    return ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1", *without_emitters]


def run_step(command: list[str], variables: dict[str, str]) -> tuple[subprocess.CompletedProcess, float]:
    """Runs one check; keeps what it prints for the case that it fails."""
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done, time.monotonic() - start


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command line; see the text at the top of the file."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=__doc__)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--python")
    parser.add_argument("--constraint")
    parser.add_argument("word", nargs="?")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.help or options.word is None:
        print(__doc__.strip())
        sys.exit(0 if options.help else 2)
    environment = choose(options.python, options.constraint)
    ensure(environment, EXTRAS.get(options.word, set()))
    if options.word in ("test", "pytest"):
        rest = options.rest[1:] if options.rest[:1] == ["--"] else options.rest
        test(environment, rest, complete=options.word == "test")
    if options.word == "docs":
        source, target = ROOT / "docs", ROOT / "docs" / "_build" / "html"
        build = [environment.program("python"), "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html"]
        status = subprocess.run([*build, *options.rest, str(source), str(target)]).returncode
        if not status:
            say(f"The pages are in {target / 'index.html'}")
        sys.exit(status)
    become([environment.program("recjax"), options.word, *options.rest])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\n[bootstrap] Interrupted; the same command goes on from here.", flush=True)
        sys.exit(130)
