"""What objects look like: a few lines in a session, an escaped table in a notebook."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recjax import agents, envs, loop, serve
from recjax.data import Dataset, IdMap, Interactions
from recjax.display import printable, words

NAME = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def dataset():
    log = Interactions(np.arange(6) % 2, np.arange(6) % 3, time=np.arange(6))
    return Dataset(NAME, log, IdMap(("a", "b")), IdMap((NAME, "y", "z")), titles=(NAME, "Y", "Z"))


@pytest.fixture(scope="module")
def objects(dataset):
    env = envs.synthetic(num_items=20, slate_size=2, history_length=3)
    config = loop.LoopConfig(steps=2, chunk=2, eval_every=2, users=4, eval_users=4, eval_steps=2, seeds=2)
    result = loop.run(env, agents.random(), config, key=jax.random.key(0))
    found = serve.Recommendations(
        (NAME,), np.array([[0, 2]]), np.array([[1.0, 0.5]]), dataset.items.names, dataset.titles, (np.array([1]),)
    )
    return {"environment": env, "result": result, "dataset": dataset, "log": dataset.interactions, "found": found}


def test_sessions_show_a_few_lines(objects):
    for name, value in objects.items():
        lines = repr(value).splitlines()
        assert len(lines) <= (8 if name == "result" else 1)
        assert max(map(len, lines)) <= 200
    assert "2 steps, 2 seeds" in repr(objects["result"])
    assert f"ctr {np.mean(objects['result'].final()['ctr']):.2f}"[:7] in repr(objects["result"])
    assert "2 users, 3 items, 6 events" in repr(objects["dataset"])
    assert "slates of 2" in repr(objects["environment"])


def test_notebooks_show_escaped_tables(objects):
    for name in ("environment", "result", "dataset", "found"):
        shown = objects[name]._repr_html_()
        assert shown.count("<table>") == shown.count("</table>") == 1
        assert "<script" not in shown
    assert "&lt;script&gt;" in objects["dataset"]._repr_html_()
    assert objects["found"]._repr_html_().count("<tr>") == 3


def test_control_characters_are_shown():
    assert printable("a\x00\x1b\x7f\x9b\u202e\n") == "a\\x00\\x1b\\x7f\\x9b\\u202e\n"
    assert printable("Amélie 東京 – ½") == "Amélie 東京 – ½"


def test_words():
    assert words({"a": 1234, "b": [True, 0.5, "x"]}) == "a: 1,234, b: yes, 0.5, x"
