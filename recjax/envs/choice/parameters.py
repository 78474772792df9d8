"""The declared parameters of how users respond: numbers that no log of ratings can tell. Imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

INF = float("inf")


def declare(default: float, low: float, high: float, doc: str) -> Any:
    """A field of declared parameters: its default, the range that it must lie in, and its meaning."""
    return dataclasses.field(default=default, metadata={"doc": doc, "low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class ResponseModel:
    """The declared parameters of the response dynamics; every one is a scalar leaf.

    A log of ratings has no slates, no impressions and no departures, so none of these can be
    fitted to it. Each default was chosen once, for plausibility, before any policy was trained;
    ``docs/simulator.md`` shows what halving and doubling each of them does. A value may be
    traced, so ``jax.vmap`` over a ``ResponseModel`` sweeps a parameter without recompiling.

    A step is one slate. Attractions are logits: 0 stands for an item that is liked as often as not.
    """

    choice_scale: float = declare(
        1.0,
        0.0,
        INF,
        "Logits of choice per logit of attraction. At 1 the odds of picking one shown item over another are"
        " the odds of liking it; larger is more deterministic.",
    )
    no_click_logit: float = declare(
        3.0,
        -INF,
        INF,
        "Logit of clicking nothing. At 3 a slate of five indifferent items is clicked about one time in six,"
        " the order of what feeds and home pages report.",
    )
    position_discount: float = declare(
        0.9,
        1e-6,
        1.0,
        "Odds of a click in a slot relative to the slot above it. 0.9 is mild: slot five keeps two thirds of the odds"
        " of the first, and slates are short enough to be seen at a glance.",
    )
    bait: float = declare(
        0.0,
        0.0,
        INF,
        "Standard deviation over items of appeal that is no promise of pleasure: logits of choice, not of attraction."
        " At 0 what is clicked is what pleases; at 2 a catalogue has items that are clicked much and disappoint.",
    )
    conversion_rate: float = declare(
        0.1,
        0.0,
        1.0,
        "Probability that a click on a perfectly attractive item becomes a purchase; it is multiplied by sigmoid of the"
        " attraction. At 0.1 a few per cent of clicks convert, as in retail.",
    )
    boredom_weight: float = declare(
        4.0,
        0.0,
        INF,
        "Logits of attraction lost by a topic that was consumed at every recent step. At 4 an item liked with"
        " probability 0.88 sinks to 0.12.",
    )
    memory_decay: float = declare(
        0.8,
        0.0,
        1.0,
        "Share of the memory of consumed topics that is left after one step. At 0.8 half is forgotten in three slates.",
    )
    satisfaction_rate: float = declare(
        0.1,
        0.0,
        1.0,
        "How far one consumed item moves the user's slow satisfaction towards the satisfaction with that item. At 0.1"
        " the slow satisfaction averages over about the ten last consumed items.",
    )
    no_click_decay: float = declare(
        0.02,
        0.0,
        1.0,
        "Share of the slow satisfaction lost by a slate without a click. At 0.02 a whole screenful of nothing costs"
        " little, thirty-five of them cost half.",
    )
    initial_satisfaction: float = declare(
        0.5,
        0.0,
        1.0,
        "Slow satisfaction of a user who arrives. 0.5 is neither pleased nor displeased.",
    )
    leave_base: float = declare(
        0.01,
        0.0,
        1.0,
        "Probability that a fully satisfied user leaves after a step: at 0.01 sessions of about a hundred slates,"
        " ended by things outside the platform.",
    )
    leave_slope: float = declare(
        0.05,
        0.0,
        1.0,
        "What complete dissatisfaction adds to the probability of leaving after a step. At 0.05 a user who got nothing"
        " stays for about seventeen slates.",
    )
    max_steps: float = declare(
        100.0,
        1.0,
        INF,
        "Steps after which a session is cut (truncated, not terminated). 100 is long enough that most sessions"
        " end by the user's leaving, also those of the best policies.",
    )

    def replace(self, **values: Any) -> ResponseModel:
        """The same with other values of some parameters."""
        return dataclasses.replace(self, **values)
