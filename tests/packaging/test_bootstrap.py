"""The set-up script, with pip replaced by a recorder; the environments are real but empty."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bootstrap.py"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The script in a project of its own; ``bootstrap.installs`` lists the extras that pip was asked for."""
    module = load(SCRIPT)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    module.installs = []

    def create(environment):
        command = [environment.interpreter, "-m", "venv", "--clear", "--without-pip", "--prompt", module.PROMPT]
        subprocess.run([*command, environment.folder], check=True)

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "create", create)
    monkeypatch.setattr(module, "usable", lambda env, version: module.python_version(env.program("python")) == version)
    monkeypatch.setattr(module, "install", lambda environment, extras: module.installs.append(extras))
    return module


def test_minimum_is_what_the_project_requires():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == ">=" + ".".join(map(str, load(SCRIPT).MINIMUM))


def test_old_python_is_told_what_to_do():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 7))
    code = f"import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "recjax needs Python 3.11 or newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_installs_once(bootstrap):
    environment = bootstrap.choose(None, None)
    bootstrap.ensure(environment, set())
    bootstrap.ensure(environment, set())
    assert bootstrap.installs == [set()]


def test_extras_accumulate(bootstrap):
    environment = bootstrap.choose(None, None)
    for extras in ({"test"}, {"docs"}, {"test"}, set()):
        bootstrap.ensure(environment, extras)
    assert bootstrap.installs == [{"test"}, {"test", "docs"}]


def test_change_of_the_project_installs_again_and_keeps_extras(bootstrap):
    environment = bootstrap.choose(None, None)
    bootstrap.ensure(environment, {"test"})
    kept = environment.folder / "kept"
    kept.touch()
    (bootstrap.ROOT / "pyproject.toml").write_text("[project]\nname = 'new'\n")
    bootstrap.ensure(environment, set())
    assert bootstrap.installs == [{"test"}, {"test"}]
    assert kept.exists()


def test_interrupted_installation_is_repaired(bootstrap, monkeypatch):
    environment = bootstrap.choose(None, None)

    def interrupted(environment, extras):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.ensure(environment, {"test"})
    assert not (environment.folder / bootstrap.STAMP).exists()
    bootstrap.ensure(environment, {"test"})
    assert bootstrap.installs == [{"test"}]


@pytest.mark.parametrize("key", ["python", "root"])
def test_other_interpreter_or_moved_folder_rebuilds(bootstrap, key):
    environment = bootstrap.choose(None, None)
    bootstrap.ensure(environment, {"test"})
    stamp = environment.folder / bootstrap.STAMP
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), key: "other"}))
    if key == "python":
        os.unlink(environment.program("python"))
    (environment.folder / "left over").touch()
    bootstrap.ensure(environment, set())
    assert not (environment.folder / "left over").exists()
    assert bootstrap.installs == [{"test"}, set()]


def test_environment_of_somebody_else_is_never_deleted(bootstrap):
    module = load(SCRIPT)
    folder = bootstrap.ROOT / ".venv"
    folder.mkdir()
    (folder / "precious").touch()
    environment = bootstrap.choose(None, None)
    with pytest.raises(SystemExit, match="was not made by this script"):
        module.create(environment)
    assert (folder / "precious").exists()


def test_own_environment_is_recognised(bootstrap):
    environment = bootstrap.choose(None, None)
    bootstrap.create(environment)
    assert bootstrap.is_ours(environment.folder)


def test_each_interpreter_and_constraint_has_its_folder(bootstrap, tmp_path):
    constraint = tmp_path / "floor.txt"
    constraint.write_text("numpy==2.0.0\n")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert bootstrap.choose(None, None).folder.name == ".venv"
    assert bootstrap.choose(sys.executable, None).folder.name == f".venv-{version}"
    environment = bootstrap.choose(None, str(constraint))
    assert environment.folder.name == ".venv-floor"
    before = environment.recipe()
    constraint.write_text("numpy==2.1.0\n")
    assert environment.recipe() != before


def test_missing_interpreter_and_constraint_are_named(bootstrap):
    with pytest.raises(SystemExit, match="--python no-such-python does not run"):
        bootstrap.choose("no-such-python", None)
    with pytest.raises(SystemExit, match=r"--constraint nowhere\.txt is not a file"):
        bootstrap.choose(None, "nowhere.txt")


def test_reason_is_given_once_and_short(bootstrap):
    lines = [
        "Collecting chex",
        "ERROR: Ignored the following versions that require a different python version: 1, 2",
        "ERROR: Could not find a version that satisfies the requirement chex>=9 (from versions: 0.1, 0.2)",
        "ERROR: Could not find a version that satisfies the requirement chex>=9 (from versions: 0.1, 0.2)",
    ]
    assert bootstrap.reason(lines) == "ERROR: Could not find a version that satisfies the requirement chex>=9"


def test_reason_of_a_conflict_names_both_sides(bootstrap):
    sides = ["    recjax depends on polars>=2", "    The user requested (constraint) polars==1.36.0"]
    lines = ["ERROR: Cannot install recjax", "", "The conflict is caused by:", *sides, "", "To fix this you could"]
    assert bootstrap.reason(lines).splitlines()[-2:] == [f"  {side}" for side in sides]
    assert "To fix this" not in bootstrap.reason(lines)


SCRIPTS = ("benchmarks/speed.py", "experiments/loop/one.py", "experiments/loop/two.py", "experiments/transfer/one.py")
CHECKS = ["ruff check", "ruff format", "mypy", "lint-imports"]


@pytest.fixture
def scripts(bootstrap):
    """Scripts, and modules that are none."""
    for name in (*SCRIPTS, "benchmarks/_shared.py", "experiments/loop/_near.py", "experiments/runner.py"):
        path = bootstrap.ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (bootstrap.ROOT / "experiments" / "results").mkdir()


@pytest.mark.usefixtures("scripts")
def test_complete_test_runs_the_smoke_mode_of_every_script(bootstrap):
    steps = bootstrap.steps(bootstrap.choose(None, None), quick=False)
    groups = {
        "smoke runs of experiments/loop": 2,
        "smoke runs of benchmarks": 1,
        "smoke runs of experiments/transfer": 1,
    }
    assert list(steps) == [*CHECKS, *groups]
    run = [path for name in groups for path in steps[name][2:]]
    assert sorted(run) == sorted(str(bootstrap.ROOT / name) for name in SCRIPTS)
    assert all(steps[name][1] == str(bootstrap.ROOT / "scripts" / "smoke.py") for name in groups)


@pytest.mark.usefixtures("scripts")
def test_quick_test_leaves_out_smoke_runs_and_slow_tests(bootstrap, monkeypatch):
    environment, commands = bootstrap.choose(None, None), []
    assert list(bootstrap.steps(environment, quick=True)) == CHECKS
    slow = bootstrap.ROOT / "tests" / "slow.txt"
    slow.parent.mkdir()
    slow.write_text("# Slow.\ntests/test_a.py::test_long\n\ntests/test_b.py::test_longer\n")
    monkeypatch.setattr(bootstrap, "become", lambda command, variables: commands.append(command))
    monkeypatch.setattr(bootstrap, "steps", lambda environment, quick: {})
    monkeypatch.chdir(bootstrap.ROOT)
    bootstrap.test(environment, ["--quick", "-x"], complete=True)
    bootstrap.test(environment, ["-x"], complete=True)
    quick, whole = commands
    left_out = {"--deselect=tests/test_a.py::test_long", "--deselect=tests/test_b.py::test_longer"}
    assert left_out <= set(quick)
    assert not left_out & set(whole)
    assert quick[-1] == whole[-1] == "-x"
    assert "--quick" not in quick


def test_tests_that_quick_runs_leave_out_are_there():
    for name in load(SCRIPT).slow_tests():
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(), f"{name} is gone; run scripts/slow_tests.py again."


def test_slow_tests_are_those_of_which_a_case_took_long(tmp_path):
    cases = {
        ("test_bootstrap", "test_reason[a]"): 0.1,
        ("test_bootstrap", "test_reason[b]"): 2.5,
        ("test_bootstrap", "test_quick"): 2.0,
        ("test_that_is_gone", "test_long"): 9.0,
    }
    lines = [
        f'<testcase classname="tests.packaging.{module}" name="{test}" time="{seconds}"/>'
        for (module, test), seconds in cases.items()
    ]
    record = tmp_path / "tests.xml"
    record.write_text(f"<testsuites><testsuite>{''.join(lines)}</testsuite></testsuites>")
    slow = load(ROOT / "scripts" / "slow_tests.py").slow
    assert slow(record, 2.0) == ["tests/packaging/test_bootstrap.py::test_reason"]


SMOKED = """
import json, sys
from pathlib import Path
assert sys.argv[1:] == ["--smoke", "--json", "rows.json"], sys.argv
assert sys.path[0] == str(Path(__file__).parent)
print("noise")
Path("rows.json").write_text(json.dumps([{}]))
"""


@pytest.mark.parametrize(
    ("ending", "code", "says"),
    [
        ("", 0, "a.py --smoke: passed in"),
        ("sys.exit(0)", 1, "a.py --smoke failed"),
        ("Path('rows.json').write_text('[]')", 1, "a.py --smoke failed"),
        ("raise SystemExit('no data')", 1, "no data"),
        ("raise ValueError('wrong')", 1, "ValueError: wrong"),
    ],
)
def test_smoke_runs_stop_at_the_first_that_fails(tmp_path, capsys, ending, code, says):
    (tmp_path / "a.py").write_text(SMOKED + ending)
    (tmp_path / "b.py").write_text(SMOKED)
    before = list(sys.path), sys.argv, os.getcwd()
    assert load(ROOT / "scripts" / "smoke.py").main([str(tmp_path / "a.py"), str(tmp_path / "b.py")]) == code
    assert (list(sys.path), sys.argv, os.getcwd()) == before
    printed = capsys.readouterr().out
    assert says in printed
    assert ("noise" in printed) == (code == 1)
    assert ("b.py" in printed) == (code == 0)


def test_failing_step_ends_with_its_output_and_no_tests(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "become", lambda *_: pytest.fail("the tests ran after a failed step"))
    monkeypatch.setattr(
        bootstrap,
        "steps",
        lambda _, quick: {
            "good": [sys.executable, "-c", "print('quiet')"],
            "bad": [sys.executable, "-c", "print('loud'); raise SystemExit(3)"],
        },
    )
    with pytest.raises(SystemExit, match="bad failed with exit status 3"):
        bootstrap.test(bootstrap.choose(None, None), [], complete=True)
    out = capsys.readouterr().out
    assert "loud" in out
    assert "quiet" not in out


def test_matrix_finds_this_interpreter_on_path_and_in_pyenv(monkeypatch, tmp_path):
    matrix = load(ROOT / "scripts" / "test_matrix.py")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert matrix.interpreter(version) is None
    for patch in (9, 10):
        folder = tmp_path / "pyenv" / "versions" / f"{version}.{patch}" / "bin"
        folder.mkdir(parents=True)
        (folder / "python").symlink_to(sys.executable)
    assert next(iter(path.parts[-3] for path in matrix.candidates(version) if path.is_file())) == f"{version}.10"
    assert matrix.interpreter(version) is not None
