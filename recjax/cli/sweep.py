"""``recjax sweep``: one policy under many values of options, and one table of what came of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from recjax._files import write_text
from recjax.cli.options import CONFIG, Study
from recjax.study.config import StudyConfig

SWEEP, TRIALS, TABLE, BEST = "sweep.json", "trials", "trials.csv", "best.json"


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """What is varied, and how."""

    vary: tuple[str, ...] = ()
    """Options and their values: learn.discount=0,0.5,0.9 or network.dim=16..64 or learn.learning-rate=log:1e-4..1e-2"""
    search: Literal["grid", "random", "optuna"] = "grid"
    """Every combination; so many at random; or what Optuna proposes (an extra), which learns from finished trials."""
    trials: int = 20
    """How many trials, for random and optuna."""
    metric: str = "session_reward"
    """What trials are ranked by, at the end of the loop."""
    parallel: int = 4
    """Trials that run side by side where they differ in hyper-parameters of the agent alone."""
    out: Path = Path("runs/sweep")
    """Where everything is written. The same command goes on with a sweep that was stopped; finished trials stay."""
    overwrite: bool = False
    """Replace the sweep in --out."""
    config: Path | None = None
    """Read options of the study from this file, JSON or TOML."""
    preset: str | None = None
    """Start from a named study: long-term."""
    compilation_cache: bool = True
    """Keep compiled programs for the next run, in the user's cache directory."""
    quiet: bool = False
    """Show no progress, only the table."""


Sweep = Annotated[SweepOptions, tyro.conf.arg(name="")]


def sweep(study: Study, sweep: Sweep) -> None:
    """Run one policy under many values of options, and rank them: a grid, at random, or with Optuna."""
    from recjax import report
    from recjax.cache import enable_compilation_cache
    from recjax.cli.terminal import Terminal
    from recjax.fit import Progress
    from recjax.loop import Interrupted
    from recjax.study.sweep import ranked, run_sweep

    if sweep.compilation_cache:
        enable_compilation_cache()
    propose = _search(study, sweep)
    given = {name: getattr(sweep, name) for name in ("vary", "search", "metric")}
    asked = json.dumps({"study": json.loads(study.to_json()), **given}, indent=2) + "\n"
    _check_place(sweep, asked)
    console = Terminal()
    with Progress(enabled=not sweep.quiet, console=console if console.is_terminal else None) as progress:
        try:
            done = run_sweep(
                study,
                propose,
                directory=sweep.out / TRIALS,
                parallel=sweep.parallel,
                resume=not sweep.overwrite,
                on_checked=lambda: _claim(sweep, asked),
                progress=progress,
            )
        except Interrupted as stopped:
            raise Interrupted(f"{stopped} Finished trials are kept; the same command goes on.") from None
    best = ranked(done, sweep.metric)
    write_text(sweep.out / TABLE, _csv(best))
    write_text(sweep.out / BEST, study.with_options(best[0].options).to_json())
    headings, rows = _rows(best, sweep.metric)
    caption = f"By {sweep.metric}, best first; mean ± 95 % interval over {study.seeds} seeds, which all trials share."
    console.print(report.rich_table(f"{study.agent[0]}, {len(best)} trials", headings, rows, caption=caption))
    console.print(f"\nThe best options: recjax loop --config {sweep.out / BEST}", soft_wrap=True)


def _search(study: StudyConfig, sweep: SweepOptions) -> Any:
    """What proposes the trials.

    Raises:
      ValueError: an option, its values, the metric or a number makes no sweep.
    """
    from recjax.eval import describe
    from recjax.study.sweep import Choice, grid, optuna_search, random_search

    choices = [Choice.parse(text) for text in sweep.vary]
    if not choices:
        raise ValueError("A sweep needs what to vary, such as --vary learn.discount=0,0.5,0.9.")
    for name in ("trials", "parallel"):
        if getattr(sweep, name) < 1:
            raise ValueError(f"{name} is {getattr(sweep, name)}; it must be at least 1.")
    describe(sweep.metric)
    for choice in choices:
        for value in choice.values or (choice.low, choice.high):
            study.with_options({choice.option: value})
    if sweep.search == "grid":
        return grid(choices)
    if sweep.search == "random":
        return random_search(choices, sweep.trials, study.seed)
    return optuna_search(choices, sweep.trials, study.seed, sweep.parallel, sweep.metric)


def _check_place(sweep: SweepOptions, asked: str) -> None:
    """Raises ValueError where --out holds a run, or another sweep that is not to be replaced."""
    if (sweep.out / CONFIG).exists():
        raise ValueError(f"{sweep.out} holds a run of `recjax loop`. Give another --out.")
    path = sweep.out / SWEEP
    if path.exists() and not sweep.overwrite and path.read_text(encoding="utf-8") != asked:
        raise ValueError(f"{sweep.out} holds another sweep. Give another --out, or replace it with --overwrite.")


def _claim(sweep: SweepOptions, asked: str) -> None:
    """Writes what the sweep is.

    Raises:
      ValueError: the folder cannot be written.
    """
    try:
        sweep.out.mkdir(parents=True, exist_ok=True)
        write_text(sweep.out / SWEEP, asked)
    except OSError as error:
        raise ValueError(f"--out {sweep.out} cannot be written: {error.strerror}. Give another --out.") from None


def _rows(trials: list[Any], metric: str) -> tuple[list[str], list[list[str]]]:
    """The table: the metric that ranks, then those of how users responded."""
    from recjax import report

    short = {name: name.rpartition(".")[2] for name in trials[0].options}
    if len(set(short.values())) < len(short):
        short = {name: name for name in short}
    named = {", ".join(f"{short[name]} {value}" for name, value in trial.options.items()): trial for trial in trials}
    policies = {
        name: {"evaluations": {metric: [values] for metric, values in trial.metrics.items()}}
        for name, trial in named.items()
    }
    metrics = [name for name in (metric, *report.RESPONSE_METRICS) if name in trials[0].metrics]
    headings, rows = report.policy_rows({"policies": policies}, tuple(dict.fromkeys(metrics)))
    return ["options", *headings[1:]], rows


def _csv(trials: list[Any]) -> str:
    """A row a trial and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    options, metrics = list(trials[0].options), list(trials[0].metrics)
    writer.writerow([*options, "seed", *metrics])
    for trial in trials:
        for seed, values in enumerate(zip(*(trial.metrics[name] for name in metrics), strict=True)):
            writer.writerow([*(trial.options[name] for name in options), seed, *values])
    return text.getvalue()
