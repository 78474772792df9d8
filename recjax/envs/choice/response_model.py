"""What the simulators declare instead of fitting: numbers that no log of ratings can tell."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recjax.types import Array

INF = float("inf")


class Description(NamedTuple):
    """One declared parameter, as a report prints it: name, value, unit and meaning."""

    name: str
    value: float
    doc: str


def _declare(default: float, low: float, high: float, doc: str) -> Any:
    return struct.field(default=default, metadata={"doc": doc, "low": low, "high": high})


@struct.dataclass
class ResponseModel:
    """The declared parameters of the response dynamics; every one is a scalar leaf.

    A log of ratings has no slates, no impressions and no departures, so none of these can be
    fitted to it. Each default was chosen once, for plausibility, before any policy was trained;
    ``docs/simulator.md`` shows what halving and doubling each of them does. A value may be
    traced, so ``jax.vmap`` over a ``ResponseModel`` sweeps a parameter without recompiling.

    A step is one slate. Attractions are logits: 0 stands for an item that is liked as often as not.
    """

    choice_scale: Array | float = _declare(
        1.0,
        0.0,
        INF,
        "Logits of choice per logit of attraction. At 1 the odds of picking one shown item over another are"
        " the odds of liking it; larger is more deterministic.",
    )
    no_click_logit: Array | float = _declare(
        3.0,
        -INF,
        INF,
        "Logit of clicking nothing. At 3 a slate of five indifferent items is clicked about one time in six,"
        " the order of what feeds and home pages report.",
    )
    position_discount: Array | float = _declare(
        0.9,
        1e-6,
        1.0,
        "Odds of a click in a slot relative to the slot above it. 0.9 is mild: slot five keeps two thirds of the odds"
        " of the first, and slates are short enough to be seen at a glance.",
    )
    conversion_rate: Array | float = _declare(
        0.1,
        0.0,
        1.0,
        "Probability that a click on a perfectly attractive item becomes a purchase; it is multiplied by sigmoid of the"
        " attraction. At 0.1 a few per cent of clicks convert, as in retail.",
    )
    boredom_weight: Array | float = _declare(
        4.0,
        0.0,
        INF,
        "Logits of attraction lost by a topic that was consumed at every recent step. At 4 an item liked with"
        " probability 0.88 sinks to 0.12.",
    )
    memory_decay: Array | float = _declare(
        0.8,
        0.0,
        1.0,
        "Share of the memory of consumed topics that is left after one step. At 0.8 half is forgotten in three slates.",
    )
    satisfaction_rate: Array | float = _declare(
        0.1,
        0.0,
        1.0,
        "How far one consumed item moves the user's slow satisfaction towards the satisfaction with that item. At 0.1"
        " the slow satisfaction averages over about the ten last consumed items.",
    )
    no_click_decay: Array | float = _declare(
        0.02,
        0.0,
        1.0,
        "Share of the slow satisfaction lost by a slate without a click. At 0.02 a whole screenful of nothing costs"
        " little, thirty-five of them cost half.",
    )
    initial_satisfaction: Array | float = _declare(
        0.5,
        0.0,
        1.0,
        "Slow satisfaction of a user who arrives. 0.5 is neither pleased nor displeased.",
    )
    leave_base: Array | float = _declare(
        0.01,
        0.0,
        1.0,
        "Probability that a fully satisfied user leaves after a step: at 0.01 sessions of about a hundred slates,"
        " ended by things outside the platform.",
    )
    leave_slope: Array | float = _declare(
        0.05,
        0.0,
        1.0,
        "What complete dissatisfaction adds to the probability of leaving after a step. At 0.05 a user who got nothing"
        " stays for about seventeen slates.",
    )
    max_steps: Array | float = _declare(
        100.0,
        1.0,
        INF,
        "Steps after which a session is cut (truncated, not terminated). 100 is long enough that most sessions"
        " end by the user's leaving, also those of the best policies.",
    )


def describe(response_model: ResponseModel) -> list[Description]:
    """Every declared parameter with its value and its meaning, in order of declaration.

    >>> describe(ResponseModel(boredom_weight=2.0))[4][:2]
    ('boredom_weight', 2.0)
    """
    return [
        Description(field.name, float(getattr(response_model, field.name)), field.metadata["doc"])
        for field in dataclasses.fields(response_model)
    ]


def as_arrays(response_model: ResponseModel) -> ResponseModel:
    """``declared`` as ``f32[]`` leaves, checked, ready to be an environment's params.

    Raises:
      ValueError: a value lies outside the range of its parameter or is not a number.
    """
    for field in dataclasses.fields(response_model):
        value = float(getattr(response_model, field.name))
        low, high = field.metadata["low"], field.metadata["high"]
        if not low <= value <= high:
            raise ValueError(
                f"ResponseModel.{field.name} is {value}; it must lie in [{low:g}, {high:g}]. {field.metadata['doc']}"
            )
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), response_model)
