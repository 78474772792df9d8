"""TensorBoard event files, one run a policy and seed, written while the loop runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar


class TensorBoard:
    """Writes every evaluation and every chunk of a policy as scalars.

    Events of an earlier attempt at the same policy are replaced, since a resumed run
    reports its past again. Rows are written by the thread that reports them, so that a full disk is told; the
    package's own writer would wait for a thread of its own that died of it.

    Args:
      directory: the policy's own folder.
      seeds: number of seeds.
    """

    def __init__(self, directory: Path, seeds: int) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        folders = [directory / f"seed{seed}" for seed in range(seeds)]
        for folder in folders:
            folder.mkdir(parents=True)
        self._writers = [EventsWriter(str(folder / "events")) for folder in folders]

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Writes one row of a run's record; ``kind`` becomes the prefix of each tag.

        Raises:
          OSError: the files cannot be written.
        """
        for name, values in row.items():
            if name == "step":
                continue
            for writer, value in zip(self._writers, values, strict=True):
                if np.isfinite(value):  # What there was nothing to measure of has no point in the curve.
                    summary = scalar(f"{kind}/{name}", value)
                    writer.write_event(Event(step=row["step"], wall_time=time.time(), summary=summary))
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers:
            writer.close()
