"""Networks that say what users choose from a slate and what each choice is worth, for SlateQ."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.catalogue import Choices, ItemIndex, dense_scorer, lookup, score_at
from recjax.nn.contracts import Outcomes, SlateNetwork
from recjax.nn.q_networks import INITIAL_SCALE, with_one
from recjax.nn.similarity import normalize
from recjax.nn.towers import Towers
from recjax.types import Array, Items, Observation

TEMPERATURE = 0.1
"""Divides all that odds are made of, so that they move by logits while values move by tenths of rewards."""

USUAL_LOGIT = -3.0
"""Of choosing an item rather than nothing, before anything was learned: most slates are not clicked."""


class DotProductSlateQ(Towers, SlateNetwork):
    """Odds and values as inner products with one index of the catalogue.

    ``logit(s, i) = (cos(u_o(s), v(i)) + L(s) + c(i)) / temperature`` is what choosing item ``i`` has over choosing
    nothing, ``q(s, i) = scale * cos(u_q(s), v(i)) + V(s) + b(i)`` what follows when it is chosen, and ``V_0(s)`` what
    follows when nothing is, both in units of ``value_unit``. ``u_o`` and ``u_q`` are the user's vector and a linear map
    of it, which is zero at first. Item vectors are ``[v, 1, b, c]``, so that one index serves both.

    Attributes:
      value_unit: rewards that are 1 in what is learned of values. An optimiser such as Adam moves all parameters by
        steps of one size, which is little for the values of long sessions.
    """

    value_unit: float = 1.0

    def setup(self) -> None:
        """Declares the parameters.

        Raises:
          ValueError: ``value_unit`` is not above 0, or the widths of the towers differ.
        """
        super().setup()
        if not self.value_unit > 0:
            raise ValueError(f"value_unit is {self.value_unit}; it must be above 0.")
        self.scale = self.param("scale", nn.initializers.constant(INITIAL_SCALE), ())
        zeros = nn.initializers.zeros
        self.toward_odds = nn.Dense(self.user.dim, use_bias=False, kernel_init=zeros)
        self.toward_value = nn.Dense(self.user.dim, use_bias=False, kernel_init=zeros)
        self.levels = nn.Dense(3, kernel_init=nn.initializers.zeros)
        self.item_bias = self.param("item_bias", nn.initializers.zeros, (self.num_items, 1))
        self.item_odds = self.param("item_odds", nn.initializers.zeros, (self.num_items, 1))

    def __call__(self, observation: Observation, items: Items) -> Outcomes:
        """Odds and values of every item, ``f32[B, N]``, and the value of nothing, ``f32[B]``."""
        odds, values, nothing = self.queries(observation, items)
        vectors = self.item_index(items).vectors
        return Outcomes(odds @ vectors.T, values @ vectors.T, nothing)

    def queries(self, observation: Observation, items: Items) -> tuple[Array, Array, Array]:
        """Queries of odds and of values, ``f32[B, dim + 3]`` each, and the value of nothing, ``f32[B]``."""
        user = self.represent(observation, items).astype(jnp.float32)
        value, nothing, level = jnp.split(self.levels(user), 3, axis=-1)
        zero, one, unit = jnp.zeros_like(value), jnp.ones_like(value), self.value_unit
        toward_odds, toward_value = (normalize(user + turn(user)) for turn in (self.toward_odds, self.toward_value))
        odds = jnp.concatenate([toward_odds, level + TEMPERATURE * USUAL_LOGIT, zero, one], axis=-1) / TEMPERATURE
        values = unit * jnp.concatenate([self.scale * toward_value, value, one, zero], axis=-1)
        return odds, values, unit * nothing[:, 0]

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of :meth:`item_index`, ``f32[..., dim + 3]``."""
        vectors = with_one(normalize(self.item(ids, items).astype(jnp.float32)))
        return jnp.concatenate([vectors, lookup(self.item_bias, ids), lookup(self.item_odds, ids)], axis=-1)

    def item_index(self, items: Items) -> ItemIndex:
        """Vectors of the catalogue, which both queries are multiplied with."""
        vectors = with_one(normalize(self.item.all(items).astype(jnp.float32)))
        return ItemIndex(jnp.concatenate([vectors, self.item_bias, self.item_odds], axis=-1))

    def choices(self, observation: Observation, items: Items, index: ItemIndex | None = None) -> Choices:
        """See :class:`recjax.nn.SlateNetwork`; ``index`` are item vectors that were made before."""
        odds, values, nothing = self.queries(observation, items)
        index = self.item_index(items) if index is None else index
        if observation.candidates is None:
            return Choices((odds, index), (values, index), nothing)
        ids = observation.candidates.ids
        of_odds, of_values = (dense_scorer(score_at(queries, index, ids)) for queries in (odds, values))
        return Choices(of_odds, of_values, nothing)

    def outcomes(self, observation: Observation, slate: Array, items: Items) -> Outcomes:
        """See :class:`recjax.nn.SlateNetwork`; it reads the vectors of these items alone."""
        odds, values, nothing = self.queries(observation, items)
        if observation.candidates is not None:
            slate = jnp.maximum(jnp.take_along_axis(observation.candidates.ids, slate, axis=-1), 0)
        vectors = self.item_vectors(slate, items)
        odds, values = (jnp.einsum("bd,bkd->bk", queries, vectors) for queries in (odds, values))
        return Outcomes(odds, values, nothing)


class CandidateSlateQ(SlateNetwork):
    """Odds and values of the documents of a step, from what is known of the user and of each document.

    An MLP reads ``Observation.context``, a vector of the item that the document is, and the features of the document
    where there are any; another reads the context for the value of choosing nothing. Histories are not read.

    Attributes:
      hidden: widths of the hidden layers.
    """

    hidden: tuple[int, ...] = (256, 32)

    @nn.compact
    def __call__(self, observation: Observation, items: Items) -> Outcomes:
        """Odds and values of every candidate, ``f32[B, M]``, and the value of nothing, ``f32[B]``.

        Raises:
          ValueError: the observation has no context or no candidates.
        """
        if observation.context is None or observation.candidates is None:
            raise ValueError(
                "CandidateSlateQ reads Observation.context and Observation.candidates; one of them is None."
            )
        width, context = self.hidden[0], observation.context
        ids, features = observation.candidates.ids, observation.candidates.features
        of_ids = nn.Embed(items.num_items + 2, width, embedding_init=nn.initializers.normal(width**-0.5), name="items")
        document = of_ids(jnp.where(ids < 0, items.num_items + 1, ids))
        if features is not None:
            known = features.reshape(*ids.shape, -1)
            document += nn.Dense(width, use_bias=False, name="features")(known)
        both = nn.relu(nn.Dense(width, name="context")(context)[:, None] + document)
        small = nn.initializers.variance_scaling(INITIAL_SCALE**2, "fan_in", "truncated_normal")
        last = nn.Dense(2, kernel_init=small, name="outcomes")
        odds, values = jnp.moveaxis(self._rest(both, last, "both"), -1, 0)
        alone = nn.relu(nn.Dense(width, name="alone")(context))
        nothing = self._rest(alone, nn.Dense(1, kernel_init=small, name="nothing"), "alone")[..., 0]
        return Outcomes(odds, values, nothing)

    def _rest(self, hidden: Array, last: nn.Dense, name: str) -> Array:
        for number, width in enumerate(self.hidden[1:], start=1):
            hidden = nn.relu(nn.Dense(width, name=f"{name}_{number}")(hidden))
        return last(hidden)

    def choices(self, observation: Observation, items: Items) -> Choices:
        """See :class:`recjax.nn.SlateNetwork`."""
        odds, values, nothing = self(observation, items)
        return Choices(dense_scorer(odds), dense_scorer(values), nothing)

    def outcomes(self, observation: Observation, slate: Array, items: Items) -> Outcomes:
        """See :class:`recjax.nn.SlateNetwork`; it reads these documents alone."""
        if observation.candidates is not None:
            at = lambda x: jnp.take_along_axis(x, slate.reshape(*slate.shape, *(1,) * (x.ndim - 2)), axis=1)  # noqa: E731
            observation = dataclasses.replace(observation, candidates=jax.tree.map(at, observation.candidates))
        return self(observation, items)
