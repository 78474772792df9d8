"""How long and how wide a closed loop runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container
from typing import Any


def check_counts(config: Any, of: type, may_be_zero: Container[str] = ()) -> None:
    """Raises ValueError where a field of the class ``of`` is no integer of at least 1, or 0 for the fields named."""
    for field in dataclasses.fields(of):
        floor = 0 if field.name in may_be_zero else 1
        value = getattr(config, field.name)
        if not isinstance(value, int) or value < floor:
            raise ValueError(f"{of.__name__}.{field.name} is {value!r}; it must be an integer >= {floor}.")


def check_multiple(config: Any, name: str) -> None:
    """Raises ValueError where the field ``name`` is not a multiple of ``config.chunk``."""
    value, chunk = getattr(config, name), config.chunk
    if value % chunk:
        nearest = max(1, round(value / chunk)) * chunk
        raise ValueError(
            f"{type(config).__name__}.{name} is {value}, which is not a multiple of chunk={chunk};"
            f" use {name}={nearest}, or a chunk that divides {value}."
        )


CHUNK, EVAL_EVERY = 50, 100
"""What :func:`fit_schedule` comes close to."""


def fit_schedule(steps: int, chunk: int, eval_every: int) -> tuple[int, int]:
    """``(chunk, eval_every)`` that suit ``steps``; one that is not 0 stays as it is.

    A chunk divides the steps and the time between evaluations. Short runs are evaluated about four times.

    >>> fit_schedule(400, 0, 0), fit_schedule(30, 0, 0), fit_schedule(30, 10, 0), fit_schedule(400, 0, 80)
    ((50, 100), (6, 6), (10, 10), (40, 80))
    """
    between = eval_every or max(1, min(EVAL_EVERY, steps // 4 or EVAL_EVERY))
    if not chunk:
        whole = math.gcd(steps, eval_every) or CHUNK
        wanted = min(CHUNK, between)
        divisors = (number for number in range(1, whole + 1) if whole % number == 0)
        chunk = min(divisors, key=lambda number: abs(math.log(number / wanted)))
    return chunk, eval_every or max(1, round(between / chunk)) * chunk


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """The schedule of a closed loop; every count is per seed."""

    steps: int = 400
    """Slates shown to every user."""
    users: int = 128
    """Users served in parallel."""
    seeds: int = 5
    """Independent repetitions, run side by side with vmap."""
    chunk: int = 0
    """Steps compiled into one scan. Progress, checkpoints and interrupts happen between chunks. 0 takes about 50."""
    batch_size: int = 128
    """Windows drawn from replay for one update."""
    replay_capacity: int = 65_536
    """Steps that replay holds, over all users."""
    learn_start: int = 20
    """Steps before the first update."""
    learn_every: int = 1
    """Steps between updates."""
    updates: int = 1
    """Updates done each time."""
    eval_every: int = 0
    """Steps between evaluations without exploration; one more precedes the first step. 0 takes at most about 100."""
    eval_steps: int = 50
    """Slates shown to every user of an evaluation."""
    eval_users: int = 128
    """Users of an evaluation, the same ones each time, who are never learned from."""

    def __post_init__(self) -> None:
        check_counts(self, LoopConfig, may_be_zero=("steps", "learn_start", "chunk", "eval_every"))
        for name, value in zip(
            ("chunk", "eval_every"), fit_schedule(self.steps, self.chunk, self.eval_every), strict=True
        ):
            object.__setattr__(self, name, value)  # The configuration is frozen only once it is whole.
        check_multiple(self, "steps")
        check_multiple(self, "eval_every")
        if self.replay_capacity < self.users:
            raise ValueError(
                f"LoopConfig.replay_capacity is {self.replay_capacity}, less than one step of users={self.users}."
            )
