"""Named studies: options that make a world of their own together."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from recjax.study.config import StudyConfig

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Much of what attracts clicks does not please, and users who are not pleased leave soon. What an item does to a
        # session shows late and in noise: learning it takes more users, longer returns, and means, not medians.
        "long-term": {
            "response_model.bait": 2.0,
            "response_model.leave_slope": 0.2,
            "steps": 800,
            "eval_every": 200,
            "users": 512,
            "batch_size": 512,
            "replay_capacity": 131_072,
            "learn.discount": 0.99,
            "learn.n_step": 20,
            "learn.loss": "mse",
            "learn.learning_rate": 1.5e-3,
            "learn.value_unit": 20.0,
            "learn.surrogates": ["satisfaction"],
        },
    }
)
"""Options by the name of the study, those of its parts named as in ``learn.discount``."""


def preset(name: str) -> StudyConfig:
    """The study of that name, all else as by default.

    >>> preset("long-term").response_model.bait
    2.0

    Raises:
      ValueError: there is no such study.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return StudyConfig().with_options(PRESETS[name])
