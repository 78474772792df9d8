"""The words that go with the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recjax.eval import describe, metrics


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
