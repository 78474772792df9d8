"""The words that go with the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recjax.eval import Metric, definitions, describe, metrics, register_metric

DWELL = Metric("higher", "seconds per slate", "[0, inf)", "Seconds spent on a slate, summed over its slots.")


@pytest.fixture
def registered():
    yield register_metric("dwell_time", DWELL)
    del definitions._metrics["dwell_time"]


def test_definitions_are_single_sentences_with_units():
    for name, metric in metrics.items():
        assert re.fullmatch(r"[A-Z][^.]*(\.\d[^.]*)?\.", metric.definition), name
        assert metric.unit
        assert metric.range


def test_the_page_of_metrics_lists_every_metric_as_defined():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = {row[0].strip("` "): row[1:] for line in page.splitlines() if (row := line.strip("| ").split(" | "))[1:]}
    for name, metric in metrics.items():
        _, unit, span, better, *_ = (cell.strip() for cell in rows[name])
        assert (unit, span, better) == (metric.unit, metric.range, metric.better), name


def test_unknown_metrics_are_named_with_a_suggestion():
    assert describe("recall@20") is metrics["recall"]
    with pytest.raises(ValueError, match=r"'ndgc@10'.*Did you mean 'ndcg'"):
        describe("ndgc@10")


def test_definitions_cannot_be_changed():
    with pytest.raises(TypeError):
        metrics["ctr"] = metrics["gini"]  # type: ignore[index]


def test_metrics_of_others_are_known_once_they_are_registered(registered):
    assert describe("dwell_time@10") is metrics["dwell_time"] is registered is DWELL
    assert register_metric("dwell_time", DWELL) is DWELL
    with pytest.raises(ValueError, match=r"'dwell_time' is registered already: 'Seconds spent"):
        register_metric("dwell_time", Metric("lower", "s", "real", "Another."))
    with pytest.raises(ValueError, match=r"'dwel_time'.*Did you mean 'dwell_time'"):
        describe("dwel_time")


def test_definitions_of_recjax_are_not_replaced():
    with pytest.raises(ValueError, match=r"'ctr' is registered already: 'Clicks per shown slot.'"):
        register_metric("ctr", DWELL)
    assert metrics["ctr"].unit == "clicks per slot"


@pytest.mark.parametrize("name", ["", "dwell@5"])
def test_names_that_cannot_be_looked_up_are_refused(name):
    with pytest.raises(ValueError, match="cannot be named"):
        register_metric(name, DWELL)
    assert name not in metrics


def test_definitions_without_words_are_refused():
    with pytest.raises(ValueError, match=r"Metric.better is 'more'; choose one of \('higher'"):
        Metric("more", "1", "real", "Sentence.")
    with pytest.raises(ValueError, match=r"Metric\.unit is empty"):
        Metric("higher", "", "real", "Sentence.")
