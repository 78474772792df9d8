"""The item and user towers that recommendation and every Q-network share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.history import asks_at_gap
from recjax.nn.item import Fusion, ItemRepresentation
from recjax.nn.user import UserRepresentation
from recjax.types import PAD_ID, Array, Items, Observation


class Towers(nn.Module):
    """Base of networks over an item and a user representation.

    The towers are submodules named ``item`` and ``user``, so trained representations move
    between networks (:func:`recjax.nn.warm_start`).

    Attributes:
      num_items: items in the catalogue (``N``).
      dim: width of item and user vectors.
      encoder: how a history becomes a vector, see :class:`UserRepresentation`.
      use_behaviour: see :class:`UserRepresentation`.
      project: see :class:`UserRepresentation`.
      use_id: see :class:`ItemRepresentation`.
      text_vocabulary: see :class:`ItemRepresentation`.
      adaptor: see :class:`ItemRepresentation`.
      text_encoder: see :class:`ItemRepresentation`.
      fusion: see :class:`ItemRepresentation`.
      id_dropout: see :class:`ItemRepresentation`.
      item_norm: see :class:`ItemRepresentation`'s ``initial_norm``; encoders of histories are
        given vectors divided by it, so that it sets how fast items learn and nothing else.
      item_dropout: see :class:`ItemRepresentation`'s ``dropout``.
      dtype: of the computation in the towers; parameters and scores are float32.
    """

    num_items: int
    dim: int = 32
    encoder: str | Callable[..., nn.Module] = "mean"
    use_behaviour: bool = True
    project: bool = True
    use_id: bool = True
    text_vocabulary: int = 0
    adaptor: str | Callable[..., nn.Module] = "linear"
    text_encoder: Callable[..., nn.Module] | None = None
    fusion: Fusion = "sum"
    id_dropout: float = 0.0
    item_norm: float = 1.0
    item_dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declares the parameters."""
        self.item = ItemRepresentation(
            self.num_items,
            self.dim,
            use_id=self.use_id,
            text_vocabulary=self.text_vocabulary,
            adaptor=self.adaptor,
            text_encoder=self.text_encoder,
            fusion=self.fusion,
            id_dropout=self.id_dropout,
            initial_norm=self.item_norm,
            dropout=self.item_dropout,
            dtype=self.dtype,
        )
        self.user = UserRepresentation(
            self.dim,
            encoder=self.encoder,
            use_behaviour=self.use_behaviour,
            project=self.project,
            dtype=self.dtype,
        )

    def represent(self, observation: Observation, items: Items, *, every_position: bool = False) -> Array:
        """Vectors of users, ``[B, dim]``; ``[B, L, dim]`` at every position of their histories."""
        observation = self._asked(observation, every_position)
        return self._encode(observation, self.item(observation.history, items), every_position)

    def represent_beside(
        self, observation: Observation, others: Sequence[Array], items: Items, *, every_position: bool = False
    ) -> tuple[Array, list[Array]]:
        """:meth:`represent`, and the vectors of other items, each item encoded once."""
        observation = self._asked(observation, every_position)
        history, *vectors = self.item.together((observation.history, *others), items)
        return self._encode(observation, history, every_position), vectors

    def _asked(self, observation: Observation, every_position: bool) -> Observation:
        gap = asks_at_gap(self.encoder) and not every_position
        return with_gap(observation, self.num_items) if gap else observation

    def _encode(self, observation: Observation, history: Array, every_position: bool) -> Array:
        return self.user(observation, history / self.item_norm, every_position=every_position)


def with_gap(observation: Observation, num_items: int) -> Observation:
    """A gap (item ``num_items``) behind every history, which grows by it."""

    def append(events: Array, last: Array) -> Array:
        return jnp.concatenate([events, last], axis=1)

    column = observation.history[:, -1:]
    time = None if observation.time is None else append(observation.time, observation.time[:, -1:])
    return dataclasses.replace(
        observation,
        history=append(observation.history, jnp.full_like(column, num_items)),
        behaviour=append(observation.behaviour, jnp.full_like(column, PAD_ID)),
        time=time,
    )
