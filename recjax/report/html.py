"""The page of a study or of single runs: one file, drawn from results alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recjax._files import write_text
from recjax.eval import label, mean_interval
from recjax.loop import Result
from recjax.report import plots
from recjax.report.pages import page
from recjax.report.results import (
    CATALOGUE_METRICS,
    FURTHER_METRICS,
    RESPONSE_METRICS,
    TABLE_METRICS,
    Kind,
    last_step,
    results_of,
    time_unit,
    timed_curve,
)
from recjax.report.tables import (
    REACHED,
    Rows,
    difference_rows,
    differences_from_best,
    measured,
    number,
    policy_rows,
    ranking_caption,
    ranking_rows,
    reached_rows,
    unit_of,
    with_minus,
)
from recjax.study import Study

PAGE_FILE = "report.html"

MATRICES = 16
"""Policies up to which every pair is listed."""


def render(results: dict[str, Any], title: str | None = None) -> str:
    """The page of a study, drawn from its results alone; it refers to no other file.

    Args:
      results: as ``metrics.json`` holds them. What is missing there (examples, ranking, simulator) is left out.
      title: of the page; names the data set by default.
    """
    data = results.get("data")
    config = results.get("config", {})
    hardware = results.get("hardware", {}).get("summary")
    subtitle = [results["date"], f"recjax {results['recjax']}", *([hardware] if hardware else [])]
    seeds = len(next(iter(next(iter(results["policies"].values()))["evaluations"].values()))[-1])
    interval = f"mean and 95 % t-interval over {seeds} seeds" if seeds > 1 else "one seed, so without intervals"
    context = {
        "title": title or (f"recjax loop: {data['name']}" if data else "recjax loop"),
        "subtitle": " · ".join(subtitle),
        "warning": (results.get("simulator", {}).get("fit") or {}).get("warning"),
        "series": list(results["policies"]),
        "facts": _facts(results, seeds),
        "explained": [
            [name, run["description"]] for name, run in results["policies"].items() if run.get("description")
        ],
        "tables": _tables(results),
        "tables_caption": f"{_cohort(config)}; {interval}.",
        "differences": _differences(results) if seeds > 1 else None,
        "same_users": bool(config),
        "curves": _curves(results),
        "interval": interval,
        "examples": _examples(results),
        "ranking": _ranking(results),
        "simulator": _simulator(results),
        "definitions": _definitions(results),
        "config": json.dumps(config, indent=2) if config else None,
        "environment": json.dumps(
            {part: results[part] for part in ("hardware", "software", "seconds") if part in results}, indent=2
        ),
    }
    return page("study", context)


def write_page(path: Path, results: dict[str, Any]) -> None:
    """Writes the page of a study in one piece."""
    write_text(path, render(results))


def write(runs: Result | Mapping[str, Result] | Study, path: str | Path, title: str | None = None) -> None:
    """Writes the page of runs that were made in Python; it needs no data set.

    Args:
      runs: what :func:`recjax.loop.run` returned, several of them by name, or a study.
      path: of the page, such as ``"report.html"``.
      title: of the page.

    Raises:
      ValueError: there is no run.
    """
    write_text(Path(path), render(results_of(runs), title))


def _facts(results: dict[str, Any], seeds: int) -> list[tuple[str, str]]:
    data, facts = results.get("data"), []
    if data:
        facts = [(name, f"{data[key]:,}") for name, key in
                 (("users in the log", "users"), ("items", "items"), ("interactions", "events"))]  # fmt: skip
    facts += [("slates to each user", f"{last_step(results):,}"), ("seeds", str(seeds))]
    speed = max(run.get("user_steps_per_second", 0.0) for run in results["policies"].values())
    if speed:
        facts.append(("user-steps a second, fastest policy", f"{speed:,.0f}"))
    seconds = results.get("seconds", {}).get("total") or sum(run["seconds"] for run in results["policies"].values())
    return [*facts, ("seconds in all", number(seconds))]


def _cohort(config: dict[str, Any]) -> str:
    if not config:
        return "The last evaluation, of new users and without exploration"
    return (
        f"After {config['steps']:,} slates to each of {config['users']:,} users a seed; {config['eval_users']:,} new"
        f" users followed for up to {config['eval_steps']} slates without exploration"
    )


def _tables(results: dict[str, Any]) -> list[dict[str, Any]]:
    reached = [{"title": REACHED, "table": reached_rows(results), "units": None}] if results.get("reached") else []
    parts = (
        ("How users responded", measured(results, RESPONSE_METRICS)),
        ("What was shown", measured(results, CATALOGUE_METRICS)),
        ("Further metrics", measured(results, [*_own(results), *FURTHER_METRICS])),
    )
    return [
        {"title": title, "table": policy_rows(results, metrics), "units": ["", *(unit_of(results, m) for m in metrics)]}
        for title, metrics in parts
        if metrics
    ] + reached


def _differences(results: dict[str, Any]) -> dict[str, Any] | None:
    metrics = measured(results, RESPONSE_METRICS) or measured(results, list(_first(results)["evaluations"]))
    seeds = {len(next(iter(run["evaluations"].values()))[-1]) for run in results["policies"].values()}
    if not 2 <= len(results["policies"]) <= MATRICES or not metrics or len(seeds) > 1:
        return None
    main = "session_reward" if "session_reward" in metrics else metrics[0]
    better = results.get("definitions", {}).get(main, {}).get("better", "higher")
    best, rows = differences_from_best(results, main, better)
    if not rows:  # All others are oracles.
        return None
    value = results.get("long_term_value")
    return {
        "best": best,
        "metric": label(main),
        "svg": plots.differences(
            [(f"{policy} − {best}", interval) for policy, interval in rows],
            f"{label(main)}, {unit_of(results, main)}".rstrip(", "),
            f"Differences in {label(main)} from {best}",
        ),
        "matrices": [(label(metric), unit_of(results, metric), difference_rows(results, metric)) for metric in
                     [main, *(metric for metric in metrics if metric != main)]],
        "long_term_value": value["text"] if value else None,
    }  # fmt: skip


def _curves(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Groups of plots: evaluations, traffic of the loop itself, and what learning reports."""
    evaluated = [name for name in TABLE_METRICS if name in _metrics(results, "evaluations")]
    evaluated += _own(results)
    traffic = [name for name in ("reward", *TABLE_METRICS) if name in _metrics(results, "online")]
    learning = [name for name in _metrics(results, "online") if name.startswith("learn/")]
    groups: tuple[tuple[str, Kind, list[str], str], ...] = (
        ("Evaluations", "evaluations", evaluated, "New users, no exploration."),
        ("Online traffic", "online", traffic, "The users whom the loop itself serves, exploration included; one point a"
         " chunk of steps."),
        ("Learning", "online", learning, "What each policy that learns reports of its updates; mean over a chunk."),
    )  # fmt: skip
    return [
        {"title": title, "text": text, "plots": drawn}
        for title, kind, metrics, text in groups
        if (drawn := [_plot(results, kind, metric) for metric in metrics if _lines(results, kind, metric)])
    ]


def _own(results: dict[str, Any]) -> list[str]:
    """Metrics that a loop does not measure unless told to."""
    usual = {*TABLE_METRICS, *FURTHER_METRICS}
    return [name for name in _metrics(results, "evaluations") if name not in usual]


def _metrics(results: dict[str, Any], kind: Kind) -> list[str]:
    return list(dict.fromkeys(name for run in results["policies"].values() for name in run[kind]))


def _plot(results: dict[str, Any], kind: Kind, metric: str) -> dict[str, Any]:
    name = label(metric.removeprefix("learn/"))
    when = "in evaluations" if kind == "evaluations" else "in the loop's own traffic"
    return {
        "name": name,
        "unit": unit_of(results, metric),
        "svg": plots.curves(_lines(results, kind, metric), f"{name} over loop time, {when}", time_unit(results)),
    }


def _lines(results: dict[str, Any], kind: Kind, metric: str) -> list[plots.Line]:
    lines = []
    for series, (policy, run) in enumerate(results["policies"].items()):
        if metric in run[kind]:
            times, values = timed_curve(results, policy, metric, kind)
            intervals = [mean_interval(seeds) for seeds in values]
            lines.append(plots.Line(policy, series, times, intervals, dash=int(run.get("is_oracle", False))))
    return lines


def _examples(results: dict[str, Any]) -> dict[str, Any] | None:
    examples = results.get("examples")
    if not examples:
        return None
    titles, policies = examples["titles"], examples["policies"]

    def titled(items: list[int]) -> list[str]:
        return [titles[str(item)] for item in items]

    return {
        "users": examples["users"],
        "steps": examples["steps"],
        "people": [
            {"history": titled(history), "slates": [titled(shown["slates"][place]) for shown in policies.values()]}
            for place, history in enumerate(examples["histories"])
        ],
        "journey": plots.journey({name: shown["journey"] for name, shown in policies.items()}),
        "journeys": [_journey(shown["journey"], titled) for shown in policies.values()],
        "lorenz": plots.lorenz({name: shown["exposure"] for name, shown in policies.items()}),
        "most_shown": [
            [(titles[str(item)], f"{slots / shown['exposure']['slots']:.1%}") for item, slots in
             shown["exposure"]["most_shown"]]
            for shown in policies.values()
        ],
    }  # fmt: skip


def _journey(journey: dict[str, Any], titled: Any) -> dict[str, Any]:
    """The slates of a journey, each a list of titles and whether they were clicked, and its numbers."""
    steps = range(len(journey["slates"]))
    clicked = journey.get("clicked") or [[] for _ in steps]
    satisfaction = journey.get("satisfaction") or [None for _ in steps]
    return {
        "stay": journey["stay"],
        "left": journey["left"],
        "slates": [
            {
                "items": [(title, slot in clicked[step]) for slot, title in enumerate(titled(journey["slates"][step]))],
                "reward": number(journey["reward"][step]),
                "satisfaction": number(satisfaction[step]) if clicked[step] else "–",
            }
            for step in steps
        ],
    }


def _ranking(results: dict[str, Any]) -> dict[str, Any] | None:
    if not results.get("ranking"):
        return None
    return {"table": ranking_rows(results), "caption": ranking_caption(results)}


def _simulator(results: dict[str, Any]) -> dict[str, Any] | None:
    simulator = results.get("simulator")
    if not simulator:
        return None
    fit = simulator.get("fit")
    return {
        "text": simulator["text"],
        "fit": fit
        and {
            "table": (
                ["model of preference", "held-out log-likelihood"],
                [[name, with_minus(f"{value:.4f}")] for name, value in fit["log_likelihood"].items()],
            ),
            "units": ["", "nats per interaction"],
            "caption": fit["caption"],
        },
        "declared": [[row["name"], number(row["value"]), row["doc"]] for row in simulator.get("declared", [])],
    }


def _definitions(results: dict[str, Any]) -> Rows:
    rows = [[label(name), name, d["definition"], d["unit"], d["better"]] for name, d in
            results.get("definitions", {}).items()]  # fmt: skip
    return ["metric", "key in metrics.json", "definition", "unit", "better"], rows


def _first(results: dict[str, Any]) -> dict[str, Any]:
    return next(iter(results["policies"].values()))
