"""TensorBoard event files, one run a policy and seed, written while the loop runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter


class TensorBoard:
    """Writes every evaluation and every chunk of a policy as scalars.

    Events of an earlier attempt at the same policy are replaced, since a resumed run
    reports its past again.

    Args:
      directory: the policy's own folder.
      seeds: number of seeds.
    """

    def __init__(self, directory: Path, seeds: int) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self._writers = [SummaryWriter(str(directory / f"seed{seed}")) for seed in range(seeds)]

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Writes one row of a run's record; ``kind`` becomes the prefix of each tag."""
        for name, values in row.items():
            if name == "step":
                continue
            for writer, value in zip(self._writers, values, strict=True):
                if np.isfinite(value):  # What there was nothing to measure of has no point in the curve.
                    writer.add_scalar(f"{kind}/{name}", value, row["step"])

    def close(self) -> None:
        """Flushes and closes the files."""
        for writer in self._writers:
            writer.close()
