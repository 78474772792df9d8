"""Sweeps: what is proposed, that a trial is the study it stands for, and that finished trials stay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recjax import study
from recjax.cli import main
from recjax.study import Choice, StudyConfig, Trial, grid, random_search, ranked, read_trials, run_study, run_sweep

SMALL = {"training.epochs": 1, "training.history_length": 3, "network.dim": 4, "network.encoder": "mean"}
CONFIG = StudyConfig(
    env="synthetic", items=20, slate_size=2, agent=("dqn",), seeds=2, steps=6, users=4, eval_users=6, eval_steps=3,
    batch_size=4, learn_start=1, replay_capacity=100, oracles=False,
).with_options(SMALL)  # fmt: skip

OPTIONS = [
    "--env", "synthetic", "--items", "20", "--slate-size", "2", "--training.history-length", "3",
]  # fmt: skip


def test_choices_are_read():
    assert Choice.parse("learn.discount=0,0.5") == Choice("learn.discount", (0, 0.5))
    assert Choice.parse("network.q-network=mlp,dot_product").values == ("mlp", "dot_product")
    assert Choice.parse("network.q-network=mlp").option == "network.q_network"
    assert Choice.parse("learn.double=true,false").values == (True, False)
    assert Choice.parse("network.dim=16..64") == Choice("network.dim", low=16, high=64)
    assert Choice.parse("learn.learning_rate=log:1e-4..1e-2") == Choice("learn.learning_rate", (), 1e-4, 1e-2, True)


@pytest.mark.parametrize(
    "text", ["learn.discount", "=1", "a=", "a=1..2..3", "a=log:1", "a=2..1", "a=log:0..1", "a=x..y"]
)
def test_what_is_no_choice_is_refused(text):
    with pytest.raises(ValueError, match="--vary"):
        Choice.parse(text)


def test_draws_lie_in_their_ranges_and_follow_from_the_seed():
    choices = [Choice("a", (1, 2)), Choice("b", low=16, high=18), Choice("c", low=1e-4, high=1e-2, log=True)]
    drawn = random_search(choices, 200, seed=3)([])
    assert drawn == random_search(choices, 200, seed=3)([])
    assert {options["a"] for options in drawn} == {1, 2}
    assert {options["b"] for options in drawn} == {16, 17, 18}
    values = np.array([options["c"] for options in drawn])
    assert np.all((values >= 1e-4) & (values <= 1e-2))
    assert np.mean(values < 1e-3) == pytest.approx(0.5, abs=0.15)


def test_grids_have_every_combination_that_is_not_done():
    propose = grid([Choice("a", (1, 2)), Choice("b", ("x", "y"))])
    assert len(propose([])) == 4
    assert propose([Trial({"a": 1, "b": "y"}, {})]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ValueError, match="A grid needs values of c, not a range"):
        grid([Choice("c", low=1, high=2)])


def test_the_best_is_first_and_what_has_no_value_last():
    trials = [Trial({"a": i}, {"ctr": [value], "gini": [value]}) for i, value in enumerate([0.2, None, 0.3])]
    assert [trial.options["a"] for trial in ranked(trials, "ctr")] == [2, 0, 1]


def test_options_of_a_study_are_checked():
    assert CONFIG.with_options({"steps": 30}).eval_every == StudyConfig(steps=30).eval_every
    for options, message in (
        ({"learn.gamma": 1}, "gamma"),
        ({"gamma.x": 1}, "'gamma' has no options of its own"),
        ({"network.dim": "wide"}, "must be of type int"),
    ):
        with pytest.raises(ValueError, match=message):
            CONFIG.with_options(options)


def test_a_trial_is_the_study_that_it_stands_for_and_is_never_run_again(tmp_path, monkeypatch):
    """Two discounts side by side; the second beside the same study alone."""
    propose = grid([Choice("learn.discount", (0.0, 0.9))])
    done = run_sweep(CONFIG, propose, directory=tmp_path)
    assert [trial.options for trial in done] == [{"learn.discount": 0.0}, {"learn.discount": 0.9}]
    alone = run_study(CONFIG.with_options({"learn.discount": 0.9})).runs["dqn"].final()
    for metric, values in alone.items():
        np.testing.assert_allclose(np.array(done[1].metrics[metric], float), values, rtol=1e-5, err_msg=metric)
    monkeypatch.setattr("recjax.study.sweep._side_by_side", None)
    again = run_sweep(CONFIG, propose, directory=tmp_path)
    assert [trial.options for trial in again] == [trial.options for trial in done]
    assert read_trials(tmp_path) == again


def test_a_trial_that_cannot_run_is_told_before_any_has(tmp_path):
    with pytest.raises(ValueError, match="n_step is 0"):
        run_sweep(CONFIG, grid([Choice("learn.n_step", (1, 0))]), directory=tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="A sweep is of one policy; got random, dqn"):
        run_sweep(CONFIG.with_options({"agent": ["random", "dqn"]}), grid([]), directory=tmp_path)


def test_optuna_proposes_from_what_is_done():
    pytest.importorskip("optuna")
    choices = [Choice("a", low=0.0, high=1.0), Choice("b", ("x", "y")), Choice("c", low=1, high=4)]
    propose = study.optuna_search(choices, 12, seed=0, batch=4, metric="ctr")
    done = []
    while proposed := propose(done):
        assert len(proposed) <= 4
        assert all(0 <= p["a"] <= 1 and p["b"] in ("x", "y") and p["c"] in (1, 2, 3, 4) for p in proposed)
        done += [Trial(options, {"ctr": [options["a"]]}) for options in proposed]
    assert len(done) == 12


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The command, with trials whose metrics are made up."""
    monkeypatch.setattr(
        "recjax.study.sweep._run",
        lambda configs, *_: iter(
            (i, {"session_reward": [config.learn.discount] * 2, "ctr": [0.1, None]}) for i, config in enumerate(configs)
        ),
    )
    return tmp_path / "sweep"


def test_the_command_leaves_a_table_and_the_best_options(finished, capsys):
    command = ["sweep", "--quiet", *OPTIONS, "--agent", "dqn", "--out", str(finished)]
    main([*command, "--vary", "learn.discount=0.5,0.9"])
    shown = capsys.readouterr().out
    assert shown.index("discount 0.9") < shown.index("discount 0.5")
    assert StudyConfig.read(finished / "best.json").learn.discount == 0.9
    rows = (finished / "trials.csv").read_text().splitlines()
    assert rows[0] == "learn.discount,seed,session_reward,ctr"
    assert rows[1:3] == ["0.9,0,0.9,0.1", "0.9,1,0.9,"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--vary", "learn.discount=0.5"])
    assert stopped.value.code == 2
    assert "holds another sweep" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--vary", "learn.n-step=0", "--overwrite"])
    assert len(list((finished / "trials").iterdir())) == 2
    main([*command, "--vary", "learn.discount=0.5", "--overwrite"])
    assert len(list((finished / "trials").iterdir())) == 1
    assert json.loads((finished / "sweep.json").read_text())["vary"] == ["learn.discount=0.5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "A sweep needs what to vary"),
        (["--vary", "learn.gamma=1"], "['gamma'] is no option"),
        (["--vary", "learn.discount=0", "--metric", "joy"], "joy"),
        (["--vary", "learn.discount=0", "--parallel", "0"], "parallel is 0"),
        (["--vary", "learn.discount=0..1"], "A grid needs values"),
        (["--vary", "learn.discount=0", "--agent", "dqn", "random"], "A sweep is of one policy"),
        (["--vary", "learn.n-step=0", "--env", "synthetic"], "n_step is 0"),
    ],
)
def test_what_makes_no_sweep_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--agent", "dqn", "--out", str(tmp_path / "sweep"), *arguments])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "sweep").exists()
