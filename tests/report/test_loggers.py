"""Loggers: rows in, and the services told what they would be told."""

from __future__ import annotations

import csv
import json
import sys
import types

import pytest

from recjax import report
from recjax.report.loggers import logged

CONFIG = {"seeds": 2, "learn": {"discount": 0.9}}
ROW = {"step": 4, "ctr": [0.25, 0.75], "novelty": [float("nan"), float("nan")]}


def test_csv_has_a_row_a_seed(tmp_path):
    log = report.loggers.make("csv", tmp_path, "dqn", CONFIG)
    log("online", ROW)
    log.close()
    with (tmp_path / "logs" / "dqn" / "online.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["step", "seed", "ctr", "novelty"],
            ["4", "0", "0.25", ""],
            ["4", "1", "0.75", ""],
        ]


def test_json_lines_are_json(tmp_path):
    log = report.loggers.make("jsonl", tmp_path, "dqn", CONFIG)
    log("online", ROW)
    log.close()
    (line,) = (tmp_path / "logs" / "dqn.jsonl").read_text().splitlines()
    assert json.loads(line) == {"kind": "online", "step": 4, "ctr": [0.25, 0.75], "novelty": [None, None]}


def test_mlflow_is_told_the_means(tmp_path, monkeypatch):
    said = []

    class Client:
        def create_run(self, experiment, tags):
            said.append(("run", experiment, tags["mlflow.runName"]))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

        def log_param(self, run, name, value):
            said.append((run, name, value))

        def log_metric(self, run, name, value, step):
            said.append((run, name, value, step))

        def set_terminated(self, run):
            said.append((run, "ended"))

    fake = types.SimpleNamespace(
        MlflowClient=Client, set_experiment=lambda name: types.SimpleNamespace(experiment_id=name)
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log = report.loggers.make("mlflow", tmp_path / "a", "dqn", CONFIG)
    log("evaluation", ROW)
    log.close()
    assert said == [
        ("run", "recjax", "a/dqn"),
        ("r", "seeds", 2),
        ("r", "learn.discount", 0.9),
        ("r", "evaluation/ctr", 0.5, 4),
        ("r", "ended"),
    ]


def test_weights_and_biases_is_told_the_means(tmp_path, monkeypatch):
    said = []

    class Run:
        def __init__(self, **options):
            said.append(("init", options["group"], options["name"], options["config"]))

        def define_metric(self, name, step_metric):
            said.append((name, step_metric))

        def log(self, row):
            said.append(row)

        def finish(self):
            said.append("finished")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=Run))
    log = report.loggers.make("wandb", tmp_path / "a", "dqn", CONFIG)
    log("evaluation", ROW)
    log.close()
    assert said == [
        ("init", "a", "a/dqn", CONFIG),
        ("*", "loop_step"),
        {"loop_step": 4, "evaluation/ctr": 0.5},
        "finished",
    ]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_names_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"pip install 'recjax\[{name}\]'"):
        report.check_loggers([name])


def log_two_policies(folder):
    with logged(["broken"], folder, CONFIG) as recorder:
        recorder("a")("online", ROW)
        recorder("b")
        raise OSError("the disk is full")


def test_the_first_error_is_told_and_everything_is_closed(tmp_path):
    closed = []

    class Broken:
        def __init__(self, out, policy, config):
            self.policy = policy

        def __call__(self, kind, row): ...

        def close(self):
            closed.append(self.policy)
            raise OSError("flushing failed")

    report.loggers.register("broken", Broken)
    try:
        with pytest.raises(OSError, match="the disk is full"):
            log_two_policies(tmp_path)
    finally:
        del report.loggers._factories["broken"]
    assert closed == ["a", "b"]
