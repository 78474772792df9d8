"""Whether the state of a loop fits into memory, known from its shapes before any of it is made."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from recjax.loop.config import LoopConfig
from recjax.types import PyTree

if TYPE_CHECKING:
    from recjax.loop.program import LoopState

GIB = 2**30

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much memory a container may use."""


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays of a tree, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory_of_machine(devices: int = 1) -> int | None:
    """Bytes that ``devices`` devices can hold, None where the system does not tell."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else limit * devices
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Not on every system.
        return None
    for path in CGROUP_LIMITS:
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            found.append(int(text))
    return min(found)


def check_memory(needed: dict[str, int], devices: int = 1) -> None:
    """Raises ValueError where what is needed is more than the machine has.

    Args:
      needed: bytes by what they are for, with the options that they follow from.
      devices: devices among which they are divided.
    """
    limit, total = memory_of_machine(devices), sum(needed.values())
    if limit is not None and total > limit:
        largest = sorted(needed.items(), key=lambda part: -part[1])
        listed = ", ".join(f"{name} {size / GIB:,.1f}" for name, size in largest if size > 0.01 * total)
        raise ValueError(
            f"The loop needs at least {total / GIB:,.1f} GiB of memory, but there are {limit / GIB:,.1f} GiB."
            f" It would hold {listed}. Lower one of these options."
        )


def memory_of(state: LoopState, config: LoopConfig) -> dict[str, int]:
    """Bytes of the state of a loop and of its evaluations, as :func:`check_memory` takes them.

    Args:
      state: of one seed, or its shapes.
      config: the schedule.
    """
    users = tree_bytes(state.users)
    of_seed = {
        "replay (replay-capacity × seeds)": tree_bytes(state.replay),
        "users (users × seeds)": users,
        "users of evaluations (eval-users × seeds)": users * config.eval_users // config.users,
        "policies (items × width × seeds)": tree_bytes(state.agent),
    }
    return {name: size * config.seeds for name, size in of_seed.items()}
