"""The contract of memories: what an agent asks to learn from, and the buffer that a loop makes of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from recjax.types import Array, PyTree


class Batch(NamedTuple):
    """Experience to learn from: windows of consecutive steps of single users.

    Attributes:
      experience: what was added, leaves ``[B, n, ...]``, oldest first. A window may run over the end of an
        episode; ``terminated`` and ``truncated`` of a :class:`~recjax.types.Step` say where.
      valid: ``bool[B]``, False for rows that must not be learned from, such as those of a memory that
        does not hold a whole window yet.
      indices: ``i32[B]`` where each window begins, as :class:`UpdatePriorities` takes it.
      probabilities: ``f32[B]`` the probability with which one draw gives each window.
    """

    experience: PyTree
    valid: Array
    indices: Array
    probabilities: Array


class Init(Protocol):
    """Makes room."""

    def __call__(self, experience: PyTree) -> PyTree:
        """Returns an empty state for experience of the shapes and dtypes of ``experience``, leaves ``[U, ...]``."""
        ...


class Add(Protocol):
    """Remembers."""

    def __call__(self, state: PyTree, experience: PyTree) -> PyTree:
        """Returns the state with one step of every user, leaves ``[U, ...]``."""
        ...


class Sample(Protocol):
    """Draws."""

    def __call__(self, key: Array, state: PyTree, batch_size: int) -> Batch:
        """Returns ``batch_size`` windows; a memory that gives all it holds has a batch of its own size."""
        ...


class UpdatePriorities(Protocol):
    """Changes how likely windows are drawn."""

    def __call__(self, state: PyTree, indices: Array, priorities: Array) -> PyTree:
        """Returns the state with ``priorities: f32[B]`` of the windows at ``indices: i32[B]``."""
        ...


class Buffer(NamedTuple):
    """A memory of experience, generic in what experience is: any pytree of arrays with a leading user axis.

    Call ``add`` before ``sample`` within one compiled step and donate the state at the
    outermost ``jit``: a buffer that is written first is updated in place, one that is
    read first is copied.

    Attributes:
      init: see :class:`Init`.
      add: see :class:`Add`.
      sample: see :class:`Sample`.
      update: see :class:`UpdatePriorities`; None where all windows are equally likely.
    """

    init: Init
    add: Add
    sample: Sample
    update: UpdatePriorities | None = None


class MakeBuffer(Protocol):
    """Makes a buffer of a size."""

    def __call__(self, capacity: int) -> Buffer:
        """Returns a buffer for at most ``capacity`` steps of single users."""
        ...


class Memory(NamedTuple):
    """What an agent asks to learn from; a loop makes the buffer, so that it need not know the agent.

    Attributes:
      make: see :class:`MakeBuffer`.
      window: consecutive steps in a row of a batch (the ``n`` of n-step returns).
      period: steps between updates where the memory says when (a rollout is full); None where the
        schedule of the loop does.
    """

    make: MakeBuffer
    window: int = 1
    period: int | None = None
