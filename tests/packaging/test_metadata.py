"""Facts that are stated in more than one file agree."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import recjax

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_version():
    assert recjax.__version__ == metadata.version("recjax") == PROJECT["version"]


def test_floor_constraints_are_the_lower_bounds_of_the_project():
    lines = (ROOT / "constraints" / "floor.txt").read_text().splitlines()
    floors = [Requirement(line) for line in lines if line and not line.startswith("#")]
    exact = {floor.name.lower(): str(floor.specifier).removeprefix("==") for floor in floors}
    bounds = {}
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", f"{text} has no plain lower bound"
        bounds[requirement.name.lower()] = specifier.version
    pad = {
        name: ".".join([*version.split("."), "0", "0"][: max(3, version.count(".") + 1)])
        for name, version in bounds.items()
    }
    assert exact == pad


def test_no_other_deep_learning_framework_at_run_time():
    names = {Requirement(text).name.lower() for text in PROJECT["dependencies"]}
    assert not names & {"torch", "tensorflow", "tensorflow-cpu", "keras", "jax-cuda12-plugin"}


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors", "type"} <= set(citation)
    released = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] in released


def test_licence_is_the_whole_text():
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
