"""Runs side by side: the options in which they differ, and what separates their policies."""

from __future__ import annotations

from typing import Any

from recjax.eval import Interval, mean_interval, paired_difference, unpaired_difference
from recjax.report.results import final_values
from recjax.report.tables import Rows, column_texts, difference_text

OF_POLICIES = frozenset(
    ("agent", "reward", "network", "training", "learn", "chunk", "batch_size", "replay_capacity", "learn_start",
     "learn_every", "updates", "users", "devices")
)  # fmt: skip
"""Options that say how policies learn; runs that differ in no other evaluate them on the same users."""


def run_names(paths: list[str]) -> list[str]:
    """Short names of runs: as much of the end of each path as tells them apart.

    >>> run_names(["runs/a", "runs/b"]), run_names(["x/loop", "y/loop"])
    (['a', 'b'], ['x/loop', 'y/loop'])
    """
    parts = [[part for part in path.replace("\\", "/").split("/") if part] or [path] for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return paths


def option_rows(runs: dict[str, dict[str, Any]]) -> Rows:
    """Headings and rows of the options in which runs differ, and what they ran on: one run a column."""
    options = {name: _flat(results["config"]) for name, results in runs.items()}
    known = list(dict.fromkeys(option for values in options.values() for option in values))
    differing = [o for o in known if len({repr(values.get(o)) for values in options.values()}) > 1]
    rows = [[option, *(_option(values.get(option, "–")) for values in options.values())] for option in differing]
    for fact in ("date", "recjax"):
        rows.append([fact, *(str(results[fact]) for results in runs.values())])
    rows.append(["hardware", *(str(results["hardware"]["summary"]) for results in runs.values())])
    rows.append(["seconds", *(f"{results['seconds']['total']:.0f}" for results in runs.values())])
    return ["option", *runs], rows


def comparison_rows(runs: dict[str, dict[str, Any]], metric: str) -> Rows:
    """Headings and rows of one metric: one policy a row; a column a run, and one for each run minus the first."""
    policies = list(dict.fromkeys(policy for results in runs.values() for policy in results["policies"]))
    first, *others = runs
    policies = [policy for policy in policies if any(_has(results, policy, metric) for results in runs.values())]
    means = column_texts([_mean(results, policy, metric) for policy in policies for results in runs.values()])
    differences = [dict(difference_intervals(runs[other], runs[first], metric)) for other in others]
    texts = [
        dict(zip(found, column_texts(list(found.values()), difference_text), strict=True)) for found in differences
    ]
    rows = [
        [policy, *means[len(runs) * i : len(runs) * (i + 1)], *(found.get(policy, "–") for found in texts)]
        for i, policy in enumerate(policies)
    ]
    return ["policy", *runs, *(f"{other}\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}{first}" for other in others)], rows


def difference_intervals(a: dict[str, Any], b: dict[str, Any], metric: str) -> list[tuple[str, Interval]]:
    """The metric in ``a`` minus that in ``b``, of each policy that both measured; paired where that is possible."""
    difference = paired_difference if is_paired(a, b) else unpaired_difference
    return [
        (policy, difference(final_values(a, policy, metric), final_values(b, policy, metric)))
        for policy in a["policies"]
        if _has(a, policy, metric) and _has(b, policy, metric)
    ]


def is_paired(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether the seeds of two runs met the same users at the end: they differ in nothing that decides it."""
    return not _cohort_differences(a, b)


def pairing_text(runs: dict[str, dict[str, Any]]) -> str:
    """How differences are taken, in a sentence."""
    (first, base), *others = runs.items()
    unpaired = {name: _cohort_differences(results, base) for name, results in others}
    told = [f"{name} ({', '.join(why)})" for name, why in unpaired.items() if why]
    paired = [name for name, why in unpaired.items() if not why]
    text = "Differences are of means over seeds, with 95 % intervals; * marks those that do not hold zero."
    if paired:
        text += f" Paired by seed, since the same users were met as in {first}: {', '.join(paired)}."
    if told:
        text += (
            f" Not paired (Welch's interval), since these differ from {first} in more than policies: {'; '.join(told)}."
        )
    if any(results["config"].get("reward") != base["config"].get("reward") for results in runs.values()):
        text += " The runs were rewarded for different things, so their rewards are not of one unit."
    return text


def _cohort_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of the options, other than those of policies, in which two runs differ."""
    one, other = (
        {name: value for name, value in results["config"].items() if name not in OF_POLICIES} for results in (a, b)
    )
    # Names cannot be registered twice, so what plugins add to those of the other run was in none of its parts.
    plugins = [set(config.pop("plugins", ())) for config in (one, other)]
    differing = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
    return differing + (["plugins"] if plugins[0] - plugins[1] and plugins[1] - plugins[0] else [])


def _has(results: dict[str, Any], policy: str, metric: str) -> bool:
    run = results["policies"].get(policy)
    return bool(run) and metric in run["evaluations"]


def _mean(results: dict[str, Any], policy: str, metric: str) -> Interval:
    return mean_interval(final_values(results, policy, metric) if _has(results, policy, metric) else [])


def _option(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
