"""What networks, history encoders and feature encoders promise to those who call them.

Each promise is a base class of Flax modules. What a module can do is told by the class that it derives from
(``isinstance``) and by declared attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import flax.linen as nn

from recjax.catalogue import Catalogue, Choices, dense_scorer, score_at
from recjax.types import Array, Items, Observation, PyTree


class HistoryEncoder(nn.Module):
    """Base of encoders of histories: a left-padded sequence of vectors becomes one vector.

    The result must not depend on the vectors at masked positions, nor on how many of them precede the
    history. A history without any position gives any finite vector; callers replace it.

    Attributes:
      is_bidirectional: whether every position reads those behind it as well, so that the encoder predicts
        masked items rather than the next one.
    """

    is_bidirectional: ClassVar[bool] = False

    def __call__(
        self, vectors: Array, mask: Array, *, every_position: bool = False, time: Array | None = None
    ) -> Array:
        """Encodes histories.

        Args:
          vectors: ``[B, L, D]``.
          mask: ``bool[B, L]``, False at padding.
          every_position: whether to encode the history up to and with each position.
          time: ``i32[B, L]`` seconds, or None where the observation has no times.

        Returns:
          ``[B, D]``; with ``every_position``, ``[B, L, D]``.
        """
        raise NotImplementedError


class SequenceModel(nn.Module):
    """Base of modules that :func:`recjax.models.sequence.fit_sequences` trains.

    ``items`` below are the features of all items, or whatever else the module reads of them that has a
    ``num_items``, such as semantic ids.
    """

    @property
    def is_bidirectional(self) -> bool:
        """Whether the module predicts masked items rather than the next one."""
        raise NotImplementedError

    def represent(self, observation: Observation, items: Any, *, every_position: bool = False) -> Array:
        """Vectors of users, ``[B, dim]``; with ``every_position``, ``[B, L, dim]``."""
        raise NotImplementedError


class LikelihoodModel(SequenceModel):
    """A sequence model with a loss of its own for the next item, in place of one over the scores of items."""

    def next_item_loss(
        self, observation: Observation, target: Array, items: Any, *, every_position: bool = False
    ) -> Array:
        """The mean loss ``f32[]`` of the targets that are items.

        Args:
          observation: of a batch of users.
          target: ``i32[B]``, what follows each history; with ``every_position`` ``i32[B, L]``, what follows
            each position.
          items: see :class:`SequenceModel`.
          every_position: see above.
        """
        raise NotImplementedError


class ScoringNetwork(nn.Module):
    """Base of networks that score every item for a user.

    A Flax module ``(observation, items) -> f32[B, N]`` becomes one by :class:`DenseNetwork`.
    """

    @property
    def num_items(self) -> int | None:
        """``N`` where the network is built for a catalogue of that size, None where it takes any."""
        return None

    @property
    def is_noisy(self) -> bool:
        """Whether it has a :class:`recjax.nn.NoisyDense`, by which agents explore."""
        return False

    def catalogue(self, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        """``(queries, scorer)`` for the operations of :mod:`recjax.catalogue`."""
        raise NotImplementedError

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Scores ``f32[B, M]`` of the items ``actions: i32[B, M]``, all of them in ``0 .. N-1``."""
        return score_at(*self.catalogue(observation, items), actions)


class ItemVectorNetwork(ScoringNetwork):
    """A scoring network whose scores are inner products with vectors that each belong to one item.

    These vectors can be cached and refreshed item by item (:func:`recjax.nn.item_vectors`).
    """

    def queries(self, observation: Observation, items: Items) -> Array:
        """``f32[B, D]``."""
        raise NotImplementedError

    def item_vectors(self, ids: Array, items: Items) -> Array:
        """Rows ``ids: i32[...]`` of the index of :meth:`catalogue`, ``f32[..., D]``."""
        raise NotImplementedError


class ValueHead(Protocol):
    """What is said of the value of an item: a number, or numbers that describe a distribution."""

    def mean(self, outputs: Array) -> Array:
        """Expected values, ``f32[...]``, of outputs ``f32[..., *said of an item]``."""
        ...

    def td_loss(self, outputs_tm1: Array, r_t: Array, discount_t: Array, outputs_t: Array) -> Array:
        """The loss ``f32[...]`` of outputs, by ``r_t + discount_t *`` what those of the next step stand for.

        Args:
          outputs_tm1: of the chosen items, ``f32[..., *said of an item]``.
          r_t: ``f32[...]``.
          discount_t: ``f32[...]``, 0 where the episode terminated.
          outputs_t: of the next items, like ``outputs_tm1``; no gradient flows into them.
        """
        ...


class DistributionalNetwork(ScoringNetwork):
    """A scoring network that knows distributions of what items are worth; its scores are their means."""

    @property
    def head(self) -> ValueHead:
        """How distributions are described."""
        raise NotImplementedError

    def distributions(self, observation: Observation, actions: Array, items: Items) -> Array:
        """Those of the items ``actions: i32[B, M]``, ``f32[B, M, size]`` as :attr:`head` takes them."""
        raise NotImplementedError

    def at(self, observation: Observation, actions: Array, items: Items) -> Array:
        """See :class:`ScoringNetwork`."""
        return self.head.mean(self.distributions(observation, actions, items))


class Outcomes(NamedTuple):
    """What may come of given slates.

    Attributes:
      odds: ``f32[B, K]`` logits of choosing each slot, less that of choosing nothing.
      values: ``f32[B, K]`` what follows when the slot is chosen.
      nothing: ``f32[B]`` what follows when nothing is.
    """

    odds: Array
    values: Array
    nothing: Array


class SlateNetwork(nn.Module):
    """Base of networks that say what users choose and what each choice is worth."""

    def choices(self, observation: Observation, items: Items) -> Choices:
        """What each user chooses among: the catalogue, or the positions of the candidates where there are any."""
        raise NotImplementedError

    def outcomes(self, observation: Observation, slate: Array, items: Items) -> Outcomes:
        """The same of slates ``i32[B, K]`` of items (of positions), all of them in range; it has gradients."""
        choices = self.choices(observation, items)
        return Outcomes(score_at(*choices.odds, slate), score_at(*choices.values, slate), choices.nothing)


class DenseNetwork(ScoringNetwork):
    """Any Flax module ``(observation, items) -> f32[B, N]`` as a scoring network, with memory ``[B, N]``.

    Attributes:
      module: computes the scores of all items; its parameters stand below ``module``.
      noisy: whether ``module`` has a :class:`recjax.nn.NoisyDense`.
    """

    module: nn.Module
    noisy: bool = False

    @property
    def is_noisy(self) -> bool:
        """See :class:`ScoringNetwork`."""
        return self.noisy

    def __call__(self, observation: Observation, items: Items) -> Array:
        """Scores of every item, ``f32[B, N]``."""
        scores: Array = self.module(observation, items)
        return scores

    def catalogue(self, observation: Observation, items: Items) -> tuple[PyTree, Catalogue]:
        """See :class:`ScoringNetwork`."""
        return dense_scorer(self(observation, items))


class FeatureEncoder(Protocol):
    """A factory of Flax modules that encode a feature of items, as ``recjax.nn.feature_encoders`` holds them.

    The module is called with the values of some items, ``[..., *shape]`` each, and returns ``[..., dim]``.
    Where the feature states a ``size``, the factory is given that as well.
    """

    def __call__(self, *, dim: int, initial_norm: float, dtype: Any, name: str) -> nn.Module:
        """Makes the module.

        Args:
          dim: width of the result.
          initial_norm: about the norm of the result at the start.
          dtype: of the computation; parameters are float32.
          name: below which the parameters stand.
        """


@dataclasses.dataclass(frozen=True)
class OncePerItem:
    """An encoder that costs much, such as a language model, run once for each of the different items of a batch.

    Attributes:
      make: ``(*, dtype, name) -> module``, which is called with the values of some items and returns
        ``[M, V]`` vectors of any width; the adaptor of :class:`recjax.nn.ItemTower` brings them to ``dim``.
    """

    make: Callable[..., nn.Module]
