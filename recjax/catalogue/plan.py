"""How much to compute at once: a plan of shapes and the kind of device, made in Python before anything is traced."""

from __future__ import annotations

import dataclasses

import jax

BLOCK_SIZE = 4096
"""Items of a :class:`BlockScorer` that are scored at once unless it says otherwise."""

CACHED_SCORES = 2**21
"""Scores of a block on a CPU: as many as stay in its caches. Twice as many took four times as long an item."""

ACCELERATOR_SCORES = 2**25
"""Scores of a block elsewhere, where few large products beat many small ones: 128 MB of float32."""

DEVICES = ("cpu", "gpu", "cuda", "rocm", "tpu")
"""Kinds of devices, by the names that JAX has for backends and for platforms of ``jax.export``."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of blocks for a pass over a catalogue, from :func:`plan_for`.

    Attributes:
      block_size: items that are scored at once.
      scores_at_once: scores that may exist at once, over all queries.
    """

    block_size: int
    scores_at_once: int

    def __post_init__(self) -> None:
        for name, value in (("block_size", self.block_size), ("scores_at_once", self.scores_at_once)):
            if value < 1:
                raise ValueError(f"Plan.{name} is {value}; it must be at least 1.")


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
    return Plan(max(1, min(block_size, num_items)), scores)


def scores_at_once(device: str | None = None) -> int:
    """How many scores suit a device, by default the one of ``jax.default_backend()``.

    Raises:
      ValueError: no device has that name.
    """
    if device is not None and device not in DEVICES:
        raise ValueError(f"device is {device!r}; choose one of {', '.join(DEVICES)}, or None for JAX's default.")
    return CACHED_SCORES if (device or jax.default_backend()) == "cpu" else ACCELERATOR_SCORES
