"""The one-file HTML report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from recjax.report import plots
from recjax.report.results import TABLE_METRICS
from recjax.report.tables import number, policy_rows, ranking_rows

PAGE_FILE = "report.html"

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("recjax.report", "."),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def render(results: dict[str, Any]) -> str:
    """The page of a study, drawn from its results alone; it refers to no other file."""
    config = results["config"]
    seeds = config["seeds"]
    headings, rows = policy_rows(results, TABLE_METRICS)
    colours = plots.colour_of(results)
    interval = f"mean and 95 % t-interval over {seeds} seeds"
    context = {
        "title": f"recjax loop: {results['data']['name']}",
        "subtitle": f"{results['date']} · recjax {results['recjax']} · {results['hardware']['summary']}",
        "warning": (results["simulator"].get("fit") or {}).get("warning"),
        "facts": _facts(results),
        "policies": {
            "headings": headings,
            "rows": rows,
            "caption": f"After {config['steps']} slates to each of {config['users']} users a seed; "
            f"{config['eval_users']} new users followed without exploration; {interval}.",
        },
        "differences": _differences(results, interval),
        "legend": list(colours.items()),
        "curves": plots.curves(results),
        "curves_caption": f"Evaluations without exploration on new users; {interval}.",
        "ranking": _ranking(results),
        "simulator": _simulator(results),
        "definitions": [[name, d["definition"], d["unit"], d["better"]] for name, d in results["definitions"].items()],
        "command": "recjax loop --config config.json --out runs/again",
        "reproduce": "The configuration below is saved beside this page as config.json; "
        "every number above is in metrics.json, per seed.",
        "config": json.dumps(config, indent=2),
        "environment": json.dumps(
            {"hardware": results["hardware"], "software": results["software"], "seconds": results["seconds"]}, indent=2
        ),
    }
    return _environment.get_template("page.html.jinja").render(context)


def write_page(path: Path, results: dict[str, Any]) -> None:
    """Writes the page of a study in one piece."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(render(results), encoding="utf-8")
    temporary.replace(path)


def _facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    data = results["data"]
    speed = max(run["user_steps_per_second"] for run in results["policies"].values())
    return [
        ("users in the log", f"{data['users']:,}"),
        ("items", f"{data['items']:,}"),
        ("interactions", f"{data['events']:,}"),
        ("seeds", str(results["config"]["seeds"])),
        ("user-steps a second, fastest policy", f"{speed:,.0f}"),
        ("seconds in all", number(results["seconds"]["total"])),
    ]


def _ranking(results: dict[str, Any]) -> dict[str, Any] | None:
    if not results.get("ranking"):
        return None
    headings, rows = ranking_rows(results)
    return {"headings": headings, "rows": rows, "caption": results["ranking"]["protocol"]}


def _differences(results: dict[str, Any], interval: str) -> dict[str, Any] | None:
    value = results.get("long_term_value")
    if not value:
        return None
    rows = [(f"{value['of']} − {value['minus']}", value["mean"], value["low"], value["high"])]
    return {
        "text": value["text"],
        "svg": plots.differences(rows, "reward per session"),
        "caption": f"Paired by seed: both policies meet the same users; {interval}.",
    }


def _simulator(results: dict[str, Any]) -> dict[str, Any]:
    simulator = results["simulator"]
    fit = simulator.get("fit")
    return {
        "text": simulator["text"],
        "fit": fit
        and {
            "headings": ["model of preference", "held-out log-likelihood, nats per interaction"],
            "rows": [[name, f"{value:.4f}"] for name, value in fit["log_likelihood"].items()],
            "caption": fit["caption"],
        },
        "declared": [[row["name"], number(row["value"]), row["doc"]] for row in simulator.get("declared", [])],
    }
