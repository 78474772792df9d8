"""How long and how wide a closed loop runs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """The schedule of a closed loop; every count is per seed."""

    steps: int = 400
    """Slates shown to every user."""
    users: int = 128
    """Users served in parallel."""
    seeds: int = 5
    """Independent repetitions, run side by side with vmap."""
    chunk: int = 50
    """Steps compiled into one scan. Progress, checkpoints and interrupts happen between chunks."""
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
    eval_every: int = 100
    """Steps between evaluations without exploration; one more precedes the first step."""
    eval_steps: int = 50
    """Slates shown to every user of an evaluation."""
    eval_users: int = 128
    """Users of an evaluation; they are new ones each time, and never learned from."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(LoopConfig):
            floor = 0 if field.name in ("steps", "learn_start") else 1
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < floor:
                raise ValueError(f"LoopConfig.{field.name} is {value!r}; it must be an integer >= {floor}.")
        for name in ("steps", "eval_every"):
            value = getattr(self, name)
            if value % self.chunk:
                nearest = max(1, round(value / self.chunk)) * self.chunk
                raise ValueError(
                    f"LoopConfig.{name} is {value}, which is not a multiple of chunk={self.chunk};"
                    f" use {name}={nearest}, or a chunk that divides {value}."
                )
        if self.replay_capacity < self.users:
            raise ValueError(
                f"LoopConfig.replay_capacity is {self.replay_capacity}, less than one step of users={self.users}."
            )
