"""Are our simulators those that they are named after? Their faithful settings against numbers of the originals.

An anchor is a mean that was measured in the original code, with its standard error. Ours is measured in the setting
that repeats the original's quirks, in as many episodes as bring its standard error below that of the anchor. The
last column is the difference in units of the combined standard error; within 3 counts as the same.

    python experiments/simulators/fidelity.py
    python experiments/simulators/fidelity.py --only interest_evolution
    python experiments/simulators/fidelity.py --smoke          # few episodes, seconds
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _coat
import _recogym
import _recsim
import _sardine
import _virtual_taobao
from _anchors import Anchor
from _results import Row, machine, write_rows

from recjax.data import UnavailableError

PARTS = (_coat, _recogym, _recsim, _sardine, _virtual_taobao)

ANCHORS: tuple[Anchor, ...] = tuple(anchor for part in PARTS for anchor in part.ANCHORS)

SMOKE_EPISODES = 16


@dataclasses.dataclass(frozen=True)
class Config:
    only: str = ""
    """Simulators whose names begin with this; all by default."""
    seed: int = 0
    """Of users and chance."""
    smoke: bool = False
    """Few episodes, to check that the script runs."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""


def main(config: Config) -> None:
    """Measures and prints."""
    table = Table(title="Simulators against their originals", title_justify="left")
    for heading in ("simulator", "setting", "quantity", "original", "ours", "z", "source"):
        table.add_column(heading, justify="right" if heading in ("original", "ours", "z") else "left")
    rows = []
    for anchor in ANCHORS:
        if not anchor.simulator.startswith(config.only):
            continue
        episodes = min(anchor.episodes, SMOKE_EPISODES) if config.smoke else anchor.episodes
        try:
            found = anchor.measure(episodes, config.seed)
        except UnavailableError as error:
            print(f"{anchor.simulator} is left out: {str(error).splitlines()[0]}")
            continue
        mean, error = float(np.mean(found)), float(np.std(found, ddof=1)) / math.sqrt(len(found))
        z = (mean - anchor.value) / math.hypot(error, anchor.error)
        original, ours = (
            f"{value:.4g}±{spread:.2g}" for value, spread in ((anchor.value, anchor.error), (mean, error))
        )
        table.add_row(anchor.simulator, anchor.setting, anchor.quantity, original, ours, f"{z:+.1f}", anchor.source)
        name = f"fidelity/{anchor.simulator}/{anchor.setting}/{anchor.quantity}"
        rows += [
            Row(f"{name}/{part}", value, "", machine()["hardware"])
            for part, value in (("mean", mean), ("standard error", error), ("z", z))
        ]
    Console(width=160).print(table)
    write_rows(config.json, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
