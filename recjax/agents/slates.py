"""How an agent that rates items makes slates: what may be shown, greedily or by exploration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from recjax.agents.base import Act, Action, LogProb
from recjax.agents.exploration import certain, explorations, greedy, is_possible
from recjax.catalogue import Catalogue, as_scorer, dense_scorer, score_at
from recjax.types import PAD_ID, Array, Behaviour, Observation, PyTree, Spec


class Selection(NamedTuple):
    """What slates of a batch of users are chosen from.

    Attributes:
      queries: as the operations of :mod:`recjax.catalogue` take them, with ``items``.
      items: the catalogue, or the positions of the candidates.
      exclude: ``i32[B, E]`` what must not be shown; None where everything may.
      best: ``i32[B, K]`` the best slate, which is the top-k of the rest, where it is known already.
    """

    queries: PyTree
    items: Catalogue
    exclude: Array | None
    best: Array | None = None


Rate = Callable[[Any, Observation], tuple[PyTree, Catalogue]]
"""``(state, observation) -> (queries, items)``, as ``Agent.scores``."""

Select = Callable[[Any, Observation], Selection]
"""``(state, observation) -> Selection``."""


@dataclasses.dataclass(frozen=True)
class SlatePolicy:
    """How slates follow from scores.

    Attributes:
      exploration: a name in ``recjax.agents.explorations``: "epsilon_greedy" or "boltzmann".
      epsilon: default ε of a slot, a constant or ``(start, end, steps)``, linear in steps.
      temperature: default temperature of Boltzmann exploration, in units of the scores.
      exclude_history: never show an item of the observed history.
    """

    exploration: str = "epsilon_greedy"
    epsilon: float | tuple[float, float, int] = (0.3, 0.05, 1000)
    temperature: float = 0.1
    exclude_history: bool = True

    def __post_init__(self) -> None:
        explorations[self.exploration]
        start, end, steps = self._schedule
        if not (0 <= start <= 1 and 0 <= end <= 1 and steps >= 0):
            raise ValueError(
                f"epsilon is {self.epsilon}; give a number in [0, 1], or (start, end, steps) with steps >= 0."
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0.")

    @property
    def _schedule(self) -> tuple[float, float, int]:
        return self.epsilon if isinstance(self.epsilon, tuple) else (self.epsilon, self.epsilon, 0)

    def hparams(self) -> dict[str, Any]:
        """The fields of :class:`~recjax.agents.ExplorationHyper`."""
        start, end, steps = self._schedule
        return {
            "epsilon_start": float(start),
            "epsilon_end": float(end),
            "epsilon_steps": int(steps),
            "temperature": float(self.temperature),
        }

    def functions(self, select: Select) -> tuple[Act, LogProb]:
        """``act`` and ``log_prob`` of an agent that rates items.

        Args:
          select: what slates are chosen from, see :meth:`select`; states have the fields ``spec``, ``hparams``
            (:class:`~recjax.agents.ExplorationHyper`) and ``acted``.
        """
        exploration = explorations[self.exploration]

        def act(key: Array, state: Any, observation: Observation, *, explore: bool = True) -> Action:
            chosen, slots = select(state, observation), state.spec.slate_size
            if not explore and chosen.best is not None:
                return certain(chosen.best)
            if not explore:
                return greedy(chosen.queries, chosen.items, slots, exclude=chosen.exclude)
            options: dict[str, Any] = {"exclude": chosen.exclude, "best": chosen.best}
            options |= {"hparams": state.hparams, "step": state.acted}
            return exploration.draw(key, chosen.queries, chosen.items, slots, **options)

        def log_prob(state: Any, observation: Observation, slate: Array, *, explore: bool = True) -> Array:
            chosen = select(state, observation)
            if not explore:
                return greedy_log_prob(chosen, slate)
            options: dict[str, Any] = {"exclude": chosen.exclude, "best": chosen.best}
            options |= {"hparams": state.hparams, "step": state.acted}
            found = exploration.log_prob(chosen.queries, chosen.items, slate, **options)
            return jnp.where(is_possible(slate, as_scorer(chosen.items).num_items, chosen.exclude), found, -jnp.inf)

        return act, log_prob

    def select(self, rate: Rate) -> Select:
        """What an agent that rates the whole catalogue chooses slates from.

        Args:
          rate: the agent's ``scores``; states have the field ``spec``.
        """
        return lambda state, seen: self.choices(state.spec, seen, *rate(state, seen))

    def choices(self, spec: Spec, observation: Observation, queries: PyTree, items: Catalogue) -> Selection:
        """What a slate is chosen from, where ``items`` score the whole catalogue."""
        unwanted = self.unwanted(spec, observation)
        if observation.candidates is None:
            return Selection(queries, items, unwanted)
        return Selection(*dense_scorer(score_at(queries, items, observation.candidates.ids)), unwanted)

    def unwanted(self, spec: Spec, observation: Observation) -> Array | None:
        """Items (positions of candidates) that must not be shown, ``i32[B, E]``; None where everything may."""
        history = history_items(spec, observation) if self.exclude_history else None
        return history if observation.candidates is None else unwanted_candidates(observation, history)


def history_items(spec: Spec, observation: Observation) -> Array:
    """The items that users responded to, ``i32[B, L]``; impressions are left out."""
    if not spec.has_impressions:
        return observation.history
    return jnp.where(observation.behaviour == int(Behaviour.IMPRESSION), PAD_ID, observation.history)


def unwanted_candidates(observation: Observation, history: Array | None) -> Array:
    """The positions ``i32[B, M]`` of candidates that are padding or in ``history``, ``PAD_ID`` in other places."""
    assert observation.candidates is not None
    ids = observation.candidates.ids
    unwanted = ~observation.candidates.mask
    if history is not None:
        unwanted |= jnp.any(ids[:, :, None] == history[:, None, :], axis=-1)
    return jnp.where(unwanted, jnp.arange(ids.shape[-1])[None], PAD_ID)


def greedy_log_prob(chosen: Selection, slate: Array) -> Array:
    """0 for the greedy slate and ``-inf`` for any other, ``f32[B]``."""
    best = chosen.best
    if best is None:
        best = greedy(chosen.queries, chosen.items, slate.shape[-1], exclude=chosen.exclude).slate
    return jnp.where(jnp.all(slate == best, axis=-1), 0.0, -jnp.inf)
