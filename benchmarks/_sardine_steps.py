"""SARDINE's own environments, one user at a time as they run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import _originals
import numpy as np


def sardine_steps(setting: str) -> Callable[[Path, float], float]:
    """``(checkout, seconds) -> steps a second of a core`` under random slates of distinct items.

    Args:
      setting: a name that the original registers, without its namespace.
    """

    def measure(checkout: Path, seconds: float) -> float:
        with _originals.imported(checkout, "sardine", {}) as sardine:
            # As it is, without Gymnasium's checks of every step around it.
            options = importlib.import_module("gymnasium").spec(f"{sardine.__name__}/{setting}").kwargs
            env = importlib.import_module("sardine.simulator").Sardine(**options)
            rng, count = np.random.default_rng(0), options["num_items"]
            env.reset(seed=0)

            def step() -> None:
                *_, terminated, _, _ = env.step(rng.choice(count, options["slate_size"], replace=False, shuffle=False))
                if terminated:
                    env.reset()

            return _originals.rate(step, seconds)

    return measure
