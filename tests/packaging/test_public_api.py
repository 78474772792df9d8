"""What every room owes its reader: public names that exist and say what they are, in short files."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import recjax

ROOT = Path(__file__).parents[2]
ROOMS = [f"recjax.{module.name}" for module in pkgutil.iter_modules(recjax.__path__) if module.ispkg]
LIMIT = 400
WITHOUT_PAGE = {"recjax.cli", "recjax.data.sets"}
"""The command line has a guide; data sets are found by name."""


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist_and_are_documented(room):
    module = importlib.import_module(room)
    assert inspect.getdoc(module), f"{room} does not say what it is for"
    assert len(set(module.__all__)) == len(module.__all__)
    undocumented = []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            # A dataclass without a docstring gets its signature as one.
            generated = (value.__doc__ or "").startswith(f"{value.__name__}(")
            undocumented += [name] if not value.__doc__ or generated else []
        elif inspect.isroutine(value) and not inspect.getdoc(value):
            undocumented.append(name)
    assert not undocumented, f"{room}: no docstring for {undocumented}"


def test_every_public_module_has_an_api_page():
    """Modules beside packages, and packages at any depth that export more than the package above them does."""
    listed = set((ROOT / "docs" / "api.md").read_text().split())
    public = {f"recjax.{module.name}" for module in pkgutil.iter_modules(recjax.__path__) if module.name[0] != "_"}
    for package in pkgutil.walk_packages(recjax.__path__, "recjax."):
        above = package.name.rpartition(".")[0]
        if package.ispkg and above != "recjax":
            names, known = (set(importlib.import_module(name).__all__) for name in (package.name, above))
            public |= {package.name} if names - known else set()
    assert {"recjax.models.sequence", "recjax.models.collaborative"} <= public
    assert public - WITHOUT_PAGE <= listed


def test_files_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.glob("recjax/**/*.py")}
    assert lengths
    long = {name: length for name, length in lengths.items() if length > LIMIT}
    assert not long, f"longer than {LIMIT} lines: {long}"
