"""``recjax loop``: the study, its progress and its report."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from recjax import agents, report
from recjax.cli import own_data
from recjax.cli.recommend import ARTIFACT
from recjax.data import write_schema
from recjax.fit import Progress
from recjax.loop import Interrupted
from recjax.serve import export
from recjax.study import Prepared, StudyConfig, policies, run_study
from recjax.study import Study as Done

CONFIG, CHECKPOINTS, TENSORBOARD, PROFILE = "config.json", "checkpoints", "tensorboard", "profile"


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run goes and how it is watched; none of this changes its results."""

    out: Path = Path("runs/loop")
    """Where everything is written."""
    resume: bool = False
    """Continue the run in --out, with the configuration that it was started with."""
    overwrite: bool = False
    """Replace the finished run in --out."""
    config: Path | None = None
    """Read options from this file, as a run writes it to config.json; options on the command line go before it."""
    schema: Path | None = None
    """Read from this file, JSON or TOML, which columns of your own data file hold what; see schema.json of a run."""
    plugins: tuple[str, ...] = ()
    """Python modules to import first, which register your own environments, policies and rewards."""
    profile: bool = False
    """Write a JAX trace of the run to --out, for TensorBoard or Perfetto. Traces grow quickly; use few steps."""
    quiet: bool = False
    """Show no progress, only the tables."""


Study = Annotated[StudyConfig, tyro.conf.arg(name="")]
Run = Annotated[RunOptions, tyro.conf.arg(name="")]


def loop(study: Study = StudyConfig(), run: Run = RunOptions()) -> None:  # noqa: B008 (frozen)
    """Close the loop over a catalogue and compare policies in it: fetch, represent, simulate, learn, report."""
    for module in run.plugins:
        importlib.import_module(module)
    console = Console()
    source = own_data.opened(study, run.schema, console)
    study = source.config
    _claim(study, run)
    if source.file is not None:
        write_schema(run.out / own_data.SCHEMA, study.schema, study.items_file)
    trace = _trace(run.out / PROFILE) if run.profile else contextlib.nullcontext()
    boards: list[report.TensorBoard] = []

    def recorder(policy: str) -> report.TensorBoard:
        boards.append(report.TensorBoard(run.out / TENSORBOARD / policy, study.seeds))
        return boards[-1]

    try:
        # Tables printed above a live bar must come from the bar's own console.
        bars = console if console.is_terminal else None
        with Progress(enabled=not run.quiet, console=bars) as progress, trace:
            done = run_study(
                study,
                dataset=source.dataset,
                directory=run.out / CHECKPOINTS,
                resume=run.resume,
                progress=progress,
                on_prepared=lambda prepared: show_prepared(console, prepared),
                recorder=recorder,
            )
    except Interrupted as stopped:
        raise Interrupted(
            f"{stopped} Everything is saved; continue with: recjax loop --resume --out {run.out}"
        ) from None
    finally:
        for board in boards:
            board.close()
    _save_artifact(run.out / ARTIFACT, study, done)
    report.write_json(run.out / report.METRICS_FILE, done.results)
    report.write_page(run.out / report.PAGE_FILE, report.read_results(run.out))
    show_results(console, report.read_results(run.out))
    console.print(f"\nWritten to {run.out}: {', '.join(sorted(p.name for p in run.out.iterdir()))}", soft_wrap=True)


def show_prepared(console: Console, prepared: Prepared) -> None:
    """Prints the ranking of held-out items and what the simulator was fitted to."""
    results: dict[str, Any] = {"ranking": prepared.ranking}
    console.print(
        report.rich_table("Held-out next items", *report.ranking_rows(results), caption=prepared.ranking["protocol"])
    )
    console.print(prepared.simulator["text"])
    if fit := prepared.simulator["fit"]:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in fit["log_likelihood"].items())
        console.print(f"Held-out log-likelihood, nats per interaction: {numbers}. {fit['caption']}")
        if fit["warning"]:
            console.print(f"Warning: {fit['warning']}", style="bold yellow", markup=False)
    console.print()


def show_results(console: Console, results: dict[str, Any]) -> None:
    """Prints the closing table and the long-term value."""
    config = results["config"]
    caption = (
        f"{config['eval_users']} new users a seed, no exploration; mean ± 95 % interval over {config['seeds']} seeds."
        " Definitions are in metrics.json."
    )
    console.print()
    console.print(report.rich_table("How users responded", *report.policy_rows(results, report.RESPONSE_METRICS)))
    console.print(
        report.rich_table("What was shown", *report.policy_rows(results, report.CATALOGUE_METRICS), caption=caption)
    )
    if value := results["long_term_value"]:
        console.print(f"Long-term value: {value['text']}")


def _save_artifact(path: Path, study: StudyConfig, done: Done) -> None:
    """Leaves the policies that rate items for ``recjax recommend``."""
    prepared = done.prepared
    policies, model = prepared.policies, prepared.policies.recommendation
    index = jax.jit(lambda params, items: model.apply(params, items, method="item_index"))(
        policies.params, prepared.env.items
    )
    trained = {name: done.policy(name) for name in done.runs}
    if not any(agent.scores for agent, _ in trained.values()):
        return
    export.save(
        path, trained, prepared.env.spec, prepared.dataset, evidence=index.vectors, config=json.loads(study.to_json())
    )


def _trace(path: Path) -> contextlib.AbstractContextManager[Any]:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Every Python call of the preparation would be hundreds of megabytes.
    return jax.profiler.trace(str(path), profiler_options=options)


def _claim(study: StudyConfig, run: RunOptions) -> None:
    """Writes the configuration, and refuses to mix a run with another one in the same place.

    Raises:
      ValueError: the place is taken by another run, or there is nothing to resume.
    """
    path = run.out / CONFIG
    given = json.loads(study.to_json())
    if run.resume:
        if not path.is_file():
            raise ValueError(f"There is nothing to resume in {run.out}: it has no {CONFIG}. Start without --resume.")
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved != given:
            raise ValueError(
                f"{run.out} was started with other options ({_differences(saved, given)}). Resume without options, or"
                " start anew with another --out."
            )
        return
    if path.exists() and not run.overwrite:
        if not (run.out / report.METRICS_FILE).exists():
            raise ValueError(
                f"{run.out} holds a run that was stopped. Continue it with --resume, replace it with --overwrite,"
                " or give another --out."
            )
        raise ValueError(f"{run.out} holds a finished run. Give another --out, or replace it with --overwrite.")
    for name in dict.fromkeys(study.agent):
        if name not in policies and name not in agents.agents:
            policies[name]
    run.out.mkdir(parents=True, exist_ok=True)
    # What is claimed is cleared: nothing of an earlier run may be taken for a part of this one.
    for name in (ARTIFACT, CHECKPOINTS, TENSORBOARD, PROFILE):
        shutil.rmtree(run.out / name, ignore_errors=True)
    for name in (report.METRICS_FILE, report.PAGE_FILE, own_data.SCHEMA):
        (run.out / name).unlink(missing_ok=True)
    path.write_text(study.to_json(), encoding="utf-8")


def _differences(saved: dict[str, Any], given: dict[str, Any], prefix: str = "") -> str:
    found = []
    for name in saved.keys() | given.keys():
        old, new = saved.get(name), given.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [_differences(old, new, f"{prefix}{name}.")] if old != new else []
        elif old != new:
            found.append(f"{prefix}{name} was {old!r}, is {new!r}")
    return "; ".join(sorted(found))
