"""Hooks of a training: callback, early stopping, progress, checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from recjax.fit.checkpoints import Checkpoints
from recjax.fit.progress import Progress

Callback = Callable[[int, Any], dict[str, float] | None]
"""``(epoch, params) -> metrics or None``, called on the host after each epoch; epochs count from 1."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops when a metric has not improved, and returns the best parameters.

    Attributes:
      metric: which of the epoch's metrics to watch, those of the callback among them.
      patience: epochs without improvement before training stops.
      maximise: whether larger is better.
    """

    metric: str
    patience: int = 3
    maximise: bool = True

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience={self.patience} would stop before any epoch could improve; use at least 1.")

    def best_epoch(self, history: list[dict[str, float]]) -> int:
        """The first epoch with the best metric, counted from 1."""
        if self.metric not in history[-1]:
            known = ", ".join(map(repr, history[-1]))
            raise ValueError(f"Early stopping watches {self.metric!r}, but an epoch has only {known}.")
        values = np.array([row[self.metric] for row in history])
        if np.isnan(values).all():
            raise ValueError(f"Early stopping watches {self.metric!r}, which is NaN in every epoch.")
        return int(np.nanargmax(values if self.maximise else -values)) + 1

    def is_due(self, history: list[dict[str, float]]) -> bool:
        """Whether the last ``patience`` epochs were no better than one before."""
        return bool(history) and len(history) - self.best_epoch(history) >= self.patience


@dataclasses.dataclass(frozen=True)
class Hooks:
    """The options that all trainers share.

    >>> hooks = Hooks(callback=lambda epoch, params: {"norm": float(np.abs(params).sum())})
    >>> hooks.callback(1, np.ones(3))
    {'norm': 3.0}

    Attributes:
      callback: called after each epoch, e.g. to validate; the metrics that it returns join the epoch's. It must not
        hold on to the parameters, whose memory the next epoch reuses.
      early_stopping: when to stop before the last epoch; the parameters of the best epoch are then the result.
      progress: where to show progress.
      checkpoints: where to save after each epoch. If there is a checkpoint, training continues from it, to results
        that are bit-identical with those of training that was never cut short.
    """

    callback: Callback | None = None
    early_stopping: EarlyStopping | None = None
    progress: Progress | None = None
    checkpoints: Checkpoints | None = None

    def map_params(self, function: Callable[[Any], Any]) -> Hooks:
        """The hooks of a trainer whose callback takes ``function(params)``, such as the model that they make."""
        callback = self.callback
        if callback is None:
            return self
        return dataclasses.replace(self, callback=lambda epoch, params: callback(epoch, function(params)))
