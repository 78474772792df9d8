"""What every metric means, in one sentence, with its unit and which way is better."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Better = Literal["higher", "lower", "depends"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric in words.

    Attributes:
      better: which direction is better; ``"depends"`` where that is a matter of aims.
      unit: of the number.
      range: the values that it can take.
      definition: one sentence.

    Raises:
      ValueError: ``better`` is none of the three, or a text is empty.
    """

    better: Better
    unit: str
    range: str
    definition: str

    def __post_init__(self) -> None:
        if self.better not in get_args(Better):
            raise ValueError(f"Metric.better is {self.better!r}; choose one of {get_args(Better)}.")
        for name in ("unit", "range", "definition"):
            if not getattr(self, name):
                raise ValueError(f"Metric.{name} is empty; say it in words, '1' for a number without a unit.")


_RANKING = {
    "hit_rate": Metric(
        "higher", "share of users", "[0, 1]", "Share of users with a relevant item among the first k."
    ),
    "recall": Metric(
        "higher", "share of items", "[0, 1]", "Share of a user's relevant items that are among the first k."
    ),
    "precision": Metric(
        "higher", "share of slots", "[0, 1]", "Share of the first k slots that hold a relevant item."
    ),
    "ndcg": Metric(
        "higher", "1", "[0, 1]",
        "Sum of 1/log2(1 + rank) over the relevant items among the first k, divided by its value for the best order.",
    ),
    "map": Metric(
        "higher", "1", "[0, 1]",
        "Sum of the precision at the rank of each relevant item among the first k, divided by min(relevant items, k).",
    ),
    "mrr": Metric(
        "higher", "1", "[0, 1]",
        "One over the rank of the first relevant item, 0 beyond the first k where a k is given.",
    ),
}  # fmt: skip

_FEEDBACK = {
    "reward": Metric("higher", "reward per slate", "real", "Reward of a slate, summed over its slots."),
    "ctr": Metric("higher", "clicks per slot", "[0, 1]", "Clicks per shown slot."),
    "click_rate": Metric("higher", "share of slates", "[0, 1]", "Share of slates with at least one click."),
    "conversion_rate": Metric("higher", "conversions per click", "[0, 1]", "Conversions per click."),
    "satisfaction": Metric(
        "higher", "satisfaction per click", "[0, 1]", "Mean satisfaction of a consumed (clicked) item."
    ),
    "satisfaction_per_slate": Metric(
        "higher", "satisfaction per slate", "[0, slots]", "Satisfaction of a slate, summed over its slots."
    ),
    "session_reward": Metric(
        "higher", "reward per user", "real",
        "Reward of a user from arrival to leaving, cut where the evaluation ends.",
    ),
    "session_length": Metric(
        "higher", "slates per user", "[1, slates]",
        "Slates that a user saw from arrival to leaving, cut where the evaluation ends.",
    ),
}  # fmt: skip

_BEYOND_ACCURACY = {
    "coverage": Metric(
        "higher", "share of items", "[0, 1]", "Share of the catalogue that was shown at least once."
    ),
    "tail_coverage": Metric(
        "higher", "share of items", "[0, 1]",
        "Share of the tail (all but the 20 % most popular items) that was shown at least once.",
    ),
    "new_coverage": Metric(
        "higher", "share of items", "[0, 1]", "Share of the items new to the catalogue that were shown at least once."
    ),
    "novelty_information": Metric(
        "depends", "bits per slot", "[0, inf)",
        "Mean of -log2 p over the shown slots, where p is the item's share of the interactions in the"
        " training log with one added to every item.",
    ),
    "novelty_new": Metric(
        "depends", "share of slots", "[0, 1]", "Share of the shown slots whose item is new to the catalogue."
    ),
    "diversity": Metric(
        "depends", "1", "[0, 2]",
        "Mean of 1 - cosine of the content vectors over the pairs of items of a slate, over slates with two or more.",
    ),
    "gini": Metric(
        "lower", "1", "[0, 1)",
        "Gini coefficient, over all items of the catalogue, of the number of slots that showed each; 0 is equal.",
    ),
    "popularity_lift": Metric(
        "depends", "1", "[-1, inf)",
        "Mean popularity of a shown slot divided by that of an interaction in the training log, minus 1.",
    ),
    "serendipity": Metric(
        "higher", "share of slots", "[0, 1]",
        "Share of the list that is relevant and not in the list of a primitive model.",
    ),
    "calibration": Metric(
        "lower", "nats", "[0, -log alpha]",
        "Kullback-Leibler divergence of the genres of the list, smoothed with alpha, from those of the profile.",
    ),
}  # fmt: skip

_metrics: dict[str, Metric] = _RANKING | _FEEDBACK | _BEYOND_ACCURACY

metrics: Mapping[str, Metric] = MappingProxyType(_metrics)
"""Every metric by its name without ``@k``, registered ones included."""


def register_metric(name: str, metric: Metric) -> Metric:
    """Adds the definition of a metric, so that :func:`describe` and the reports of a loop know it.

    Args:
      name: of the metric, without a cutoff.
      metric: its definition.

    Returns:
      The definition.

    Raises:
      ValueError: the name is taken by another definition, is empty or holds an ``@``.

    >>> register_metric("ctr", Metric("higher", "seconds", "[0, inf)", "Seconds until the first click."))
    Traceback (most recent call last):
    ...
    ValueError: A metric named 'ctr' is registered already: 'Clicks per shown slot.' Choose another name.
    """
    if not name or "@" in name:
        raise ValueError(
            f"A metric cannot be named {name!r}; the name must not be empty or hold '@', which sets off k."
        )
    if _metrics.get(name, metric) != metric:
        raise ValueError(
            f"A metric named {name!r} is registered already: {_metrics[name].definition!r} Choose another name."
        )
    return _metrics.setdefault(name, metric)


def describe(name: str) -> Metric:
    """The definition of a metric; a cutoff as in ``ndcg@10`` is allowed.

    Raises:
      ValueError: there is no such metric.

    >>> describe("ndcg@10").better
    'higher'
    """
    base = name.partition("@")[0]
    if base not in metrics:
        close = difflib.get_close_matches(base, metrics, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"There is no metric named {name!r}. Known: {', '.join(metrics)}.{hint} Metrics of your own are defined by"
            " register_metric."
        )
    return metrics[base]


_LABELS = {
    "hit_rate": "HR", "recall": "Recall", "precision": "Precision", "ndcg": "NDCG", "map": "MAP", "mrr": "MRR",
    "ctr": "CTR", "gini": "Gini", "td_error": "TD error", "q_value": "Q-value",
}  # fmt: skip


def label(name: str) -> str:
    """What tables, plots and pages call a metric: its name in words; a cutoff as in ``ndcg@10`` stays.

    >>> label("hit_rate@10"), label("session_reward")
    ('HR@10', 'session reward')
    """
    base, at, cutoff = name.partition("@")
    return _LABELS.get(base, base.replace("_", " ")) + at + cutoff
