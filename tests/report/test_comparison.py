"""Runs side by side: paired where the seeds met the same users, and said so where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recjax import report
from recjax.report.comparison import difference_intervals, is_paired


def test_runs_that_differ_in_policies_alone_are_paired(make_study):
    a, b = make_study(), make_study(shift=0.5, learn={"discount": 0.0})
    assert is_paired(b, a)
    for policy, interval in difference_intervals(b, a, "ctr"):
        difference = report.final_values(b, policy, "ctr") - report.final_values(a, policy, "ctr")
        expected = stats.t.interval(0.95, 2, loc=difference.mean(), scale=stats.sem(difference))
        np.testing.assert_allclose((interval.low, interval.high), expected, atol=1e-12)
    assert "Paired by seed, since the same users were met as in a: b." in report.pairing_text({"a": a, "b": b})


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"eval_users": 8}, {"data": "other"}, {"seeds": 4}, {"new_option": 3}]
)
def test_runs_with_other_users_are_not_paired_and_it_is_said(make_study, options):
    a, b = make_study(), make_study(**({"shift": 0.5} | options))
    assert not is_paired(b, a)
    text = report.pairing_text({"a": a, "b": b})
    assert "Not paired" in text
    assert f"b ({next(iter(options))})" in text
    for policy, interval in difference_intervals(b, a, "ctr"):
        x, y = report.final_values(b, policy, "ctr"), report.final_values(a, policy, "ctr")
        assert interval.mean == pytest.approx(x.mean() - y.mean())
        welch = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
        assert interval.low <= welch.low
        assert interval.high >= welch.high


@pytest.mark.parametrize(
    ("first", "second", "paired"),
    [([], ["mine"], True), (["shop"], ["shop", "mine"], True), (["shop"], ["other_shop"], False)],
)
def test_plugins_that_one_run_has_beside_those_of_the_other_do_not_change_its_users(make_study, first, second, paired):
    a, b = make_study(plugins=first), make_study(plugins=second)
    assert is_paired(a, b) == is_paired(b, a) == paired


def test_other_rewards_are_said(make_study):
    runs = {"a": make_study(), "b": make_study(reward="conversion")}
    assert "not of one unit" in report.pairing_text(runs)


def test_a_policy_of_one_run_alone_has_no_difference(make_study):
    runs = {"a": make_study(), "b": make_study(policies=("random", "mine"), agent=["random", "mine"])}
    headings, rows = report.comparison_rows(runs, "ctr")
    assert headings[:3] == ["policy", "a", "b"]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["dqn"][1:] == ["–", "–"]
    assert cells["mine"][::2] == ["–", "–"]
    assert cells["random"][2].startswith("+0.000±0.000")


def test_the_page_lays_runs_over_each_other(make_study):
    runs = {"a": make_study(), "b": make_study(shift=0.5), "c": make_study(shift=1.0)}
    page = report.render_comparison(runs)
    # A plot and differences for each of the four metrics.
    assert page.count("<svg viewBox") == 2 * 4
    assert "dqn, b " in page
    assert "random, c: " in page
    assert "Paired by seed" in page


def test_damaged_results_are_one_clear_line(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        report.read_results(tmp_path)
    (tmp_path / "metrics.json").write_text('{"config": {}}')
    with pytest.raises(ValueError, match="it lacks policies, date"):
        report.read_results(tmp_path)
