"""The contract of agents: pure functions over a state, for a batch of users."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from recjax.catalogue import Catalogue
from recjax.registry import Registry
from recjax.replay import Batch, Memory
from recjax.types import Array, Items, Observation, PyTree, Spec


class Action(NamedTuple):
    """What a policy shows a batch of users.

    Attributes:
      slate: ``i32[B, K]`` items without repeats, or positions in the candidates; ``f32[B, A]`` where
        actions are vectors.
      log_prob: ``f32[B]`` log-probability of the whole slate in its order (log-density of a vector).
      extras: what the agent wants to see again when it learns (a value, the probabilities of
        slots), any pytree of arrays ``[B, ...]``.
    """

    slate: Array
    log_prob: Array
    extras: PyTree = None


class Update(NamedTuple):
    """What one update leaves.

    Attributes:
      state: the agent's state afterwards.
      metrics: scalars of the update.
      priorities: ``f32[B]`` how soon the rows of the batch should be drawn again, for a memory that
        draws by priority; None otherwise.
    """

    state: PyTree
    metrics: dict[str, Array]
    priorities: Array | None = None


class Init(Protocol):
    """Makes the state that an agent begins with."""

    def __call__(self, key: Array, spec: Spec, items: Items, hparams: PyTree = None, params: PyTree = None) -> PyTree:
        """Returns the state; what seeds have in common is declared with :func:`recjax.types.shared`.

        Args:
          key: a PRNG key.
          spec: static shape of the problem.
          items: what a platform knows of the items.
          hparams: replaces ``Agent.hparams``.
          params: warm-starts the network.
        """
        ...


class Act(Protocol):
    """Chooses what to show."""

    def __call__(self, key: Array, state: PyTree, observation: Observation, *, explore: bool = True) -> Action:
        """Returns the action for a batch of users.

        Args:
          key: a PRNG key.
          state: the agent's state.
          observation: leaves ``[B, ...]``.
          explore: a Python bool; False for the policy as it would be evaluated.
        """
        ...


class Tick(Protocol):
    """Counts a step of the environment."""

    def __call__(self, state: PyTree) -> PyTree:
        """Returns the state after one more step, in which every user was shown something."""
        ...


class Learn(Protocol):
    """One batched update."""

    def __call__(self, key: Array, state: PyTree, batch: Batch) -> Update:
        """Returns the :class:`Update` from experience that ``Agent.memory`` gave."""
        ...


class LogProb(Protocol):
    """The exact probability of slates, which off-policy evaluation asks for."""

    def __call__(self, state: PyTree, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
        """Returns ``f32[B]``, the log-probability with which ``act`` shows ``slate`` to these users.

        ``-inf`` for a slate that is never shown.
        """
        ...


class Scores(Protocol):
    """How a policy rates every item."""

    def __call__(self, state: PyTree, observation: Observation) -> tuple[PyTree, Catalogue]:
        """Returns ``(queries, items)`` as the operations of :mod:`recjax.catalogue` take them."""
        ...


class Agent(NamedTuple):
    """A policy and how it learns.

    Attributes:
      init: see :class:`Init`.
      act: see :class:`Act`.
      learn: see :class:`Learn`; None for agents that do not learn.
      log_prob: see :class:`LogProb`; None where it cannot be told.
      scores: see :class:`Scores`; None for policies that do not rate items.
      memory: the experience that ``learn`` is given, such as :func:`recjax.replay.uniform`; the loop
        makes it. None for agents that do not learn.
      hparams: default hyper-parameters, a pytree of scalars that may be traced, and mapped over seeds.
      tick: see :class:`Tick`; a loop calls it once a step, before it learns. Schedules of exploration count by it. None
        for agents that count nothing.
      is_oracle: whether ``act`` is given :class:`recjax.types.Revealed` in place of an observation. Such a policy
        says what could be reached, and cannot be served.
    """

    init: Init
    act: Act
    learn: Learn | None = None
    log_prob: LogProb | None = None
    scores: Scores | None = None
    memory: Memory | None = None
    hparams: PyTree = None
    tick: Tick | None = None
    is_oracle: bool = False


agents: Registry[Any] = Registry("agent")
register = agents.register
