"""``recjax loop``: the study, its progress and its report."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import jax

from recjax import report
from recjax._files import write_text
from recjax.cache import enable_compilation_cache
from recjax.cli import own_data
from recjax.cli.options import CONFIG, RunOptions
from recjax.cli.recommend import ARTIFACT
from recjax.cli.terminal import Terminal
from recjax.data import write_schema
from recjax.fit import Progress
from recjax.loop import Interrupted
from recjax.report.loggers import LOGS, TENSORBOARD
from recjax.serve import export
from recjax.study import Prepared, Source, StudyConfig, import_plugins, run_study
from recjax.study import Study as Done

CHECKPOINTS, PROFILE = "checkpoints", "profile"


def run_loop(study: StudyConfig, run: RunOptions) -> None:
    """What ``recjax loop`` does.

    Raises:
      ValueError: the study cannot run, or the place is taken by another run; then nothing was written.
    """
    if run.compilation_cache:
        enable_compilation_cache()
    console = Terminal()
    import_plugins(study.plugins)
    report.check_loggers(run.log)
    _check_place(study, run)
    source = own_data.opened(study, run.schema, console)
    study = source.config
    done = _run(source, run, console)
    _save_artifact(run.out / ARTIFACT, study, done)
    report.write_json(run.out / report.METRICS_FILE, done.results)
    report.write_page(run.out / report.PAGE_FILE, report.read_results(run.out))
    show_results(console, report.read_results(run.out))
    console.print(f"\nWritten to {run.out}: {', '.join(sorted(p.name for p in run.out.iterdir()))}", soft_wrap=True)


def _run(source: Source, run: RunOptions, console: Terminal) -> Done:
    study = source.config
    # Tables printed above a live bar must come from the bar's own console.
    bars = console if console.is_terminal else None
    claimed = run.resume
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(enabled=not run.quiet, console=bars))
        recorder = stack.enter_context(report.logged(run.log, run.out, json.loads(study.to_json())))

        def begin() -> None:
            nonlocal claimed
            _claim(study, run)
            claimed = True
            if source.file is not None:
                write_schema(run.out / own_data.SCHEMA, study.schema, study.items_file)
            if run.profile:
                stack.enter_context(_trace(run.out / PROFILE))

        try:
            return run_study(
                study,
                dataset=source.dataset,
                directory=run.out / CHECKPOINTS,
                resume=run.resume,
                progress=progress,
                on_checked=begin,
                on_prepared=lambda prepared: show_prepared(console, prepared),
                recorder=recorder,
            )
        except KeyboardInterrupt as stopped:
            if not claimed:
                raise
            command = f"recjax loop --resume --out {shlex.quote(str(run.out))}"
            said = str(stopped) or "Stopped."
            raise Interrupted(f"{said} What was saved is kept; continue with: {command}") from None


def show_prepared(console: Terminal, prepared: Prepared) -> None:
    """Prints the ranking of held-out items and what the simulator was fitted to."""
    results: dict[str, Any] = {"ranking": prepared.ranking}
    console.print(
        report.rich_table("Held-out next items", *report.ranking_rows(results), caption=report.ranking_caption(results))
    )
    console.print(prepared.simulator["text"])
    if fit := prepared.simulator["fit"]:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in fit["log_likelihood"].items())
        console.print(f"Held-out log-likelihood, nats per interaction: {numbers}. {fit['caption']}")
        if fit["warning"]:
            console.print(f"Warning: {fit['warning']}", style="bold yellow", markup=False)
    console.print()


def show_results(console: Terminal, results: dict[str, Any]) -> None:
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
    if results["reached"]:
        console.print(report.rich_table(report.REACHED, *report.reached_rows(results)))
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


def _check_place(study: StudyConfig, run: RunOptions) -> None:
    """Raises ValueError where --out is taken by another run, cannot be written, or has nothing to resume."""
    path = run.out / CONFIG
    place = next(folder for folder in (run.out, *run.out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "cannot be written" if place.is_dir() else "is a file"
        raise ValueError(f"--out {run.out} is no place for a run: {place} {what}. Give another --out.")
    if run.resume:
        if not path.is_file():
            raise ValueError(f"There is nothing to resume in {run.out}: it has no {CONFIG}. Start without --resume.")
        saved, given = json.loads(path.read_text(encoding="utf-8")), json.loads(study.to_json())
        if saved != given:
            raise ValueError(
                f"{run.out} was started with other options ({_differences(saved, given)}). Resume without options, or"
                " start anew with another --out."
            )
    elif path.exists() and not run.overwrite:
        if not (run.out / report.METRICS_FILE).exists():
            raise ValueError(
                f"{run.out} holds a run that was stopped. Continue it with --resume, replace it with --overwrite,"
                " or give another --out."
            )
        raise ValueError(f"{run.out} holds a finished run. Give another --out, or replace it with --overwrite.")


def _claim(study: StudyConfig, run: RunOptions) -> None:
    """Writes the configuration, and clears what an earlier run left, so that none of it is taken for a part of this.

    Raises:
      ValueError: the folder cannot be written.
    """
    _check_place(study, run)  # Again: another run may have begun here since.
    if run.resume:
        return
    new = run.out / f"{CONFIG}.new"
    try:
        run.out.mkdir(parents=True, exist_ok=True)
        write_text(new, study.to_json())
    except OSError as error:
        raise ValueError(f"--out {run.out} cannot be written: {error.strerror}. Give another --out.") from None
    for name in (report.METRICS_FILE, report.PAGE_FILE, own_data.SCHEMA):
        (run.out / name).unlink(missing_ok=True)
    new.replace(run.out / CONFIG)
    for name in (ARTIFACT, CHECKPOINTS, TENSORBOARD, LOGS, PROFILE):
        shutil.rmtree(run.out / name, ignore_errors=True)


def _differences(saved: dict[str, Any], given: dict[str, Any], prefix: str = "") -> str:
    found = []
    for name in saved.keys() | given.keys():
        old, new = saved.get(name), given.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [_differences(old, new, f"{prefix}{name}.")] if old != new else []
        elif old != new:
            found.append(f"{prefix}{name} was {old!r}, is {new!r}")
    return "; ".join(sorted(found))
