"""The contract of environments: pure functions of one user, over a catalogue that all users share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax

from recjax.display import html_table
from recjax.registry import Registry
from recjax.types import Array, Items, Observation, PyTree, Response, Revealed, Spec, Step


class Transition(NamedTuple):
    """What one user does with one slate.

    Attributes:
      observation: what a platform sees of the user afterwards; environments do not reset themselves.
      state: the user's state afterwards.
      response: the signals that ``Spec.signals`` declares, ``f32[K]`` or ``f32[]``.
      terminated: ``bool[]`` the user left.
      truncated: ``bool[]`` the episode was cut off.
      info: scalars for diagnosis, never for policies.
    """

    observation: Observation
    state: PyTree
    response: Response
    terminated: Array
    truncated: Array
    info: dict[str, Array]


class Reset(Protocol):
    """A user arrives."""

    def __call__(self, key: Array, params: PyTree, world: PyTree) -> tuple[Observation, PyTree]:
        """Returns the observation and the state of one user, without a batch axis.

        Args:
          key: a PRNG key.
          params: ``Environment.params``.
          world: what changes for all users, None without :class:`InitWorld`.
        """
        ...


class Respond(Protocol):
    """A user answers."""

    def __call__(self, key: Array, state: PyTree, slate: Array, params: PyTree, world: PyTree) -> Transition:
        """Returns the :class:`Transition` of one user; a plain tuple of its six fields will do.

        Args:
          key: a PRNG key.
          state: the user's state.
          slate: ``i32[K]`` items, or positions in the candidates of the last observation; ``f32[A]`` where actions
            are vectors.
          params: ``Environment.params``.
          world: what changes for all users, None without :class:`InitWorld`.
        """
        ...


class InitWorld(Protocol):
    """The beginning of what changes for all users."""

    def __call__(self, key: Array, params: PyTree) -> PyTree:
        """Returns the world at step 0."""
        ...


class Tick(Protocol):
    """Time passes for all users, once all have responded."""

    def __call__(self, key: Array, world: PyTree, step: Step, params: PyTree) -> PyTree:
        """Returns the world after a step.

        Args:
          key: a PRNG key.
          world: as it was while users responded.
          step: what was shown to all users and what they answered, leaves ``[U, ...]``; ``slate`` holds items
            (or vectors), ``PAD_ID`` in rows without a user.
          params: ``Environment.params``.
        """
        ...


class Choose(Protocol):
    """A policy of somebody who sees everything, for a batch of users."""

    def __call__(self, key: Array, users: Revealed, setting: PyTree) -> Array:
        """Returns what to show: slates ``i32[B, K]`` (vectors ``f32[B, A]``) as :class:`Respond` takes them.

        Args:
          key: a PRNG key.
          users: what is seen of them, and what is not.
          setting: one of ``Oracle.settings``, None without them.
        """
        ...


class Oracle(NamedTuple):
    """A policy that sees what is hidden, and so tells what could be reached in an environment.

    Attributes:
      choose: see :class:`Choose`.
      doc: what it does, as a report says it. Where it is no optimum, it is a lower bound of what could be reached.
      settings: leaves ``[P, ...]`` of a small family of policies, the best of which is to be searched; or None.
    """

    choose: Choose
    doc: str
    settings: PyTree = None

    def each_setting(self) -> list[PyTree]:
        """The policies of the family, each as ``choose`` takes it; None alone where there is no family."""
        if self.settings is None:
            return [None]
        count = jax.tree.leaves(self.settings)[0].shape[0]
        return [jax.tree.map(lambda leaf, row=row: leaf[row], self.settings) for row in range(count)]


class Environment(NamedTuple):
    """A population of users as pure functions of one user; the loop maps them over users and seeds.

    Attributes:
      spec: static shape of the problem.
      params: pytree of what all users share and what never changes in a run (item tables,
        response model). It is never batched nor copied, however many seeds run.
      items: what a platform knows of the items. Policies get these, and never ``params``.
      reset: see :class:`Reset`.
      step: see :class:`Respond`.
      init_world: makes what changes for all users (stock, clock), or None where nothing does.
      tick: what becomes of it after each step, or None where it stays.
      oracles: policies that see what is hidden, by name: the yardsticks of a study.
    """

    spec: Spec
    params: PyTree
    items: Items
    reset: Reset
    step: Respond
    init_world: InitWorld | None = None
    tick: Tick | None = None
    oracles: Mapping[str, Oracle] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"Environment({'; '.join(f'{name}: {value}' for name, value in self._facts())})"

    def _repr_html_(self) -> str:
        return html_table("Environment", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        spec = self.spec
        shown = {
            "catalogue": f"slates of {spec.slate_size}",
            "candidates": f"slates of {spec.slate_size} out of {spec.num_candidates} candidates a step",
            "vector": f"vectors of {spec.action_size} numbers",
        }
        facts = [
            ("items", f"{spec.num_items:,}"),
            ("actions", shown[spec.action_space]),
            ("histories", f"the last {spec.history_length} events"),
            ("signals", ", ".join(signal.name for signal in spec.signals)),
        ]
        features = ", ".join(f"{name} ({feature.kind})" for name, feature in self.items.features.items())
        facts += [("item features", features)] if features else []
        return facts + ([("shared world", "changes with time")] if self.init_world is not None else [])

    def world(self, key: Array) -> PyTree:
        """The world at step 0, None where nothing changes for all users."""
        return None if self.init_world is None else self.init_world(key, self.params)


environments: Registry[Any] = Registry("environment")
register = environments.register
