"""Runs: what is refused before anything is written, what is remembered, and what stopping leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recjax import report
from recjax.cli import COMMANDS, main
from recjax.study import StudyConfig, policies

TINY = [
    "loop", "--quiet", "--env", "synthetic", "--items", "20", "--slate-size", "2", "--seeds", "1", "--steps", "2",
    "--users", "4", "--eval-users", "4", "--eval-steps", "2", "--training.epochs", "1",
    "--training.history-length", "3", "--network.dim", "4", "--network.encoder", "mean",
    "--no-oracles",
]  # fmt: skip

MINE = """
from recjax import agents
from recjax.study import Policy, policies
@policies.register("{name}")
def made(context):
    return Policy(agents.supervised_greedy(context.recommendation), params=context.params)
"""


def refused(capsys, *arguments, status=2):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == status
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return " ".join(shown.replace("│", " ").split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, in which plugins may lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plugins", "no_such_module"], "The plugin 'no_such_module' cannot be imported. Give the name of a Python"),
        (["--network.dim", "0"], "NetworkConfig.dim is 0"),
        (["--network.encoder", "lstm"], "'lstm'"),
        (["--network.q-network", "nnue"], "'nnue'"),
        (["--learn.n-step", "0"], "n_step is 0"),
        (["--learn.loss", "l3"], "no loss named 'l3'"),
        (["--learn.exploration", "curiosity"], "'curiosity'"),
        (["--response-model.memory-decay", "2"], "memory_decay is 2"),
        (["--slate-size", "30"], "slate_size"),
        (["--devices", "3"], "devices=3 must divide seeds=1, and JAX sees 2"),
        (["--steps", "30", "--chunk", "20"], "steps is 30, which is not a multiple of chunk=20"),
        (["--log", "wandboard"], "no logger named 'wandboard'"),
        (["--items", "50000000"], "policies (items × width × seeds)"),
        (["--seeds", "1000000"], "GiB of memory, but there are"),
        (["--replay-capacity", "1000000000"], "replay (replay-capacity × seeds)"),
        (["--users", "100000000", "--replay-capacity", "300000000"], "users (users × seeds)"),
        (["--eval-users", "1000000000"], "users of evaluations (eval-users × seeds)"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("recjax.loop.memory.CGROUP_LIMITS", ())
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**30}[name])
    assert message in refused(capsys, *TINY, "--agent", "random", "dqn", "--out", "run", *arguments)
    assert not any(folder.iterdir())


def test_a_place_that_cannot_be_written_is_named(folder, capsys, monkeypatch):
    Path("file").write_text("mine")
    assert "file is a file" in refused(capsys, *TINY, "--out", "file")
    assert "file is a file" in refused(capsys, *TINY, "--out", "file/run")
    monkeypatch.setenv("RECJAX_CACHE", str(folder / "file" / "cache"))
    message = refused(capsys, "loop", "--quiet", "--data", "ml-100k", "--agent", "random", "--out", "run")
    assert "which cannot be written (Not a directory). Set RECJAX_CACHE to a folder of yours." in message
    assert Path("file").read_text() == "mine"
    assert not Path("run").exists()


def test_a_full_disk_leaves_what_was_there(folder, capsys, monkeypatch):
    Path("run").mkdir()
    Path("run/config.json").write_text(StudyConfig().to_json())
    Path("run/metrics.json").write_text("{}")

    def full(path, *arguments, **options):
        path.touch()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    message = refused(capsys, *TINY, "--agent", "random", "--out", "run", "--overwrite")
    assert "--out run cannot be written: No space left on device" in message
    assert {path.name for path in Path("run").iterdir()} == {"config.json", "metrics.json"}
    assert Path("run/metrics.json").read_text() == "{}"


def test_plugins_are_found_here_and_remembered(folder, capsys):
    """By ``--resume``, by ``--config`` and in the page; ``recommend`` does not need them."""
    name = "made_here"
    (folder / "made_here_plugin.py").write_text(MINE.format(name=name))
    try:
        main([*TINY, "--agent", name, "--plugins", "made_here_plugin", "--out", "run"])
        for again in (["--resume", "--out", "run"], ["--config", "run/config.json", "--out", "again"]):
            del sys.modules["made_here_plugin"], policies._factories[name]
            main(["loop", "--quiet", *again])
        del sys.modules["made_here_plugin"], policies._factories[name]
        capsys.readouterr()
        main(["recommend", "--run", "run", "--user", "7", "--policy", name, "--k", "2"])
        assert "For user 7, by made_here" in capsys.readouterr().out
        assert '"made_here_plugin"' in Path("run/report.html").read_text().replace("&#34;", '"')
    finally:
        policies._factories.pop(name, None)


def test_configurations_may_be_toml(folder, capsys):
    Path("study.toml").write_text('steps = 30\nagent = ["random", "dqn"]\n[learn]\ndiscount = 1\n')
    config = StudyConfig.read("study.toml")
    assert (config.steps, config.agent, config.learn.discount) == (30, ("random", "dqn"), 1.0)
    Path("again.json").write_text(config.to_json())
    assert StudyConfig.read("again.json") == config
    Path("broken.toml").write_text("steps = ")
    assert "broken.toml is not TOML" in refused(capsys, "loop", "--config", "broken.toml")
    Path("names.toml").write_text('agent = "dqn"')
    assert "agent is 'dqn'; it must be a list of names" in refused(capsys, "loop", "--config", "names.toml")


def test_ctrl_c_during_set_up_is_one_line(folder, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("recjax.study.study.check_study", interrupted)
    assert refused(capsys, *TINY, "--out", "run", status=130) == "recjax: stopped."
    Path("other").mkdir()
    Path("other/config.json").write_text("another run's")
    assert refused(capsys, *TINY, "--out", "other", "--overwrite", status=130) == "recjax: stopped."
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("recjax.study.study.prepare", interrupted)
    message = refused(capsys, *TINY, "--out", "run", status=130)
    assert message == "Stopped. What was saved is kept; continue with: recjax loop --resume --out run"


def test_ctrl_c_is_heard_while_python_does_not_run(tmp_path):
    """The process waits in a handler, as a compiled program would make it."""
    code = """
import os, signal, time
from recjax.interrupt import answered_interrupts
signal.signal(signal.SIGINT, lambda *_: time.sleep(60))
with answered_interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "Stopping after this chunk; press Ctrl-C again to stop now.\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "Stopped.\n"


def test_summaries_are_those_of_the_commands():
    for name, (module, function, summary) in COMMANDS.items():
        code = getattr(sys.modules.get(module) or __import__(module, fromlist=[function]), function)
        assert code.__doc__.splitlines()[0] == summary, name


def test_python_m_recjax_is_recjax():
    done = subprocess.run([sys.executable, "-m", "recjax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("recjax 0.")


def test_rows_go_to_the_loggers_that_were_named(folder):
    main([*TINY, "--agent", "random", "--log", "csv", "jsonl", "--out", "run"])
    results = report.read_results("run")["policies"]["random"]
    assert not Path("run/tensorboard").exists()
    lines = [json.loads(line) for line in Path("run/logs/random.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "evaluation"][-1]
    assert (last["step"], last["ctr"]) == (results["evaluated_at"][-1], results["evaluations"]["ctr"][-1])
    rows = Path("run/logs/random/evaluation.csv").read_text().splitlines()
    assert len(rows) == 1 + len(results["evaluated_at"])
    assert dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))["ctr"] == str(last["ctr"][0])
