"""Runs side by side."""

from __future__ import annotations

from typing import Any

from recjax.report.results import final_values
from recjax.report.tables import interval_text


def option_rows(runs: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the options in which runs differ, and what they ran on: one run a column."""
    options = {name: _flat(results["config"]) for name, results in runs.items()}
    known = list(dict.fromkeys(option for values in options.values() for option in values))
    differing = [o for o in known if len({repr(values.get(o)) for values in options.values()}) > 1]
    rows = [[option, *(str(values.get(option, "–")) for values in options.values())] for option in differing]
    for fact in ("date", "recjax"):
        rows.append([fact, *(results[fact] for results in runs.values())])
    rows.append(["hardware", *(results["hardware"]["summary"] for results in runs.values())])
    rows.append(["seconds", *(f"{results['seconds']['total']:.0f}" for results in runs.values())])
    return ["option", *runs], rows


def comparison_rows(runs: dict[str, dict[str, Any]], metric: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one metric: one policy a row, one run a column."""
    policies = list(dict.fromkeys(policy for results in runs.values() for policy in results["policies"]))
    rows = [[policy, *(_cell(results, policy, metric) for results in runs.values())] for policy in policies]
    return ["policy", *runs], [row for row in rows if any(cell != "–" for cell in row[1:])]


def _cell(results: dict[str, Any], policy: str, metric: str) -> str:
    run = results["policies"].get(policy)
    return interval_text(final_values(results, policy, metric)) if run and metric in run["evaluations"] else "–"


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
