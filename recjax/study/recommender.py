"""A trained policy put to use: recommendations for users of the log, and what they follow from."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from recjax import catalogue, data
from recjax.agents import Agent
from recjax.study.config import StudyConfig
from recjax.study.prepare import Prepared, prepare
from recjax.study.study import restore_policy
from recjax.types import PAD_ID, Observation, PyTree

EVIDENCE = 3
"""Items of the history that a recommendation is explained by."""


@dataclasses.dataclass(frozen=True)
class Recommended:
    """One recommended item.

    Attributes:
      item: its row.
      title: what to call it.
      score: of the policy; its meaning depends on the policy.
      follows_from: the most similar items of the user's history, ``(title, cosine)`` of the
        item vectors of the supervised model, most similar first.
    """

    item: int
    title: str
    score: float
    follows_from: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Recommender:
    """A policy of a study that has run, with the log it knows.

    Attributes:
      prepared: the study's log and supervised model.
      agent: the policy's agent.
      state: its state, of one seed.
    """

    prepared: Prepared
    agent: Agent
    state: PyTree

    @classmethod
    def restore(cls, config: StudyConfig, directory: str | Path, policy: str) -> Recommender:
        """Restores a policy, as its first seed left it, from the checkpoints of a study.

        Raises:
          ValueError: there is no checkpoint of that policy, or it does not score items.
        """
        prepared = prepare(config, directory=Path(directory), resume=True)
        agent, state = restore_policy(config, prepared, policy, directory)
        if agent.scores is None:
            raise ValueError(f"The policy {policy!r} does not score items, so it has none to recommend in order.")
        return cls(prepared, agent, state)

    def recommend(self, user: str, k: int = 10) -> tuple[list[str], list[Recommended]]:
        """The best items that a user of the log has not had.

        Args:
          user: the user's name in the log.
          k: how many items.

        Returns:
          Titles of the history that the policy sees, newest first, and the recommended
          items, best first; fewer than ``k`` where the user has had almost everything.

        Raises:
          ValueError: the log has no such user, or ``k`` is out of range.
        """
        dataset, env = self.prepared.dataset, self.prepared.env
        row = int(dataset.users.encode([user])[0])
        if row == dataset.users.oov:
            some = ", ".join(dataset.users.names[:5])
            raise ValueError(f"{dataset.name} has no user {user!r}; its {dataset.num_users:,} users are {some}, …")
        log = dataset.interactions.take(dataset.interactions.user == row)
        log = dataclasses.replace(log, user=np.zeros_like(log.user))
        sequence = data.sequences(log, num_users=1)
        history, behaviour = data.last_histories(sequence, env.spec.history_length)
        observation = Observation(history=history, behaviour=behaviour)
        seen, _ = data.last_histories(sequence, len(log))
        queries, items = self.agent.scores(self.state, observation)  # type: ignore[misc]
        scores, ids = catalogue.top_k(queries, items, k, exclude=seen)
        past = [int(item) for item in history[0] if item != PAD_ID]
        recommended = [
            Recommended(int(item), dataset.title(int(item)), float(score), self._follows_from(int(item), past))
            for item, score in zip(ids[0], scores[0], strict=True)
            if item != PAD_ID
        ]
        return [dataset.title(item) for item in reversed(past)], recommended

    def _follows_from(self, item: int, past: list[int]) -> tuple[tuple[str, float], ...]:
        similarity = self._vectors[past] @ self._vectors[item]
        nearest = np.argsort(-similarity, kind="stable")[:EVIDENCE]
        return tuple((self.prepared.dataset.title(past[i]), float(similarity[i])) for i in nearest)

    @functools.cached_property
    def _vectors(self) -> np.ndarray:
        """``f32[N, D]`` normalised item vectors of the supervised model."""
        policies = self.prepared.policies
        model, items = policies.recommendation, self.prepared.env.items
        index: Any = model.apply(policies.params, items, method="item_index")
        return np.asarray(index.vectors)
