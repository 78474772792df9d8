"""RecSim's own environments, one user at a time as they run."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import _originals
import numpy as np


def recsim_steps(name: str, slate_size: int, num_candidates: int) -> Callable[[Path, float], float]:
    """``(checkout, seconds) -> steps a second of a core`` under random slates, with new candidates at every step.

    Args:
      name: of the module in ``recsim.environments``.
      slate_size: slots of a slate.
      num_candidates: documents of a step.
    """

    def measure(checkout: Path, seconds: float) -> float:
        options = {
            "slate_size": slate_size, "num_candidates": num_candidates, "seed": 0, "resample_documents": True,
        }  # fmt: skip
        with imported(checkout, name) as module:
            env, rng = module.create_environment(options), np.random.default_rng(0)
            env.reset()

            def step() -> None:
                *_, done, _ = env.step(rng.permutation(num_candidates)[:slate_size])
                if done:
                    env.reset()

            return _originals.rate(step, seconds)

    return measure


@contextlib.contextmanager
def imported(checkout: Path, name: str) -> Iterator[types.ModuleType]:
    """A module of RecSim's environments.

    They configure themselves by gin, with their defaults as they are written unless told otherwise, and their
    package imports the trainer of its agents. Both need TensorFlow, which no step does; empty modules stand for them.

    Raises:
      ImportError: the checkout holds no RecSim, or what that needs is not installed.
    """
    gin, trainer = types.ModuleType("gin"), types.ModuleType("recsim.simulator.runner_lib")
    gin.tf = types.ModuleType("gin.tf")  # type: ignore[attr-defined]
    gin.configurable = gin.tf.configurable = lambda thing: thing  # type: ignore[attr-defined]
    stand_ins = {"gin": gin, "gin.tf": gin.tf, trainer.__name__: trainer}  # type: ignore[attr-defined]
    with _originals.imported(checkout, f"recsim.environments.{name}", stand_ins) as module:
        yield module
