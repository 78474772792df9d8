"""What pip installs from this source tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = ("No matching distribution found", "Could not find a version", "ConnectionError", "Temporary failure")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-input", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and any(sign in done.stdout + done.stderr for sign in OFFLINE):
        pytest.skip("building a wheel fetches hatchling, and no package index answers")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("recjax-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_every_source_file_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("recjax/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    assert "recjax/py.typed" in names


def test_wheel_has_the_licence_and_the_command(wheel):
    names = wheel.namelist()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "recjax = recjax.cli:main" in wheel.read(entry_points).decode()
