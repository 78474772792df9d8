"""The command line, from the first run to recommendations, on a small synthetic catalogue."""

from __future__ import annotations

import json
import os
import re
import shutil
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
    "--training.epochs", "1", "--training.history-length", "5", "--network.dim", "8", "--network.encoder", "mean",
    "--agent", "random", "greedy", "myopic", "slate_q", "--no-oracles",
]  # fmt: skip


WITH_ORACLES = [argument for argument in SMALL if argument != "--no-oracles"]


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
        policy.pop("compile_seconds")
        policy.pop("user_steps_per_second")
    return results


def test_a_run_leaves_everything_it_promises(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"artifact", "checkpoints", "config.json", "metrics.json", "report.html", "tensorboard"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"represent", "myopic", "slate_q"}
    assert len(list((run / "tensorboard" / "slate_q").glob("seed*/events*"))) == 2


def test_metrics_are_per_seed_and_defined(run):
    results = report.read_results(run)
    for policy in ("random", "greedy", "myopic", "slate_q"):
        for metric in report.TABLE_METRICS:
            count = 3 if policy in ("myopic", "slate_q") else 1
            assert np.shape(results["policies"][policy]["evaluations"][metric]) == (count, 2)
            assert results["definitions"][metric]["definition"]
    assert results["policies"]["slate_q"]["evaluated_at"] == [0, 4, 8]
    assert set(results["ranking"]["models"]) > {"popularity", "item kNN", "user kNN", "two towers"}
    seconds = {name: policy["compile_seconds"] for name, policy in results["policies"].items()}
    assert seconds["slate_q"] < seconds["myopic"], "one program serves both"
    assert set(results["examples"]["policies"]) == {"random", "greedy", "myopic", "slate_q"}
    value = results["long_term_value"]
    final = {p: report.final_values(results, p, "session_reward") for p in ("slate_q", "myopic")}
    np.testing.assert_allclose(value["per_seed"], final["slate_q"] - final["myopic"])
    np.testing.assert_allclose(value["mean"], np.mean(value["per_seed"]))


def test_page_needs_no_other_file(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page.replace("xlink:href", "href"))
    assert "url(http" not in page
    assert page.count("<table") >= 4
    for policy in ("random", "greedy", "myopic", "slate_q"):
        assert f'<th scope="row">{policy}</th>' in page


def test_configuration_reproduces_the_run(run, tmp_path):
    main(["loop", "--quiet", "--config", str(run / "config.json"), "--out", str(tmp_path / "b")])
    again = without_times(report.read_results(tmp_path / "b"))
    assert again == without_times(report.read_results(run))
    assert (tmp_path / "b" / "config.json").read_text() == (run / "config.json").read_text()


def test_a_preset_is_where_options_start_and_oracles_say_what_can_be_reached(tmp_path):
    """Options of the command line go before those of the preset."""
    out = tmp_path / "g"
    few = [*WITH_ORACLES, "--agent", "random", "--out", str(out)]
    main([*few, "--preset", "long-term", "--response-model.bait", "1.5"])
    results = report.read_results(out)
    model = results["config"]["response_model"]
    assert (model["bait"], model["leave_slope"]) == (1.5, 0.2)
    assert set(results["reached"]["policies"]) == {"random", "oracle_myopic", "oracle_look_ahead"}
    for oracle in ("oracle_myopic", "oracle_look_ahead"):
        assert results["policies"][oracle]["evaluated_at"] == [0]
        assert "Sees all that is hidden" in results["policies"][oracle]["description"]
    assert "How far from what could be reached" in (out / "report.html").read_text(encoding="utf-8")


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
    main(["recommend", "--run", str(run), "--user", "9", "--k", "4"])
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if "For user 9, by slate_q" in line)
    rows = [line for line in lines[start:] if re.match(r"\s*\d+ ", line)]
    assert len(rows) == 4
    assert all(re.search(r"\(-?\d\.\d\d\)", row) for row in rows)


def test_recommend_to_many_users_as_a_table(run, tmp_path, capsys):
    (tmp_path / "users.txt").write_text("3\n9\n")
    (tmp_path / "histories.jsonl").write_text('["5", "8"]\n[]\n')
    who = ["--user", "7", "--users", str(tmp_path / "users.txt"), "--history", "1", "2"]
    who += ["--histories", str(tmp_path / "histories.jsonl")]
    main(["recommend", "--run", str(run), *who, "--k", "4", "--format", "json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    users = ["7", "3", "9", "history 1", "history 2", "history 3"]
    assert [(row["user"], row["rank"]) for row in rows] == [(user, rank) for user in users for rank in range(1, 5)]
    assert not {row["item"] for row in rows if row["user"] == "history 1"} & {"1", "2"}
    main(["recommend", "--run", str(run), *who, "--k", "4", "--format", "csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "user,rank,item,title,score"
    assert [line.split(",")[2] for line in lines[1:]] == [row["item"] for row in rows]


def test_a_finished_run_is_not_replaced_unless_told(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "holds a finished run" in refused(capsys, *SMALL, "--out", str(run), "--seed", "1")
    assert "no policy named 'dqm'" in refused(capsys, *SMALL, "--out", str(run), "--agent", "dqm", "--overwrite")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_what_an_earlier_run_left_is_no_part_of_a_new_one(run, tmp_path, monkeypatch, capsys):
    """In the place of a finished run another seed, killed in its first chunk, and resumed."""
    out, few = tmp_path / "e", ["--agent", "random", "supervised"]
    main([*SMALL, *few, "--out", str(tmp_path / "alone"), "--seed", "1"])
    shutil.copytree(run, out)

    def dying(program, state):
        raise SystemExit(9)

    monkeypatch.setattr(Program, "chunk", dying)
    with pytest.raises(SystemExit):
        main([*SMALL, *few, "--out", str(out), "--seed", "1", "--overwrite"])
    monkeypatch.undo()
    capsys.readouterr()
    assert "There is no artifact" in refused(capsys, "recommend", "--run", str(out), "--user", "7")
    main(["loop", "--quiet", "--resume", "--out", str(out)])
    assert without_times(report.read_results(out)) == without_times(report.read_results(tmp_path / "alone"))


def test_a_diverging_policy_stops_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--agent", "dqn", "--learn.learning-rate", "1e30", "--out", str(tmp_path / "f")])
    assert stopped.value.code == 1
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(r"The \w+ of \d+ updates was infinite or NaN \(dqn, steps \d+ to \d+, seeds", message)
    assert not (tmp_path / "f" / "metrics.json").exists()


def test_compare_shows_what_differs(run, tmp_path, capsys):
    other = tmp_path / "d"
    main([*SMALL, "--out", str(other), "--reward", "conversion", "--agent", "random"])
    capsys.readouterr()
    main(["compare", str(run), str(other), "--html", str(tmp_path / "both.html")])
    shown = capsys.readouterr().out
    assert re.search(r"reward +click +conversion", shown)
    assert "CTR" in shown
    assert "Paired by seed, since the same users were met as in a: d." in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= max(80, len(f"Written to {tmp_path / 'both.html'}"))
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "d − a" in page.replace("\u00a0", " ")


def test_data_list_names_every_set(capsys):
    main(["data", "list"])
    shown = capsys.readouterr().out
    for name in ("ml-100k", "ml-1m", "open-bandit", "ta-feng", "amazon-beauty", "retailrocket", "coat"):
        assert name in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL, "--agent", "dqm"], "no policy named 'dqm'"),
        ([*SMALL, "--agent", "ppo"], "The agent 'ppo' is not made with its defaults"),
        (["loop", "--preset", "short-term"], "no preset 'short-term'; choose one of long-term"),
        (["loop", "--preset", "long-term", "--config", "a.json"], "Both --config a.json and --preset long-term"),
        ([*SMALL, "--reward", "clicks"], "no reward named 'clicks'"),
        ([*SMALL, "--reward", "click=many"], "'many' is not a number"),
        ([*SMALL, "--network.encoder", "lstm"], "'lstm'"),
        ([*SMALL, "--response-model.memory-decay", "2"], "memory_decay is 2"),
        (["loop", "--quiet", "--env", "moon"], "no environment named 'moon'"),
        (["loop", "--quiet", "--data", "ml-100"], "Did you mean 'ml-100k'"),
        (["loop", "--quiet", "--config", "nowhere.json"], "Cannot read the configuration nowhere.json"),
        (["loop", "--quiet", "--resume"], "nothing to resume"),
        (["recommend", "--run", "nowhere", "--user", "1"], "There is no artifact in nowhere"),
        (["compare", "one"], "at least two runs"),
        (["data", "fetch"], "needs a data set"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


def test_resuming_with_other_options_is_refused(run, capsys):
    message = refused(capsys, *WITH_ORACLES, "--out", str(run), "--resume", "--slate-size", "2")
    assert "slate_size was 3, is 2" in message


def test_unknown_user_or_policy_is_named(run, capsys):
    assert "no user '5000'" in refused(capsys, "recommend", "--run", str(run), "--user", "5000")
    message = refused(capsys, "recommend", "--run", str(run), "--user", "7", "--policy", "supervised")
    assert "has the policies greedy, myopic, slate_q; choose one of them" in message
    message = refused(capsys, "recommend", "--run", str(run), "--user", "7", "--policy", "random")
    assert "It does not rate items" in message
    assert "Nobody to recommend to" in refused(capsys, "recommend", "--run", str(run))


def test_configuration_with_an_unknown_option_is_refused(run, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    config["learn"]["gamma"] = 0.9
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert "['gamma'] is no option of LearnConfig" in refused(capsys, "loop", "--config", str(path))


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("recjax 0.")
