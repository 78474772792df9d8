"""RecoGym's own environment, one user at a time as it runs."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import _originals
import numpy as np


def recogym_steps(num_products: int) -> Callable[[Path, float], float]:
    """``(checkout, seconds) -> steps a second of a core`` of version 1 under random recommendations.

    A step is a recommendation and the views that follow it. Two empty modules stand for the package, which imports its
    agents and with them PyTorch and TensorFlow, and for these agents.

    Args:
      num_products: products.
    """

    def measure(checkout: Path, seconds: float) -> float:
        package, agents = types.ModuleType("recogym"), types.ModuleType("recogym.agents")
        package.__path__ = [str(checkout / "recogym")]
        agents.Agent = object  # type: ignore[attr-defined]
        stand_ins = {"recogym": package, "recogym.agents": agents}
        with _originals.imported(checkout, "recogym.envs.reco_env_v1", stand_ins) as module:
            env, rng = module.RecoEnv1(), np.random.default_rng(0)
            env.init_gym({**module.env_1_args, "random_seed": 0, "num_products": num_products})

            def arrive() -> None:
                done = True
                while done:  # Who leaves in the first organic phase is recommended nothing.
                    env.reset()
                    done = env.step(None)[2]

            def step() -> None:
                if env.step(rng.integers(num_products))[2]:
                    arrive()

            arrive()
            return _originals.rate(step, seconds)

    return measure
