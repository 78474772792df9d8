"""The item and user towers that recommendation and every Q-network share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import flax.linen as nn
import jax.numpy as jnp

from recjax.nn.contracts import SequenceModel
from recjax.nn.item import ItemTower
from recjax.nn.user import UserTower
from recjax.types import PAD_ID, Array, Items, Observation


class Towers(SequenceModel):
    """Base of networks over an item and a user tower.

    The parameters of the towers stand below ``item`` and ``user``, so trained towers move
    between networks (:func:`recjax.nn.warm_start`).

    Attributes:
      item: represents items.
      user: represents users, with vectors of the same width.
    """

    item: ItemTower
    user: UserTower

    @classmethod
    def of(
        cls,
        num_items: int,
        dim: int = 32,
        *,
        encoder: str | Callable[..., nn.Module] = "mean",
        dtype: Any = jnp.float32,
        **fields: Any,
    ) -> Self:
        """A network with towers of the usual kind, ``DotProductQ.of(1000, encoder="gru")``.

        Args:
          num_items: items in the catalogue (``N``).
          dim: width of item and user vectors.
          encoder: see :class:`UserTower`.
          dtype: of the computation in the towers; parameters and scores are float32.
          **fields: the other fields of the network.
        """
        item, user = ItemTower(num_items, dim, dtype=dtype), UserTower(dim, encoder, dtype=dtype)
        return cls(item=item, user=user, **fields)

    def setup(self) -> None:
        """Checks the towers.

        Raises:
          ValueError: their widths differ.
        """
        if self.item.dim != self.user.dim:
            raise ValueError(
                f"{type(self).__name__}.item.dim is {self.item.dim} but user.dim is {self.user.dim}; use one width."
            )

    @property
    def num_items(self) -> int:
        """Items in the catalogue (``N``)."""
        return self.item.num_items

    @property
    def is_bidirectional(self) -> bool:
        """Whether the encoder predicts masked items rather than the next one."""
        return self.user.is_bidirectional

    def represent(self, observation: Observation, items: Items, *, every_position: bool = False) -> Array:
        """Vectors of users, ``[B, dim]``; ``[B, L, dim]`` at every position of their histories."""
        observation = self._with_mask(observation, every_position)
        return self._encode(observation, self.item(observation.history, items), every_position)

    def represent_beside(
        self, observation: Observation, others: Sequence[Array], items: Items, *, every_position: bool = False
    ) -> tuple[Array, list[Array]]:
        """:meth:`represent`, and the vectors of other items, each item encoded once."""
        observation = self._with_mask(observation, every_position)
        history, *vectors = self.item.together((observation.history, *others), items)
        return self._encode(observation, history, every_position), vectors

    def _with_mask(self, observation: Observation, every_position: bool) -> Observation:
        append = self.is_bidirectional and not every_position
        return append_mask(observation, self.num_items) if append else observation

    def _encode(self, observation: Observation, history: Array, every_position: bool) -> Array:
        return self.user(observation, history / self.item.initial_norm, every_position=every_position)


def append_mask(observation: Observation, num_items: int) -> Observation:
    """The observation with a mask (item ``num_items``) behind every history, which grows by it."""

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
