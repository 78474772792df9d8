"""The command line, from the first run to recommendations, on a small synthetic catalogue."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

from recjax import report
from recjax.cli import main
from recjax.loop import Program

SMALL = [
    "loop", "--quiet", "--env", "synthetic", "--items", "60", "--slate-size", "3",
    "--seeds", "2", "--steps", "8", "--chunk", "4", "--eval-every", "4", "--users", "8", "--eval-users", "8",
    "--eval-steps", "4", "--batch-size", "8", "--learn-start", "2", "--replay-capacity", "1000",
    "--training.epochs", "1", "--training.history-length", "5", "--network.dim", "8",
    "--agent", "random", "greedy", "myopic", "dqn",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    main([*SMALL, "--out", str(out)])
    return out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def without_times(results):
    results = json.loads(json.dumps(results))
    results.pop("seconds")
    for policy in results["policies"].values():
        policy.pop("seconds")
        policy.pop("user_steps_per_second")
    return results


def test_a_run_leaves_everything_it_promises(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"checkpoints", "config.json", "metrics.json", "report.html", "tensorboard"}
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"represent", "random", "greedy", "myopic", "dqn"}
    assert len(list((run / "tensorboard" / "dqn").glob("seed*/events*"))) == 2


def test_metrics_are_per_seed_and_defined(run):
    results = report.read_results(run)
    for policy in ("random", "greedy", "myopic", "dqn"):
        for metric in report.TABLE_METRICS:
            assert np.shape(results["policies"][policy]["evaluations"][metric]) == (3, 2)
            assert results["definitions"][metric]["definition"]
    assert results["policies"]["dqn"]["evaluated_at"] == [0, 4, 8]
    assert set(results["ranking"]["models"]) > {"popularity", "item kNN", "user kNN", "two towers"}
    value = results["long_term_value"]
    final = {p: report.final_values(results, p, "session_reward") for p in ("dqn", "myopic")}
    np.testing.assert_allclose(value["per_seed"], final["dqn"] - final["myopic"])
    np.testing.assert_allclose(value["mean"], np.mean(value["per_seed"]))


def test_page_needs_no_other_file(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page.replace("xlink:href", "href"))
    assert "url(http" not in page
    assert page.count("<table") >= 4
    for policy in ("random", "greedy", "myopic", "dqn"):
        assert f"<td>{policy}</td>" in page


def test_configuration_reproduces_the_run(run, tmp_path):
    main(["loop", "--quiet", "--config", str(run / "config.json"), "--out", str(tmp_path / "b")])
    again = without_times(report.read_results(tmp_path / "b"))
    assert again == without_times(report.read_results(run))
    assert (tmp_path / "b" / "config.json").read_text() == (run / "config.json").read_text()


def test_interrupted_run_resumes_to_the_same_numbers(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "c"
    real = Program.chunk
    chunks = []

    def interrupting(program, state):
        chunks.append(1)
        if len(chunks) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(program, state)

    monkeypatch.setattr(Program, "chunk", interrupting)
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--out", str(out)])
    assert stopped.value.code == 130
    assert f"recjax loop --resume --out {out}" in " ".join(capsys.readouterr().err.split())
    monkeypatch.undo()
    assert "Continue it with --resume" in refused(capsys, *SMALL, "--out", str(out))
    main(["loop", "--quiet", "--resume", "--out", str(out)])
    assert without_times(report.read_results(out)) == without_times(report.read_results(run))


def test_recommend_prints_items_and_reasons(run, capsys):
    main(["recommend", "--run", str(run), "--user", "7", "--k", "4"])
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if "For user 7, by dqn" in line)
    rows = [line for line in lines[start:] if re.match(r"\s*\d+ ", line)]
    assert len(rows) == 4
    assert all(re.search(r"\(-?\d\.\d\d\)", row) for row in rows)


def test_compare_shows_what_differs(run, tmp_path, capsys):
    other = tmp_path / "d"
    main([*SMALL, "--out", str(other), "--reward", "conversion", "--agent", "random"])
    capsys.readouterr()
    main(["compare", str(run), str(other)])
    shown = capsys.readouterr().out
    assert "reward" in shown
    assert "conversion" in shown
    assert "CTR" in shown


def test_data_list_names_every_set(capsys):
    main(["data", "list"])
    shown = capsys.readouterr().out
    for name in ("ml-100k", "ml-1m", "open-bandit", "ta-feng", "amazon-beauty", "retailrocket", "coat"):
        assert name in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL, "--agent", "dqm"], "no policy named 'dqm'"),
        ([*SMALL, "--reward", "clicks"], "no reward named 'clicks'"),
        ([*SMALL, "--reward", "click=many"], "'many' is not a number"),
        ([*SMALL, "--network.encoder", "lstm"], "'lstm'"),
        ([*SMALL, "--declared.memory-decay", "2"], "memory_decay is 2"),
        (["loop", "--quiet", "--env", "moon"], "no environment named 'moon'"),
        (["loop", "--quiet", "--data", "ml-100"], "Did you mean 'ml-100k'"),
        (["loop", "--quiet", "--config", "nowhere.json"], "Cannot read the configuration nowhere.json"),
        (["loop", "--quiet", "--resume"], "nothing to resume"),
        (["recommend", "--run", "nowhere", "--user", "1"], "has no config.json"),
        (["compare", "one"], "at least two runs"),
        (["data", "fetch"], "needs a data set"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


def test_resuming_with_other_options_is_refused(run, capsys):
    message = refused(capsys, *SMALL, "--out", str(run), "--resume", "--slate-size", "2")
    assert "slate_size was 3, is 2" in message


def test_unknown_user_or_policy_is_named(run, capsys):
    assert "no user '5000'" in refused(capsys, "recommend", "--run", str(run), "--user", "5000")
    message = refused(capsys, "recommend", "--run", str(run), "--user", "7", "--policy", "supervised")
    assert "it holds dqn, greedy, myopic, random" in message


def test_configuration_with_an_unknown_option_is_refused(run, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    config["learn"]["gamma"] = 0.9
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert "['gamma'] is no option of LearnConfig" in refused(capsys, "loop", "--config", str(path))


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("recjax 0.")
