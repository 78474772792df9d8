from __future__ import annotations

import doctest
from pathlib import Path


def test_the_example_of_the_guide_runs():
    guide = Path(__file__).parents[2] / "docs" / "sequence_models.md"
    result = doctest.testfile(str(guide), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0
