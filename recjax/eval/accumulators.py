"""Metrics of a loop: sums that grow step by step on the device, and what follows from them.

>>> import jax.numpy as jnp
>>> def update(state, step, items):
...     return state + step.response["click"].sum()
>>> clicks = Accumulator(lambda spec, items: jnp.zeros(()), update, lambda state, items: {"clicks": state})
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax.numpy as jnp

from recjax.eval.definitions import Metric
from recjax.eval.definitions import metrics as definitions
from recjax.eval.exposure import Exposure, Total
from recjax.response import CLICK, CONVERSION, SATISFACTION, Signal
from recjax.types import Array, Items, PyTree, Spec, Step


class InitMetric(Protocol):
    """The state before anything was shown."""

    def __call__(self, spec: Spec, items: Items) -> PyTree:
        """Returns any pytree of arrays."""
        ...


class UpdateMetric(Protocol):
    """One more step."""

    def __call__(self, state: PyTree, step: Step, items: Items) -> PyTree:
        """Returns the state after one step of a batch of users.

        Args:
          state: before.
          step: leaves ``[B, ...]``. ``slate`` holds items, also where actions are positions in candidates;
            ``PAD_ID`` where nothing was shown, as in the rows of users who have left. There response and
            reward are 0.
          items: the features of all items.
        """
        ...


class ComputeMetric(Protocol):
    """The metrics so far."""

    def __call__(self, state: PyTree, items: Items) -> dict[str, Array]:
        """Returns scalars by name; NaN for a mean over nothing."""
        ...


class Accumulator(NamedTuple):
    """Metrics that are accumulated while a loop runs.

    Attributes:
      init: see :class:`InitMetric`.
      update: see :class:`UpdateMetric`.
      compute: see :class:`ComputeMetric`.
      definitions: what the metrics mean, for reports; a metric without one is listed without.
    """

    init: InitMetric
    update: UpdateMetric
    compute: ComputeMetric
    definitions: Mapping[str, Metric] = {}


EXPOSURE_SIGNALS = (CLICK.name, CONVERSION.name, SATISFACTION.name)
"""Signals whose metrics are those of :class:`~recjax.eval.Exposure`."""


def exposure_metrics() -> Accumulator:
    """What was shown and what came back: the metrics of :class:`~recjax.eval.Exposure`."""
    return Accumulator(
        init=lambda spec, items: Exposure.empty(items.num_items),
        update=lambda state, step, items: state.update(step.slate, step.response, step.reward, items),
        compute=lambda state, items: state.summary(items),
        definitions=definitions,
    )


def signal_metrics(signals: tuple[Signal, ...]) -> Accumulator:
    """The mean of each signal over the slots, or the slates, that were shown.

    >>> from recjax.response import WATCH_TIME
    >>> list(signal_metrics((WATCH_TIME,)).definitions)
    ['watch_time_per_slot']
    """
    names = {f"{signal.name}_per_{signal.per}": signal for signal in signals}

    def init(spec: Spec, items: Items) -> Total:
        return Total.zero((2, len(names)))

    def update(state: Total, step: Step, items: Items) -> Total:
        shown = (step.slate >= 0) & (step.slate < items.num_items)
        counts = {"slot": shown, "slate": jnp.any(shown, axis=-1)}
        answered = [jnp.where(counts[one.per], step.response.signal(one.name), 0.0) for one in names.values()]
        asked = [counts[one.per].astype(jnp.float32) for one in names.values()]
        return state.add(jnp.stack([jnp.stack([jnp.sum(x) for x in xs]) for xs in (answered, asked)]))

    def compute(state: Total, items: Items) -> dict[str, Array]:
        return dict(zip(names, state.value[0] / state.value[1], strict=True))

    described = {
        name: Metric(
            "depends", f"{signal.unit} per {signal.per}", "real", f"Mean over shown {signal.per}s. {signal.doc}."
        )
        for name, signal in names.items()
    }
    return Accumulator(init, update, compute, described)


def reward_metrics() -> Accumulator:
    """The mean reward of an action that is a vector, which shows no items."""

    def update(state: tuple[Total, Total], step: Step, items: Items) -> tuple[Total, Total]:
        return state[0].add(jnp.sum(step.reward)), state[1].add(jnp.asarray(step.reward.size, jnp.float32))

    return Accumulator(
        init=lambda spec, items: (Total.zero(), Total.zero()),
        update=update,
        compute=lambda state, items: {"reward": state[0].value / state[1].value},
        definitions={"reward": dataclasses.replace(definitions["reward"], definition="Mean reward of an action.")},
    )


def default_metrics(spec: Spec) -> tuple[Accumulator, ...]:
    """What a loop accumulates unless told otherwise."""
    if spec.action_space == "vector":
        return (reward_metrics(),)
    others = tuple(signal for signal in spec.signals if signal.name not in EXPOSURE_SIGNALS)
    return (exposure_metrics(), signal_metrics(others)) if others else (exposure_metrics(),)
