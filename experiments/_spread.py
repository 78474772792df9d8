"""How the experiments print several seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_and_spread(values: Sequence[float]) -> str:
    """The mean and, of several, half the range."""
    return f"{np.mean(values):.4f}" + (f" ± {np.ptp(values) / 2:.4f}" if len(values) > 1 else "")
