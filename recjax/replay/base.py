"""What a replay buffer is: three pure functions over a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Buffer(NamedTuple):
    """A memory of steps.

    Call ``add`` before ``sample`` within one compiled step and donate the state at the
    outermost ``jit``: a buffer that is written first is updated in place, one that is
    read first is copied.

    Attributes:
      init: ``(step) -> state`` where ``step`` is a :class:`~recjax.types.Step` of all
        users, leaves ``[U, ...]``; only its shapes and dtypes are used.
      add: ``(state, step) -> state`` remembers one step of every user.
      sample: ``(key, state, batch_size) -> sample``: a :class:`~recjax.types.Sample`
        with leaves ``[batch_size, n, ...]``; ``batch_size`` is a Python integer.
    """

    init: Callable
    add: Callable
    sample: Callable
