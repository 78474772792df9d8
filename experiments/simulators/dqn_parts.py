"""Whether DQN learns with each of its parts: double DQN on CartPole, and the same with one part more.

CartPole-v1 counts as solved at a mean return of 475 over 100 episodes; 500 is the most. All have n-step returns, the
same optimiser and the same steps; nothing was chosen for a single part but the range of atoms.

    python experiments/simulators/dqn_parts.py
    python experiments/simulators/dqn_parts.py --smoke          # small sizes, seconds
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cart_pole import POLES, compiled_returns
from _results import Row, machine, write_rows

from recjax.report import rich_table


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 5
    """Independent repetitions of each agent."""
    steps: int = 8_000
    """Steps of each of 16 CartPoles."""
    parts: tuple[str, ...] = ("double", "max", "prioritised", "Munchausen", "QR-DQN", "C51", "noisy", "all")
    """Which agents."""
    smoke: bool = False
    """Small sizes, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


def main(config: Config) -> None:
    """Learns and prints."""
    if config.smoke:
        config = dataclasses.replace(config, seeds=1, steps=80, parts=("all",))
    lines, rows = [], []
    for part in config.parts:
        start = time.monotonic()
        found = compiled_returns(part, config.steps, config.seeds)
        seconds = time.monotonic() - start
        lines.append([part, f"{found.mean():.1f}", f"{np.median(found):.1f}", f"{found.min():.1f}", f"{seconds:.0f}"])
        rows += [
            Row(f"dqn_parts/{part}/{name}", float(value), "", machine()["hardware"])
            for name, value in (("mean", found.mean()), ("median", np.median(found)), ("least", found.min()))
        ]
        print(f"{part}: {found.mean():.1f} after {seconds:.0f} s", flush=True)
    title = f"Returns on CartPole after {config.steps * POLES:,} steps, {config.seeds} seeds"
    Console(width=120).print(rich_table(title, ["agent", "mean", "median", "worst seed", "seconds"], lines))
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
