"""Published weights against what PyTorch made of them, where their packages can be fetched."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from recjax import language

SCRIPT = Path(__file__).parents[2] / "experiments" / "language" / "language_models.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("language_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(("name", "checks"), [("minilm", "minilm"), ("smollm2-135m", "smollm")])
def test_tokens_vectors_logits_and_continuations(name, checks, script):
    try:
        with language.pretrained.make(name):
            pass
    except ValueError as error:
        pytest.skip(str(error))
    found = list(getattr(script, checks)(script.Config()))
    assert len(found) == 3
    assert all(check.holds for check in found), found


def test_a_difference_beyond_its_bound_breaks_it(script):
    assert not script.Check("anything", found=2e-5, bound=1e-5).holds
