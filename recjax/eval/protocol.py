"""Protocols: everything besides the model that a ranking number depends on.

The same model on the same log can score three times as much under another protocol, so a
number travels with its protocol, and numbers of different protocols do not meet in one
table.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from recjax.eval.full_ranking import Ties

Seen = Literal["excluded", "kept"]
Negatives = Literal["uniform", "popularity"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """Full ranking: each target competes with every candidate item.

    Attributes:
      split: how training and held-out interactions were separated, in words.
      history_length: events of a history that a model is given.
      ks: cutoffs of the metrics.
      item_filter: which items take part, in words.
      seen: whether items that a user has met before are ``"excluded"`` from the ranking
        or ``"kept"``. A target that was seen before is a miss when they are excluded.
      ties: who goes first among equal scores, ``"lowest_id"`` or ``"average"``.

    Raises:
      ValueError: a field has a value that it cannot have.

    >>> print(Protocol(split="leave-one-out (last item)", history_length=50))
    split: leave-one-out (last item) | history: 50 | items: all | seen items: excluded | full ranking |
    ties: lowest id first | k: 10
    """

    split: str
    history_length: int
    ks: tuple[int, ...] = (10,)
    item_filter: str = "all"
    seen: Seen = "excluded"
    ties: Ties = "lowest_id"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ks", tuple(self.ks))
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"Protocol.ks is {self.ks}; give one or more cutoffs >= 1, e.g. (5, 10).")
        if self.history_length < 1:
            raise ValueError(f"Protocol.history_length is {self.history_length}; it must be >= 1.")
        _check_choice("seen", self.seen, get_args(Seen))
        _check_choice("ties", self.ties, get_args(Ties))

    @property
    def competitors(self) -> str:
        """What a target is ranked against, in words."""
        return "full ranking"

    def __str__(self) -> str:
        ties = {"lowest_id": "lowest id first", "average": "average rank"}[self.ties]
        ks = ", ".join(str(k) for k in self.ks)
        return (
            f"split: {self.split} | history: {self.history_length} | items: {self.item_filter}"
            f" | seen items: {self.seen} | {self.competitors} | ties: {ties} | k: {ks}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledProtocol(Protocol):
    """Sampled ranking: each target competes with a few random items only.

    Its numbers are far higher than those of full ranking and need not order models in the
    same way; use it to compare with published numbers that were made so.

    Attributes:
      num_negatives: random items per user, drawn without replacement from the candidates
        that are neither the target nor excluded; all of them where there are fewer.
      negatives: ``"uniform"``, or ``"popularity"`` for draws in proportion to it.
      seed: seed of the draws. A user's negatives do not depend on the batch.

    References:
      Krichene, Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020.

    >>> print(SampledProtocol(split="leave-one-out", history_length=50, num_negatives=100).competitors)
    SAMPLED ranking: 100 uniform negatives (seed 0)
    """

    num_negatives: int
    negatives: Negatives = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_negatives < 1:
            raise ValueError(f"SampledProtocol.num_negatives is {self.num_negatives}; it must be >= 1.")
        _check_choice("negatives", self.negatives, get_args(Negatives))

    @property
    def competitors(self) -> str:
        """What a target is ranked against, in words."""
        return f"SAMPLED ranking: {self.num_negatives} {self.negatives} negatives (seed {self.seed})"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"The protocol's {name} is {value!r}; choose one of {choices}.")
