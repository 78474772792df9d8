"""From a log to a table, in Python and on the command line."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recjax import data, ope
from recjax.cli import main

ITEMS, SLOTS, ROWS = 5, 2, 600
COLUMNS = ope.LogColumns("click", "propensity", item="product", position="slot")


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(0)
    return (
        rng.dirichlet(np.ones(ITEMS) * 3, SLOTS),
        rng.dirichlet(np.ones(ITEMS) * 3, SLOTS),
        rng.uniform(0.1, 0.9, (SLOTS, ITEMS)),
    )


@pytest.fixture(scope="module")
def log(truth):
    logging, policy, click = truth
    rng = np.random.default_rng(1)
    slot = rng.integers(0, SLOTS, ROWS)
    item = np.array([rng.choice(ITEMS, p=logging[k]) for k in slot])
    return pl.DataFrame({
        "product": [f"p{i}" for i in item], "slot": [("top", "below")[k] for k in slot],
        "click": (rng.uniform(size=ROWS) < click[slot, item]).astype(int), "propensity": logging[slot, item],
        "pi": policy[slot, item], "user": rng.integers(0, 150, ROWS),
    })  # fmt: skip


@pytest.fixture(scope="module")
def by_item(truth):
    policy = truth[1]
    return pl.DataFrame([
        {"item": f"p{i}", "position": ("top", "below")[k], "probability": policy[k, i]}
        for k in range(SLOTS) for i in range(ITEMS)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def table(log, by_item):
    return ope.evaluate(
        log, {"new": ope.ByItem(by_item), "uniform": ope.Uniform(), "column": ope.Probabilities("pi")}, COLUMNS
    )


def rows_of(table, policy):
    return {row["estimator"]: row for row in table.to_dicts() if row["policy"] == policy}


def test_table_has_a_row_for_each_policy_and_estimator(table):
    assert table["policy"].unique(maintain_order=True).to_list() == ["logged", "new", "uniform", "column"]
    assert list(rows_of(table, "new")) == list(rows_of(table, "uniform")) == list(ope.ESTIMATORS)
    assert list(rows_of(table, "column")) == ["ips", "snips"]
    assert table["problem"].null_count() == len(table)


@pytest.mark.parametrize(("name", "of"), [("new", 1), ("uniform", None)])
def test_estimates_are_near_what_policies_earn(table, truth, log, name, of):
    policy = np.full((SLOTS, ITEMS), 1 / ITEMS) if of is None else truth[of]
    slots = np.array([(log["slot"] == slot).mean() for slot in ("top", "below")])
    value = slots @ (policy * truth[2]).sum(1)
    logged = log["click"].mean()
    for row in rows_of(table, name).values():
        assert row["low"] <= row["value"] <= row["high"]
        assert row["value"] == pytest.approx(value, abs=0.06)
        assert row["gain"] == pytest.approx(row["value"] - logged, abs=1e-6)
        assert row["gain_high"] - row["gain_low"] < 0.25


@pytest.mark.parametrize("name", ["direct", "switch_dr", "dr_shrinkage"])
def test_a_bias_that_nobody_knows_is_in_the_interval(table, name):
    rows = rows_of(table, "new")
    assert rows[name]["low"] == min(rows["dr"]["low"], rows[name]["value"])
    assert rows[name]["gain_high"] == max(rows["dr"]["gain_high"], rows[name]["gain"])


def test_probabilities_of_items_are_those_of_rows(table):
    new, column = rows_of(table, "new"), rows_of(table, "column")
    for name in column:
        assert {**new[name], "policy": ""} == {**column[name], "policy": ""}


def test_any_table_will_do(log, table, by_item):
    columns = {name: log[name].to_list() for name in log.columns}
    found = ope.evaluate(columns, {"new": ope.ByItem(by_item.to_dict(as_series=False))}, COLUMNS, estimators=["dr"])
    for name in ("value", "low", "overlap"):
        assert rows_of(found, "new")["dr"][name] == pytest.approx(rows_of(table, "new")["dr"][name], rel=1e-6)


def test_predictions_of_a_model_are_used(log):
    given = log.with_columns(q=pl.lit(0.25), v=pl.lit(0.5))
    columns = ope.LogColumns("click", "propensity", predicted="q")
    found = rows_of(ope.evaluate(given, {"a": ope.Probabilities("pi", "v")}, columns), "a")
    assert found["direct"]["value"] == pytest.approx(0.5)
    weight = (log["pi"] / log["propensity"]).to_numpy()
    assert found["dr"]["value"] == pytest.approx(np.mean(0.5 + weight * (log["click"].to_numpy() - 0.25)), rel=1e-5)


def test_rows_of_a_user_depend_on_each_other(log):
    twice = pl.concat([log, log]).with_columns(row=pl.Series([*range(ROWS)] * 2))
    alone, doubled, known = (
        rows_of(ope.evaluate(of, {}, ope.LogColumns("click", "propensity", user=user)), "logged")["mean"]
        for of, user in ((log, None), (twice, None), (twice, "row"))
    )
    assert doubled["high"] - doubled["low"] < 0.8 * (alone["high"] - alone["low"])
    assert known["high"] - known["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.1)


def test_a_policy_without_support_keeps_its_row_and_the_reason(log):
    never = ope.ByItem({"item": ["p0", "new"], "probability": [0.3, 0.7]})
    rows = rows_of(ope.evaluate(log, {"never": never}, COLUMNS), "never")
    for row in rows.values():
        assert row["value"] is row["low"] is row["gain"] is None
        assert "the log never shows" in row["problem"]


def test_reward_model_predicts_no_row_from_itself():
    rng = np.random.default_rng(2)
    reward, item, group = rng.normal(size=90), rng.integers(0, 3, 90), rng.integers(0, 20, 90)
    model = ope.fit_item_rewards(reward, item, np.zeros(90, int), group)
    predicted = model.predicted()
    for row in range(0, 90, 7):
        others = model.fold != model.fold[row]
        same = others & (item == item[row])
        expected = (reward[same].sum() + 10 * reward[others].mean()) / (same.sum() + 10)
        assert predicted[row] == pytest.approx(expected)
        assert not (others & (group == group[row])).any()
    np.testing.assert_allclose(model.expected(np.eye(3)[1]), model.means[model.fold, 0, 1])


NO_ITEM = ope.LogColumns("click", "propensity")
BAD = {
    r"no column 'clicks'.*Did you mean 'click'": ({}, ope.LogColumns("clicks"), {}),
    r"There is no estimator 'drr'": ({}, COLUMNS, {"estimators": ["drr"]}),
    r"A policy is named 'logged'": ({"logged": ope.Uniform()}, COLUMNS, {}),
    r"Uniform gives probabilities of items; name the column": ({"a": ope.Uniform()}, NO_ITEM, {}),
    r"sum to 1 in each position; they sum to \{'top': 0\.5\}": (
        {"a": ope.ByItem({"item": ["p1"], "position": ["top"], "probability": [0.5]})}, COLUMNS, {},
    ),
    r"Column 'product' must hold numbers; it has 'p\d'": ({}, ope.LogColumns("product"), {}),
    r"dr need predicted rewards, and policy 'a' has none": (
        {"a": ope.Probabilities("pi")}, NO_ITEM, {"estimators": ["dr"]},
    ),
    r"Expected rewards need predicted ones": ({"a": ope.Probabilities("pi", "pi")}, NO_ITEM, {}),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(log, message):
    policies, columns, options = BAD[message]
    with pytest.raises(ValueError, match=message):
        ope.evaluate(log, policies, columns, **options)


def test_a_data_set_without_propensities_is_no_log():
    dataset = data.Dataset("small", data.Interactions([0], [0]), data.IdMap(("a",)), data.IdMap(("x",)))
    with pytest.raises(ValueError, match="'small' has no propensities"):
        ope.bandit_log(dataset)


def test_empty_and_missing_values_are_named(log):
    with pytest.raises(ValueError, match="The log has no rows"):
        ope.evaluate(log.head(0), {}, COLUMNS)
    gaps = log.with_columns(click=pl.when(pl.int_range(pl.len()) > 1).then("click"))
    with pytest.raises(ValueError, match=r"'click' has no value in 2 rows"):
        ope.evaluate(gaps, {}, COLUMNS)


# On the command line.


@pytest.fixture
def files(log, by_item, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log.write_csv("log.csv")
    by_item.write_parquet("new.parquet")


OPTIONS = ["--reward", "click", "--item", "product", "--position", "slot"]


def test_the_command_prints_and_writes_the_table(files, capsys, table):
    main(
        [
            "evaluate",
            "--log",
            "log.csv",
            *OPTIONS,
            "--csv",
            "table.csv",
            "--policy",
            "uniform",
            "new=new.parquet",
            "column=pi",
        ]
    )
    written = pl.read_csv("table.csv")
    keys = [key for name in ("logged", "uniform", "new", "column") for key in rows_of(table, name)]
    assert written["estimator"].to_list() == keys
    assert written.filter(policy="new")["value"].to_list() == pytest.approx(
        table.filter(policy="new")["value"].to_list()
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "What policies would earn" in printed
    assert f"{table.filter(policy='new', estimator='dr')['value'][0]:.3g} (" in printed


def test_the_command_says_why_there_is_no_support(files, capsys):
    pl.DataFrame({"item": ["other"], "probability": [1.0]}).write_csv("never.csv")
    main(["evaluate", "--log", "log.csv", *OPTIONS, "--policy", "never=never.csv", "--estimators", "ips", "dr"])
    assert "never: no support. All weights are 0: no row of the log" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "message"),
    [("other", "give uniform, NAME=COLUMN, or NAME=FILE"), ("a=none.csv", "no file"), ("a=b", "no column")],
)
def test_the_command_says_what_is_wrong(files, capsys, policy, message):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--log", "log.csv", *OPTIONS, "--policy", policy])
    assert stopped.value.code in (1, 2)
    assert message in capsys.readouterr().err
