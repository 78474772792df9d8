"""Runs a study: a grid of conditions and seeds, one cached result for each, a table, and rows for other programs.

A script names its options in a subclass of :class:`Options` and ends with ``run(__file__, __doc__, Config, main)``;
``main`` asks the :class:`Study` that it is given for results. A result is one JSON file named by the hash of its
condition and options. It also holds the hash of the code that computed it. A result of other code than today's
is marked wherever it is printed, with a footnote, and is computed again with ``--recompute``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from _code import code_hash
from _results import Result, machine, rows, write_rows
from rich.console import Console
from rich.table import Table

from recjax.eval import paired_difference

RESULTS = Path(__file__).resolve().parent / "results"
MARK = " †"
"""What follows the name of a line that other code than today's computed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that every study has; a result depends on none of them."""

    seeds: int = 3
    """Results of each condition, one for each seed."""
    out: Path = RESULTS
    """Where results are cached, in a folder of the script's name."""
    recompute: bool = False
    """Compute results of other code than today's again; otherwise they are printed with a footnote."""
    json: Path | None = None
    """File to which rows of name, value, unit and hardware are written."""
    smoke: bool = False
    """The same steps at the smallest size on generated data, cached nowhere: checks that the script runs."""


@dataclasses.dataclass(frozen=True)
class LongOptions(Options):
    """Options of studies whose trainings take long."""

    work: Path = Path("runs")
    """Where checkpoints and vectors of texts are written, in a folder of the script's name."""


NOT_OF_A_RESULT = tuple(field.name for field in dataclasses.fields(LongOptions))


def stated(config: Options, *without: str) -> dict[str, Any]:
    """The options that results depend on, as JSON has them: all but those of every study and those named."""
    left_out = {*NOT_OF_A_RESULT, *without}
    return _as_json({name: value for name, value in dataclasses.asdict(config).items() if name not in left_out})


def _as_json(value: Any) -> Any:
    """What a value is after it was written and read again."""
    return json.loads(json.dumps(value, default=str))


class Study:
    """The results of one script under its options.

    Attributes:
      config: the options.
      name: of the script.
      code: hash of the code that it runs.
      used: every result that was asked for.
    """

    def __init__(self, script: Path, config: Options) -> None:
        self.config = config
        self.name = script.stem
        self.code = code_hash(script)
        self.used: list[Result] = []

    @property
    def folder(self) -> Path:
        """Where its results are cached."""
        return self.config.out / self.name

    def result(
        self,
        compute: Callable[[], dict[str, Any]],
        seed: int,
        condition: dict[str, Any] | None = None,
        without: Iterable[str] = (),
    ) -> Result:
        """What ``compute`` finds, read from the cache where it lies there.

        Args:
          compute: the work; what it returns is written as JSON.
          seed: which one it is computed with.
          condition: the point of the grid, if there is more than one.
          without: options that it does not depend on.
        """
        today = {"hash": self.code, "date": datetime.date.today().isoformat()}
        result = Result(_as_json(condition or {}), stated(self.config, *without), seed, {}, today, machine())
        path = self.folder / f"{result.name}.json"
        cached = Result.read(path) if path.exists() else None
        if cached is None or (self.config.recompute and self.is_of_other_code(cached)):
            dataclasses.replace(result, found=compute()).write(path)
            if not self.config.smoke:
                # Programs of hundreds of trainings would use up the memory maps that one process may have.
                jax.clear_caches()
        self.used.append(Result.read(path))
        return self.used[-1]

    def grid(
        self,
        conditions: Iterable[dict[str, Any]],
        compute: Callable[[dict[str, Any], int], dict[str, Any]],
        without: Iterable[str] = (),
    ) -> list[Result]:
        """The results of all conditions and seeds, of ``compute(condition, seed)``."""
        return [
            self.result(lambda c=condition, s=seed: compute(c, s), seed, condition, without)
            for condition in conditions
            for seed in range(self.config.seeds)
        ]

    def cached(self) -> list[Result]:
        """All results that lie in the folder."""
        found = [Result.read(path) for path in sorted(self.folder.glob("*.json"))]
        self.used += found
        return found

    def is_of_other_code(self, result: Result) -> bool:
        """Whether the code has changed since, or may have."""
        return result.code["hash"] != self.code

    def show(
        self,
        title: str,
        headings: Sequence[str],
        lines: Iterable[tuple[Sequence[str], Sequence[Result]] | None],
        caption: str = "",
        left: int = 1,
    ) -> None:
        """Prints a table.

        Args:
          title: above the table.
          headings: of the columns.
          lines: the cells of a line and the results that they are of; None draws a line.
          caption: below the table; the footnote of results of other code comes after it.
          left: how many columns hold names, which are aligned to the left.
        """
        table = Table(title=title, title_justify="left", caption_justify="left")
        for i, heading in enumerate(headings):
            table.add_column(heading, justify="left" if i < left else "right")
        others: list[Result] = []
        for line in lines:
            if line is None:
                table.add_section()
                continue
            cells, results = line
            stale = [result for result in results if self.is_of_other_code(result)]
            others += stale
            table.add_row(cells[0] + MARK * bool(stale), *cells[1:])
        table.caption = "\n".join(filter(None, (caption, footnote(others))))
        Console(width=160).print(table)


def footnote(results: Sequence[Result]) -> str:
    """Which code computed results that are not of today's."""
    if not results:
        return ""
    codes = dict.fromkeys((result.code["hash"], result.code["date"]) for result in results)
    dates = sorted(date for _, date in codes)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    hashes = ", ".join(dict.fromkeys(code for code, _ in codes))
    return f"† computed with other code than today's ({hashes}; {when}); --recompute computes it again"


def run(script: str, help: str | None, config: type[Options], main: Callable[[Study], None], **smoke: Any) -> None:
    """Runs the study of a script as its command line says.

    Args:
      script: its file.
      help: what ``--help`` says of it.
      config: its options.
      main: asks for results and shows them.
      **smoke: options of a smoke run, whose results are thrown away.
    """
    chosen = tyro.cli(config, description=help)
    path = Path(script).resolve()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.smoke:
            places = {name: Path(folder, name) for name in ("out", "work") if hasattr(chosen, name)}
            chosen = dataclasses.replace(chosen, seeds=1, **places, **smoke)
        if isinstance(chosen, LongOptions):
            chosen = dataclasses.replace(chosen, work=chosen.work / path.stem)
        study = Study(path, chosen)
        main(study)
    write_rows(chosen.json, rows(study.name, study.code, study.used))


def mean_and_spread(values: Sequence[float]) -> str:
    """The mean and, of several, half the range."""
    return f"{np.mean(values):.4f}" + (f" ± {np.ptp(values) / 2:.4f}" if len(values) > 1 else "")


def paired_text(own: Sequence[float], other: Sequence[float]) -> str:
    """The mean difference and, of several seeds, its paired interval."""
    if len(own) == 1:
        return f"{own[0] - other[0]:+.4f}"
    interval = paired_difference(own, other)
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
