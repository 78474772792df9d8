"""How much to compute at once: a plan of shapes and the kind of device, made in Python before anything is traced."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax

BLOCK_SIZE = 4096
"""Items of a :class:`BlockScorer` that are scored at once unless it says otherwise."""

CACHED_SCORES = 2**21
"""Scores of a block on a CPU: as many as stay in its caches. Twice as many took four times as long an item."""

ACCELERATOR_SCORES = 2**25
"""Scores of a block elsewhere, where few large products beat many small ones: 128 MB of float32."""

DEVICES = ("cpu", "gpu", "cuda", "rocm", "tpu")
"""Kinds of devices, by the names that JAX has for backends and for platforms of ``jax.export``."""


COLUMNS = 128
"""Queries that are searched for at once on a CPU where each has a column of scores."""

FEWEST_COLUMNS = 32
"""Queries from which on columns are faster than rows on a CPU: they fill its registers."""

COLUMN_SCORES = 2**19
"""Scores of a block of columns."""


class Columns(NamedTuple):
    """Sizes of blocks in which each query has a column.

    Attributes:
      queries: how many are worked on at once.
      items: how many are scored at once.
    """

    queries: int
    items: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of blocks for a pass over a catalogue, from :func:`plan_for`.

    Attributes:
      block_size: items that are scored at once.
      scores_at_once: scores that may exist at once, over all queries.
      columns: sizes where a search is faster with a column for each query, else None.
    """

    block_size: int
    scores_at_once: int
    columns: Columns | None = None

    def __post_init__(self) -> None:
        for name, value in (("block_size", self.block_size), ("scores_at_once", self.scores_at_once)):
            if value < 1:
                raise ValueError(f"Plan.{name} is {value}; it must be at least 1.")

    def columns_of(self, block_size: int | None) -> Columns | None:
        """``columns`` for a scorer that asks for a number of items, or for none."""
        if self.columns is None or block_size is None:
            return self.columns
        return self.columns._replace(items=block_size)


def plan_for(num_items: int, batch: int, *, device: str | None = None) -> Plan:
    """The plan that suits a device: blocks of a power of two items whose scores fit its caches.

    Every operation of :mod:`recjax.catalogue` makes this plan itself where it is given none. State the device
    where a program is to run on another one than JAX's default, as after ``jax.export``.

    >>> plan_for(1_000_000, batch=256, device="cpu").block_size
    8192
    >>> plan_for(1_000_000, batch=4096, device="cuda").block_size
    8192

    Args:
      num_items: size of the catalogue.
      batch: queries scored together.
      device: one of ``DEVICES``; by default the one of ``jax.default_backend()``.

    Raises:
      ValueError: no device has that name.
    """
    scores = scores_at_once(device)
    power_of_two = 1 << max(scores // max(batch, 1), 1).bit_length() - 1
    block_size = max(BLOCK_SIZE // 8, min(4 * BLOCK_SIZE, power_of_two))
    columns = None
    if batch >= FEWEST_COLUMNS and (device or jax.default_backend()) == "cpu":
        queries = min(batch, COLUMNS)
        columns = Columns(queries, min(COLUMN_SCORES // queries, num_items))
    return Plan(max(1, min(block_size, num_items)), scores, columns)


def scores_at_once(device: str | None = None) -> int:
    """How many scores suit a device, by default the one of ``jax.default_backend()``.

    Raises:
      ValueError: no device has that name.
    """
    if device is not None and device not in DEVICES:
        raise ValueError(f"device is {device!r}; choose one of {', '.join(DEVICES)}, or None for JAX's default.")
    return CACHED_SCORES if (device or jax.default_backend()) == "cpu" else ACCELERATOR_SCORES
