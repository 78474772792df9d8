"""From a file to recommendations on the command line, and what is said of files that are no logs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from recjax import report
from recjax.cli import main

SMALL = [
    *("loop", "--quiet", "--slate-size", "3", "--seeds", "1", "--steps", "4", "--chunk", "4", "--eval-every", "4"),
    *("--users", "8", "--eval-users", "8", "--eval-steps", "4", "--batch-size", "8", "--learn-start", "2"),
    "--no-oracles",
    *("--training.epochs", "1", "--training.history-length", "5", "--network.dim", "8", "--agent", "popularity"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    words = rng.choice(["view", "add_to_cart"], 400)
    rows = [f"Žofie {u},映画 {i},{1_700_000_000 + t},{w}" for t, (u, i, w) in enumerate(
        zip(rng.integers(0, 40, 400), rng.integers(0, 20, 400), words, strict=True)
    )]  # fmt: skip
    (folder / "clicks.csv").write_text("\n".join(["visitor,product,timestamp,event", *rows]) + "\n", encoding="utf-8")
    titles = [f"映画 {i},Film [b]{i}[/b]" for i in range(20)]
    (folder / "items.csv").write_text("\n".join(["product,title", *titles]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder):
    out = folder / "run"
    options = ["--user", "visitor", "--item", "product", "--time", "timestamp", "--items", str(folder / "items.csv")]
    options += ["--behaviours", "view=view,add_to_cart=cart", "--out", str(out)]
    main([*SMALL, "--data", str(folder / "clicks.csv"), *options])
    return out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_run_keeps_the_schema_with_what_was_guessed(run, folder):
    schema = json.loads((run / "schema.json").read_text(encoding="utf-8"))
    assert schema == {
        "user": "visitor", "item": "product", "time": "timestamp", "behaviour": "event", "title": "title",
        "behaviours": ["view=view,add_to_cart=cart"], "items_key": "product", "items": str(folder / "items.csv"),
    }  # fmt: skip
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["schema"]["behaviour"] == "event"


def test_columns_that_are_not_read_are_told(tmp_path, capsys):
    log = tmp_path / "log.csv"
    header = ",".join(["user", "item", "fecha", *(f"c{n}" for n in range(9))])
    log.write_text(f"{header}\n" + "ann,10,2026-01-01" + ",1" * 9 + "\n", encoding="utf-8")
    main(["data", "describe", str(log)])
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Not read"))
    assert told.startswith("Not read: 'fecha', 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6' and 2 more.")
    assert "--time" in told


def test_the_report_begins_with_what_the_fit_did_not_learn(run):
    fit = report.read_results(run)["simulator"]["fit"]
    assert fit["feedback"] == "implicit"
    assert fit["gain"]["low"] <= 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.index("no better than item + user bias") < page.index("Policies in the loop")


def test_titles_and_names_reach_recommendations(run, capsys):
    main(
        ["recommend", "--run", str(run), "--policy", "popularity", "--user", "Žofie 7", "--k", "2", "--format", "json"]
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["user"] for row in rows] == ["Žofie 7"] * 2
    assert all(row["title"] == f"Film [b]{row['item'].split()[1]}[/b]" for row in rows)


def test_the_configuration_reproduces_the_run(run, folder):
    main(["loop", "--quiet", "--config", str(run / "config.json"), "--out", str(folder / "again")])
    first, second = (report.read_results(folder / name)["policies"]["popularity"] for name in ("run", "again"))
    assert first["evaluations"] == second["evaluations"]
    main(["loop", "--quiet", "--resume", "--out", str(folder / "again")])


def test_the_schema_of_a_run_reads_the_file_without_guessing(run, folder, capsys):
    main(["data", "describe", str(folder / "clicks.csv"), "--schema", str(run / "schema.json")])
    shown = capsys.readouterr().out
    assert "(guessed)" not in shown
    assert "items.csv: 20 rows, 20 of them for the 20 ids of the log" in shown
    assert "Film [b]" in shown


def test_what_was_read_and_guessed_is_shown(folder, capsys):
    main(["data", "describe", str(folder / "clicks.csv"), "--behaviours", "add_to_cart=cart"])
    shown = capsys.readouterr().out
    assert "400 rows, 400 kept" in shown
    assert "user 'visitor' (guessed), item 'product' (guessed)" in shown
    for text in (
        "view: ",
        "cart: ",
        "Žofie ",
        "映画 ",
        "2023-11-14 22:13:20",
        "yes, with a simulator fitted to what was",
    ):
        assert text in shown


def test_describe_tells_why_a_log_cannot_be_looped(tmp_path, capsys):
    (tmp_path / "all.csv").write_text("user,item\na,1\na,2\nb,1\nb,2\n")
    main(["data", "describe", str(tmp_path / "all.csv")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "no. all: every user took every one of the 2 items" in shown
    assert "by their ids alone" in shown


def test_mistakes_are_one_line_and_leave_no_folder(folder, tmp_path, capsys):
    clicks, out = str(folder / "clicks.csv"), tmp_path / "out"
    wrong = {
        ("--data", clicks): "'add_to_cart' .*--on-bad duplicate bad_behaviour.*--behaviours add_to_cart=cart",
        ("--data", clicks, "--user", "visitors"): "no column 'visitors'.*Did you mean 'visitor'",
        ("--data", clicks, "--behaviours", "view=veiw"): "no behaviour 'veiw'",
        ("--data", clicks, "--time", "event"): "Cannot tell what the time '.*' means",
        ("--data", "none.csv"): "There is no file 'none.csv'",
        ("--data", clicks, "--schema", "none.json"): "Cannot read the schema none.json",
        ("--user", "visitor"): "'ml-100k' is no file",
    }
    for arguments, message in wrong.items():
        line = refused(capsys, *SMALL, *arguments, "--out", str(out))
        assert line.startswith("recjax: ")
        assert re.search(message, line), line
        assert not out.exists()
