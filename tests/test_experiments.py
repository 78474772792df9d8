"""Results are cached by what they depend on, and scripts write rows.

The smoke modes of all scripts are run by the test command itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recjax.types import PAD_ID

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
RESULTS = sorted((EXPERIMENTS / "results").rglob("*.json"))


@pytest.fixture
def module(monkeypatch):
    """``module(name)`` is one of the modules that scripts share."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


# What the code of a script is.

FILES = {
    "recjax/__init__.py": "",
    "recjax/used/__init__.py": "from recjax.used import deep",
    "recjax/used/deep.py": "VALUE = 1",
    "recjax/other.py": "VALUE = 2",
    "experiments/_shared.py": "import numpy\n\ndef late():\n    from recjax.used.deep import VALUE\n    return VALUE",
    "experiments/group/_near.py": "import _shared",
    "experiments/group/script.py": '"""Says."""\nimport _near\n\n\nclass Config:\n    size = 3\n    """Items."""\n',
}
SCRIPT = "experiments/group/script.py"


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        (SCRIPT, FILES[SCRIPT].replace("Says", "Tells").replace("Items", "Users"), False),
        (SCRIPT, FILES[SCRIPT].replace("\n\n\nclass", "\n# Why.\nclass").replace("= 3", "=   (3)"), False),
        (SCRIPT, FILES[SCRIPT].replace("3", "4"), True),
        ("experiments/_shared.py", FILES["experiments/_shared.py"].replace("VALUE\n", "VALUE as V\n"), True),
        ("recjax/used/deep.py", "VALUE = None", True),
        ("recjax/used/deep.py", "VALUE = '1'", True),
        ("recjax/used/__init__.py", "", True),
        ("recjax/other.py", "VALUE = 3", False),
    ],
)
def test_hash_of_code_is_that_of_what_is_run(module, tree, name, text, changes):
    code = module("_code")
    before = code.code_hash(tree / SCRIPT, tree)
    code._read.cache_clear()
    (tree / name).write_text(text)
    assert (code.code_hash(tree / SCRIPT, tree) != before) == changes
    code._read.cache_clear()


def test_hash_of_code_refuses_what_it_cannot_follow(module, tree):
    (tree / SCRIPT).write_text("from . import near")
    with pytest.raises(ValueError, match=r"script\.py has a relative import in line 1"):
        module("_code").code_hash(tree / SCRIPT, tree)


def test_hash_of_code_of_a_script_covers_the_rooms_that_it_uses(module):
    code = module("_code")
    before = code.code_hash(EXPERIMENTS / "sequence" / "few_labels.py")
    assert before == code.code_hash(EXPERIMENTS / "sequence" / "few_labels.py")
    assert before != code.code_hash(EXPERIMENTS / "sequence" / "sampled_losses.py")


# What is cached.


@pytest.fixture
def study(module, tree):
    """``study(**options)`` of the script above, with the folder of its results in the same tree."""
    runner = module("runner")

    @dataclasses.dataclass(frozen=True)
    class Config(runner.Options):
        data: str = "ring"
        rate: float = 0.1
        shape: tuple[int, ...] = (2, 3)

    def make(code: str = "today", **options):
        made = runner.Study(EXPERIMENTS / "runner.py", Config(out=tree / "results", **options))
        made.code = code
        return made

    return make


def compute(found=1.0):
    return {"ndcg@10": found, "seconds": {"learning": 2.0}, "protocol": "leave one out", "shares": [0.5]}


def never():
    pytest.fail("a cached result was computed again")


def test_result_is_computed_once_for_what_it_depends_on(study):
    first = study().result(compute, 0, {"way": "whole"})
    assert study(seeds=9, recompute=True).result(never, 0, {"way": "whole"}) == first
    assert first.config == {"data": "ring", "rate": 0.1, "shape": [2, 3]}
    other = study(rate=0.2).result(lambda: compute(2.0), 0, {"way": "whole"})
    assert other.found["ndcg@10"] == 2.0
    assert study(rate=0.3).result(lambda: compute(3.0), 0, {"way": "whole"}, ["rate"]).config.keys() == {
        "data",
        "shape",
    }
    assert study(rate=0.4).result(never, 0, {"way": "whole"}, ["rate"]).found["ndcg@10"] == 3.0
    assert study().result(lambda: compute(4.0), 1, {"way": "whole"}).found["ndcg@10"] == 4.0
    assert len(study().cached()) == 4


def test_grid_has_every_condition_and_seed(study):
    asked = study(seeds=2)
    found = asked.grid(
        [{"way": "a"}, {"way": "b"}], lambda condition, seed: compute(10.0 * (condition["way"] == "b") + seed)
    )
    assert [result.found["ndcg@10"] for result in found] == [0.0, 1.0, 10.0, 11.0]
    assert [result.seed for result in found] == [0, 1, 0, 1]


def test_interrupted_result_is_not_read(study):
    def interrupted():
        raise KeyboardInterrupt

    asked = study()
    with pytest.raises(KeyboardInterrupt):
        asked.result(interrupted, 0)
    assert asked.cached() == []


def test_result_of_other_code_is_marked_or_computed_again(study, capsys):
    study(code="yesterday").result(compute, 0, {"way": "old"})
    asked = study()
    old, new = asked.result(never, 0, {"way": "old"}), asked.result(compute, 0, {"way": "new"})
    asked.show("Title", ["way", "NDCG@10"], [(["old", "1.0"], [old]), None, (["new", "1.0"], [new])])
    printed = " ".join(capsys.readouterr().out.split())
    assert "old †" in printed
    assert "new †" not in printed
    assert f"† computed with other code than today's (yesterday; {old.code['date']})" in printed
    again = study(recompute=True).result(lambda: compute(5.0), 0, {"way": "old"})
    assert (again.found["ndcg@10"], again.code["hash"]) == (5.0, "today")
    asked.show("Title", ["way", "NDCG@10"], [(["old", "5.0"], [again])])
    assert "†" not in capsys.readouterr().out


def test_rows_are_means_over_seeds(module, study):
    asked = study(seeds=2)
    asked.grid([{"way": "whole", "options": {"a": 1}}], lambda condition, seed: compute(float(seed)))
    rows = module("_results").rows("study", "today", asked.used)
    hardware = asked.used[0].machine["hardware"]
    older = module("_results").rows("study", "tomorrow", asked.used[:1])
    assert older[0].hardware == f"{hardware}, with code today of {asked.used[0].code['date']}"
    assert rows == [("study/whole/ndcg@10", 0.5, "", hardware), ("study/whole/seconds/learning", 2.0, "s", hardware)]


def test_rows_have_no_nan(module, study, tmp_path):
    results, asked = module("_results"), study()
    asked.result(lambda: {"auc": float("nan")}, 0)
    results.write_rows(tmp_path / "rows.json", results.rows("study", "today", asked.used))
    assert json.loads((tmp_path / "rows.json").read_text())[0]["value"] is None


@pytest.mark.parametrize("folder", sorted({path.parent for path in RESULTS}), ids=lambda folder: folder.name)
def test_committed_results_are_readable_and_small(module, folder):
    result = module("_results").Result
    assert len(list(EXPERIMENTS.glob(f"[!_]*/{folder.name}.py"))) == 1
    for path in folder.glob("*.json"):
        found = result.read(path)
        assert found.name == path.stem
        assert found.code.keys() == {"hash", "date"}
        assert path.stat().st_size < 16_000


@pytest.mark.parametrize("script", ["experiments/language/new_users.py", "benchmarks/top_k.py"])
def test_numbers_are_written_as_rows(script, tmp_path):
    command = [sys.executable, str(ROOT / script), "--smoke", "--json", "rows.json"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows
    for row in rows:
        assert row.keys() == {"name", "value", "unit", "hardware"}
        assert row["name"].startswith(Path(script).stem)
        assert row["value"] is None or np.isfinite(row["value"])
        assert "core" in row["hardware"]


# What is new in a problem.


@pytest.fixture
def made(module):
    """``made(**options)``: a problem of the generated log."""
    new_items, ring = module("_new_items"), module("_generated").ring()
    return lambda **options: new_items.problem(ring, np.random.default_rng(0), new_items.New(**options), 8)


@pytest.mark.parametrize(("rounds", "per_round"), [(1, 20), (3, 6)])
def test_new_items_come_last_and_are_in_no_training(made, rounds, per_round):
    of = made(item_share=0.5, rounds=rounds)
    assert (of.per_round, of.num_known) == (per_round, 40 - rounds * per_round)
    assert of.train.item.max() < of.num_known
    assert np.asarray(of.test.targets).max() >= of.num_known
    assert sorted(of.order) == list(range(40))
    assert of.known(of.items).num_items == of.num_known


def test_new_users_are_in_no_training_and_their_first_events_are_known(made):
    of = made(user_share=0.25, first_events=4)
    log = of.dataset.interactions
    new = np.setdiff1d(log.user, of.train.user)
    assert len(new) == 16
    events = {tuple(log.item[log.user == user][:5]) for user in new}
    shown = np.asarray(of.test.observation.history)
    asked = np.concatenate([shown, np.asarray(of.test.targets)[:, None]], axis=1)
    assert {tuple(row) for row in asked} == events
    for user, history in enumerate(shown):
        assert set(of.test.seen.rows(np.array([user]))[0]) - {PAD_ID} == set(history)
    assert of.num_known == of.dataset.num_items


def test_problem_has_new_items_or_new_users(made):
    with pytest.raises(ValueError, match=r"item_share=0\.1.*set item_share or user_share to 0"):
        made(item_share=0.1, user_share=0.1)
