"""Items for a vector: those nearest to it, of which a critic takes the best (Wolpertinger)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from recjax.agents.slates import SlatePolicy
from recjax.agents.state import check_problem
from recjax.catalogue import ItemIndex, normalize, top_k
from recjax.types import PAD_ID, Array, Items, Observation, Spec

Value = Callable[[Array], Array]
"""``(vectors f32[B, M, A]) -> f32[B, M]``: what a critic says of them."""


@dataclasses.dataclass(frozen=True)
class NearestItems:
    """Where items lie, and how a slate follows from a vector.

    The ``neighbours`` items with the largest cosines to the vector are found exactly, in one pass over the catalogue,
    and the K of them that a critic values most are shown. So a catalogue of any size is searched by a policy that
    knows no item, and only a few are valued.

    Attributes:
      vectors: ``f32[N, A]`` of the items; None takes their first feature of kind "vectors". They are divided by their
        norms, and stay what they are.
      neighbours: items that the critic chooses among, at least as many as a slate has.
      exclude_history: never show an item of the observed history.

    References:
      Dulac-Arnold et al., "Deep Reinforcement Learning in Large Discrete Action Spaces", arXiv 1512.07679, 2015.
    """

    vectors: ArrayLike | None = None
    neighbours: int = 32
    exclude_history: bool = True

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; it must be at least 1.")

    def table(self, spec: Spec, items: Items) -> Array:
        """The vectors, ``f32[N, A]`` of norm 1.

        Raises:
          ValueError: slates are of candidates, or larger than the neighbours; there are no vectors, or not one an item.
        """
        check_problem(spec, items, self.exclude_history)
        if spec.num_candidates:
            raise ValueError("Slates are of candidates, which have no vectors of their own; use agents.dqn.")
        if self.neighbours < spec.slate_size:
            raise ValueError(f"neighbours is {self.neighbours}; a slate has {spec.slate_size} slots, so give as many.")
        name = items.first("vectors")
        if self.vectors is None and name is None:
            raise ValueError("Items have no feature of kind 'vectors'; give NearestItems(vectors) f32[N, A].")
        table = jnp.asarray(items.features[name].values if self.vectors is None and name else self.vectors, jnp.float32)
        if table.ndim != 2 or len(table) != spec.num_items:
            raise ValueError(f"Vectors of items have shape {table.shape}; they must be ({spec.num_items}, A).")
        return normalize(table)

    def slate(self, table: Array, vector: Array, observation: Observation, spec: Spec, value: Value) -> Array:
        """The slate ``i32[B, K]`` for vectors ``f32[B, A]``, the most valued item first."""
        unwanted = SlatePolicy(exclude_history=self.exclude_history).unwanted(spec, observation)
        number = min(self.neighbours, spec.num_items)
        _, near = top_k(vector, ItemIndex(table), number, exclude=unwanted)
        values = jnp.where(near == PAD_ID, -jnp.inf, value(table[near]))
        _, ranked = jax.lax.sort((-values, near), dimension=1, num_keys=1)
        return ranked[:, : spec.slate_size]
