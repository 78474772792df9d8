"""The log of a study: files and names, what is refused before anything is trained, and samples of big logs."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console

from recjax import study
from recjax.data import BadRowsError, Interactions, LogSchema, without_impressions
from recjax.envs import PreferenceConfig
from recjax.fit import Progress
from recjax.study import StudyConfig, open_source, ranking
from recjax.testing import walking_log


@pytest.fixture
def clicks(tmp_path):
    path = tmp_path / "clicks.csv"
    rows = [f"u{user},i{(user + step) % 9},{1_700_000_000 + step}" for user in range(12) for step in range(4)]
    path.write_text("\n".join(["visitorid,sku,ts", *rows]) + "\n")
    return path


def test_a_file_is_read_again_as_it_was_guessed(clicks):
    source = open_source(StudyConfig(data=str(clicks)))
    assert source.config.schema == LogSchema(user="visitorid", item="sku", time="ts")
    assert (source.dataset.num_users, source.dataset.num_items, len(source.dataset.interactions)) == (12, 9, 48)
    again = open_source(source.config)
    assert again.config == source.config
    assert again.file.guessed == {}


def test_the_configuration_with_a_schema_survives_its_file(clicks, tmp_path):
    config = StudyConfig(
        data=str(clicks), items="items.csv", schema=LogSchema(behaviours=("a=cart",), header=False),
        preference=PreferenceConfig(threshold=3.0),
    )  # fmt: skip
    (tmp_path / "config.json").write_text(config.to_json())
    assert StudyConfig.read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "ml-100kk"}, "no data set named 'ml-100kk'.*Did you mean 'ml-100k'"),
        ({"data": "none.csv"}, "There is no file 'none.csv'"),
        ({"data": "ml-100k", "schema": LogSchema(user="u")}, r"'ml-100k' is no file.*columns \(user\)"),
        ({"data": "ml-100k", "items": "items.csv"}, r"columns \(items\)"),
        ({"env": "synthetic", "items": "items.csv"}, r"env='synthetic' reads no file.*\(items\)"),
        ({"schema": LogSchema(user="visitor")}, "no column 'visitor'.*Did you mean 'visitorid'"),
        ({"slate_size": 10}, "clicks has 9 items, fewer than a slate of slate_size=10"),
        ({"max_events": 0}, "max_events is 0"),
        ({"preference": PreferenceConfig(feedback="ratings")}, "no ratings to fit"),
        ({"preference": PreferenceConfig(threshold=3.0)}, "no ratings to fit"),
        ({"preference": PreferenceConfig(feedback="impressions")}, "nothing was shown and not taken"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(clicks, changes, message):
    config = dataclasses.replace(StudyConfig(data=str(clicks)), **changes)
    with pytest.raises(ValueError, match=message):
        open_source(config)


def test_users_without_histories_are_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\n" + "".join(f"{row},{row % 7}\n" for row in range(20)))
    with pytest.raises(ValueError, match=r"No user of pairs has 3 events \(the most is 1\)"):
        open_source(StudyConfig(data=str(path)))


def test_rows_that_cannot_be_used_are_told(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,event\na,1,view\na,2,add_to_cart\n")
    with pytest.raises(BadRowsError, match=r"(?s)'add_to_cart' 1.*behaviours="):
        open_source(StudyConfig(data=str(path)))


def test_a_log_of_impressions_is_prepared(tmp_path, monkeypatch):
    """Items that were only shown are no history; models learn from some users, and some are ranked."""
    path = tmp_path / "shown.csv"
    rows = [f"u{u},i{i},{'click' if (u + i) % 3 else 'impression'},{i / 10 + 0.1}" for u in range(9) for i in range(6)]
    path.write_text("\n".join(["user,item,event,propensity", *rows]) + "\n")
    source = open_source(StudyConfig(data=str(path), slate_size=2))
    assert len(source.dataset.interactions) == 54
    left = without_impressions(source.dataset)
    assert len(left.interactions) == len(left.extras["propensity"]) == 36
    monkeypatch.setattr(ranking, "RANKED_USERS", 7)
    one = dataclasses.replace(StudyConfig().training, epochs=1)
    shown = io.StringIO()
    prepared = study.prepare(
        StudyConfig(data=str(path), slate_size=2, max_events=8, training=one),
        progress=Progress(console=Console(file=shown)),
    )
    assert re.findall(r"(.*\w) +0%: (\w+) …", shown.getvalue()) == [
        ("simulator", "fitting"),
        ("held-out items", "ranking"),
    ]
    protocol = prepared.ranking["protocol"]
    assert re.search(r"users: 7 of 9, drawn at random \| models learn from: 8 events of 4 of 9 users", protocol)
    assert prepared.simulator["fit"]["feedback"] == "impressions"
    assert prepared.simulator["text"].startswith("shown says what was shown and taken")
    assert len(prepared.dataset.interactions) == 36
    # Odds of taking one item that is shown, beside no click at the odds of the default.
    level = np.asarray(prepared.env.params.factors.bias).mean() - 3.0
    assert level == pytest.approx(np.log(2.0), abs=0.3)


def test_models_learn_from_whole_users_of_a_big_log():
    log = walking_log(users=30, events=5).interactions
    assert ranking.known_users(log, 30, 150, seed=0) == (log, 30, "")
    known = ranking.known_users(log, 30, 52, seed=0)
    assert (known.num_users, len(known.log)) == (10, 50)
    assert np.bincount(known.log.user).tolist() == [5] * 10
    assert known.text == " | models learn from: 50 events of 10 of 30 users, drawn at random"
    rows = {tuple(items) for items in log.item.reshape(30, 5).tolist()}
    assert {tuple(known.log.item[known.log.user == user].tolist()) for user in range(10)} <= rows
    other = ranking.known_users(log, 30, 52, seed=1)
    assert other.log.item.tolist() != known.log.item.tolist()
    assert isinstance(known.log, Interactions)
