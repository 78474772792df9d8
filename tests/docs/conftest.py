"""What the pages hold that can be run: blocks of code, by language."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def blocks():
    """``blocks(page, language)``: the text of each block, in order."""

    def find(page: str, language: str) -> list[str]:
        text = (DOCS / page).read_text(encoding="utf-8")
        return [code for found, code in FENCE.findall(text) if found == language]

    return find


@pytest.fixture(scope="session")
def run_small():
    """``run_small(code, changes)``: runs a block with smaller numbers in the place of its own; returns its names."""

    def run(code: str, changes: dict[str, str]) -> dict[str, object]:
        for shown, small in changes.items():
            assert shown in code
            code = code.replace(shown, small)
        names: dict[str, object] = {}
        exec(compile(code, "page", "exec"), names)
        return names

    return run


@pytest.fixture
def write_files(tmp_path, monkeypatch):
    """Writes the blocks that begin with ``# NAME.py`` to files of that name, and makes it the current folder.

    Returns the other blocks.
    """

    def write(found: list[str]) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        others = []
        for code in found:
            name = re.match(r"# (\w+\.py)\n", code)
            if name:
                (tmp_path / name[1]).write_text(code, encoding="utf-8")
            else:
                others.append(code)
        return others

    # Readers run the pages as JAX comes.
    with jax.numpy_rank_promotion("allow"):
        yield write
