"""What is in a data set, and what can be done with it, as tables."""

from __future__ import annotations

import numpy as np

from recjax import report
from recjax.cli.terminal import Terminal
from recjax.data import Behaviour, Dataset
from recjax.envs import read_evidence
from recjax.study import LEAST_EVENTS

FEEDBACK = {"ratings": "ratings", "implicit": "what was taken", "impressions": "what was shown and taken"}
"""What a simulator is fitted to, in words."""

ROWS, TOP_ITEMS = 5, 10
"""Rows and items that are shown."""


def show(console: Terminal, dataset: Dataset) -> None:
    """Prints counts, the first rows, the items with the most events, and what can be done."""
    counts = [[key.replace("_", " "), _text(value)] for key, value in dataset.describe().items() if _is_there(value)]
    tables = (
        (dataset.name, ["", ""], counts),
        ("First rows", *_first_rows(dataset)),
        ("Items with the most events", *_top_items(dataset)),
        ("What can be done with it", ["", ""], _uses(dataset)),
    )
    for title, headings, rows in tables:
        # Titles and names are shown as they are written.
        written = [list(row) for row in rows]
        console.print(report.rich_table(title, headings, written, text=True))
        console.print()


def _is_there(value: object) -> bool:
    return value is not None and value != []


def _first_rows(dataset: Dataset) -> tuple[list[str], list[list[str]]]:
    log = dataset.interactions.take(np.arange(min(ROWS, len(dataset.interactions))))
    columns = {
        "user": [dataset.users.names[user] for user in log.user],
        "item": [dataset.title(item) for item in log.item],
        "behaviour": [Behaviour(code).name.lower() for code in log.behaviour],
    }
    if log.time is not None:
        columns["time (UTC)"] = [str(np.datetime64(int(time), "s")).replace("T", " ") for time in log.time]
    if log.rating is not None:
        columns["rating"] = [f"{rating:g}" for rating in log.rating]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _top_items(dataset: Dataset) -> tuple[list[str], list[list[str]]]:
    log = dataset.interactions
    counts = np.bincount(log.item, minlength=dataset.num_items)[: dataset.num_items]
    top = np.argsort(-counts, kind="stable")[:TOP_ITEMS]
    rows = [[dataset.title(item), f"{counts[item]:,}", f"{counts[item] / max(len(log), 1):.2%}"] for item in top]
    return ["item", "events", "share"], rows


def _uses(dataset: Dataset) -> list[list[str]]:
    log = dataset.interactions
    try:
        evidence = read_evidence(dataset)
        loop = f"yes, with a simulator fitted to {FEEDBACK[evidence.feedback]}. {evidence.text}"
    except ValueError as error:
        loop = f"no. {error}"
    enough = int((np.bincount(log.user, minlength=dataset.num_users) >= LEAST_EVENTS).sum())
    order = "time" if log.time is not None else "the order of the rows, since there are no times"
    features = [
        *(["titles"] if dataset.titles is not None else []),
        *([f"{len(dataset.genres)} categories"] if dataset.genres else []),
        *(f"number {name}" for name in dataset.numeric_names),
    ]
    propensity = "propensity" in dataset.extras
    return [
        ["recjax loop", loop],
        ["models of the next item", f"{enough:,} users have {LEAST_EVENTS} events and more; ordered by {order}"],
        ["splits", "by user, leave-one-out" + (", by time" if log.time is not None else "")],
        ["item features", ", ".join(features) or "none: items are known by their ids alone"],
        ["language models", "yes, on titles" if dataset.titles is not None else "no: items have no titles"],
        ["off-policy estimates", "yes, with logged propensities" if propensity else "no: there are no propensities"],
    ]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {number:,}" for key, number in value.items())
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
