"""What was measured in the original of a simulator, and how ours is measured against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Anchor(NamedTuple):
    """A number of an original.

    Attributes:
      simulator: the registered name of ours.
      setting: of the simulator and of the policy, in words.
      quantity: what is measured, such as "reward of an episode".
      value: what the original gives.
      error: its standard error; 0 where it is exact.
      source: who measured it in which original.
      measure: ``(episodes, seed) -> f64[episodes]``, the quantity in as many episodes of our faithful setting.
      episodes: how many bring our standard error below that of the original.
    """

    simulator: str
    setting: str
    quantity: str
    value: float
    error: float
    source: str
    measure: Callable[[int, int], np.ndarray]
    episodes: int
