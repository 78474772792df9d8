"""Importing recjax touches nothing: no device, no global configuration, no other framework."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import pytest

import recjax

ROOMS = [f"recjax.{module.name}" for module in pkgutil.iter_modules(recjax.__path__)]
WHOLE = "for name in getattr(room, '__all__', ()): getattr(room, name)"
"""Packages import their contents when a name is used."""


def run(code: str, **variables: str) -> subprocess.CompletedProcess:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env={**environ, **variables}, capture_output=True, text=True)


def test_package_alone_imports_no_jax():
    done = run("import sys, recjax; assert 'jax' not in sys.modules; assert 'numpy' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_no_such_platform_fails_when_a_device_starts():
    """The probe of the next test works: with this setting, starting any device raises."""
    done = run("import jax; jax.numpy.zeros(3)", JAX_PLATFORMS="no_such_platform")
    assert done.returncode == 1
    assert "no_such_platform" in done.stderr


def test_rooms_start_no_device_and_change_no_configuration():
    rooms = "\n".join(f"import {name}\nroom = {name}\n{WHOLE}" for name in ROOMS)
    code = f"""
import logging, random, sys, warnings
import numpy as np
import jax, flax.linen, optax, chex, orbax.checkpoint, matplotlib.pyplot, polars, tensorboardX
def state():
    rng = np.random.get_state()
    return (dict(jax.config.values), warnings.filters[:], random.getstate(), rng[1].tolist(), rng[2],
            np.geterr(), logging.root.level, logging.root.handlers[:], dict(matplotlib.rcParams), sys.excepthook)
heavy = {{"torch", "tensorflow", "keras", "IPython"}}
present = heavy & set(sys.modules)  # tensorboardX imports torch where it is installed.
before = state()
{rooms}
after = state()
for old, new in zip(before, after):
    assert old == new, (old, new)
loaded = heavy & set(sys.modules) - present
assert not loaded, loaded
"""
    done = run(code, JAX_PLATFORMS="no_such_platform", MPLBACKEND="Agg")
    assert done.returncode == 0, done.stderr


def test_every_room_can_be_the_first_to_be_imported():
    code = f"""
import importlib, sys
for room in {ROOMS}:
    for name in [name for name in sys.modules if name.split(".")[0] == "recjax"]:
        del sys.modules[name]
    room = importlib.import_module(room)
    {WHOLE}
"""
    done = run(code, JAX_PLATFORMS="no_such_platform")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["loop", "--help"], ["recommend", "--help"], ["evaluate", "--help"], ["data", "list"]]
)
def test_a_command_line_speaks_before_jax_is_imported(arguments):
    code = f"""
import sys
from recjax.cli import main
try:
    main({arguments})
except SystemExit as stopped:
    assert not stopped.code
slow = {{"jax", "numpy", "polars", "matplotlib", "orbax", "pooch"}} & set(sys.modules)
assert not slow, slow
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "recjax" in done.stdout
