"""Simulators of others, run from a checkout of their code, one user at a time as they run."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def imported(checkout: Path, name: str, stand_ins: Mapping[str, types.ModuleType]) -> Iterator[types.ModuleType]:
    """A module of a checkout.

    Args:
      checkout: where the code is.
      name: of the module.
      stand_ins: modules by name that take the place of those which the module imports and no step needs.

    Raises:
      ImportError: the checkout holds no such module, or what it needs is not installed.
    """
    before = set(sys.modules)
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(checkout))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield importlib.import_module(name)
    finally:
        sys.path.remove(str(checkout))
        own = {name.split(".")[0], *stand_ins}
        for added in set(sys.modules) - before:
            if added.split(".")[0] in own or added in own:
                del sys.modules[added]


def rate(step: Callable[[], object], seconds: float) -> float:
    """Calls a second of a core's time, after one that does not count."""
    step()
    steps, begun = 0, time.process_time()
    while time.process_time() - begun < seconds or steps == 0:
        step()
        steps += 1
    return steps / (time.process_time() - begun)
