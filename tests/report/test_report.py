"""Tables and files drawn from hand-made results."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from recjax import report
from recjax.report.comparison import comparison_rows, option_rows
from recjax.report.tables import interval_text


def results(ctr, **options):
    evaluations = {"ctr": [ctr, ctr]}
    return {
        "config": {"reward": "click", "learn": {"discount": 0.9}} | options,
        "policies": {"random": {"evaluations": evaluations, "evaluated_at": [0, 4]}},
        "date": "2026-01-01", "recjax": "0.1.0", "hardware": {"summary": "cpu"}, "seconds": {"total": 3.2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 2.0, 3.0], "2.0±2.5"),
        ([0.101, 0.102, 0.103], "0.102±0.002"),
        ([5.0, 5.0], "5.000±0.000"),
        ([0.25], "0.25"),
        ([np.nan, np.nan], "–"),
        ([1200.0, 1300.0, 1100.0], "1200±248"),
        ([-1.0, -2.0, -3.0], "−2.0±2.5"),
    ],
)
def test_interval_text(values, text):
    assert interval_text(np.array(values)) == text


def test_metrics_that_recjax_does_not_know_head_their_columns_by_name():
    found = results([0.1, 0.3])
    found["policies"]["random"]["evaluations"]["dwell_time"] = [[1.0, 2.0], [3.0, 3.0]]
    headings, rows = report.policy_rows(found, ("ctr", "dwell_time"))
    assert headings == ["policy", "CTR", "dwell time"]
    assert rows[0][2] == "3.000±0.000"


def test_json_is_strict_and_written_whole(tmp_path):
    path = tmp_path / "metrics.json"
    report.write_json(path, {"a": np.float32("nan"), "b": np.arange(2), "c": (np.inf, 1.5), "d": None})
    assert json.loads(path.read_text()) == {"a": None, "b": [0, 1], "c": [None, 1.5], "d": None}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    with pytest.raises(TypeError):
        report.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["b"] == [0, 1]


def test_undefined_values_are_read_back_as_nan():
    undefined = {"policies": {"p": {"evaluations": {"ctr": [[None, 0.5]]}}}}
    np.testing.assert_array_equal(report.final_values(undefined, "p", "ctr"), [np.nan, 0.5])


def test_comparison_shows_only_options_that_differ():
    runs = {"a": results([0.1, 0.2]), "b": results([0.3, 0.4], reward="conversion")}
    headings, rows = option_rows(runs)
    assert headings == ["option", "a", "b"]
    assert rows[0] == ["reward", "click", "conversion"]
    assert "learn.discount" not in {row[0] for row in rows}
    headings, rows = comparison_rows(runs, "ctr")
    assert rows == [["random", "0.15±0.64", "0.35±0.64", "+0.200±0.000*"]]
    assert comparison_rows(runs, "gini")[1] == []


def test_directory_without_results_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no metrics\.json"):
        report.read_results(tmp_path)


def scalars(path):
    """The scalars of an event file, read by its framing: length, checksum, record, checksum."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        at += length + 16
    return found


def test_event_files_hold_every_row_and_replace_an_earlier_attempt(tmp_path):
    for attempt in range(2):
        board = report.TensorBoard(tmp_path / "dqn", seeds=2)
        board("evaluation", {"step": 4, "ctr": [0.25, 0.5 + attempt]})
        board.close()
    (path,) = (tmp_path / "dqn" / "seed1").iterdir()
    assert scalars(path) == [("evaluation/ctr", 4, 1.5)]
