"""How the pages of the API are made; needs Sphinx, which is no part of the test environment."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
CONF = Path(__file__).parents[2] / "docs" / "conf.py"


class App:
    """Takes what an extension connects."""

    def connect(self, event, function):
        pass


def test_texts_of_attributes_keep_what_stands_before_a_colon(monkeypatch):
    from sphinx.ext.napoleon import GoogleDocstring

    monkeypatch.setattr(GoogleDocstring, "_consume_inline_attribute", GoogleDocstring._consume_inline_attribute)
    runpy.run_path(str(CONF))["setup"](App())
    text = "Q-network: dot_product or mlp."
    assert GoogleDocstring([text], what="attribute").lines() == [text]


def test_an_object_is_described_once():
    from recjax import models

    is_described_below = runpy.run_path(str(CONF))["is_described_below"]
    assert is_described_below("api/recjax.models", models.ALS)
    assert not is_described_below("api/recjax.models.collaborative", models.ALS)
    assert not is_described_below("api/recjax.models", models.recommend)
