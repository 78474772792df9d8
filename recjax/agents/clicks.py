"""The supervised loss of agents: a clicked item is the class of a softmax over the catalogue."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax.catalogue import Negatives, accidental_hits, logsumexp, score_at
from recjax.catalogue.negatives import uniform
from recjax.losses import sampled_softmax
from recjax.nn import ScoringNetwork, catalogue_scores
from recjax.replay import Batch
from recjax.types import PAD_ID, Array, Items, PyTree, shown_items


@dataclasses.dataclass(frozen=True)
class ClickPrediction:
    """Predicting clicks: what a recommender learns from a loop, or what a Q-network learns beside values.

    The loss is the cross-entropy of the clicked slots of the first step of each window. Clicks alone
    count as positive; what was shown and not clicked is one of the other classes, no more.

    Attributes:
      network: a :class:`recjax.nn.ScoringNetwork` whose scores are logits, such as
        :class:`recjax.nn.Recommendation`; :class:`recjax.nn.DenseNetwork` makes one of any Flax module
        ``(observation, items) -> f32[B, N]``.
      weight: of the loss.
      negatives: how many uniform negatives, which a batch shares, estimate the normaliser of the softmax
        without bias; a row-wise optimiser needs them. None for the whole catalogue. The network then needs
        the method ``against`` of :class:`recjax.nn.Recommendation`.
    """

    network: ScoringNetwork
    weight: float = 1.0
    negatives: int | None = None

    def __post_init__(self) -> None:
        if self.negatives is not None and self.negatives < 1:
            raise ValueError(f"negatives is {self.negatives}; it must be at least 1, or None for the whole catalogue.")

    def draw(self, key: Array, num_items: int) -> Negatives | None:
        """The negatives of a batch; None for the whole catalogue."""
        return None if self.negatives is None else uniform(key, (self.negatives,), num_items)

    def loss(self, params: PyTree, batch: Batch, items: Items, drawn: Negatives | None) -> tuple[Array, Array]:
        """The mean loss, without ``weight``.

        Args:
          params: variables of the network.
          batch: windows of steps.
          items: the features of all items.
          drawn: what :meth:`draw` gave.

        Returns:
          ``(the mean loss f32[], how many clicks f32[])``; 0 without clicks.
        """
        step = jax.tree.map(lambda x: x[:, 0], batch.experience)
        shown = shown_items(step.slate, step.observation)
        clicked = step.response.signal("click") * ((shown != PAD_ID) & batch.valid[:, None])
        clicks, slate = jnp.sum(clicked), jnp.maximum(shown, 0)
        if drawn is None:
            queries, catalogue = catalogue_scores(self.network, params, step.observation, items)
            each = logsumexp(queries, catalogue)[:, None] - score_at(queries, catalogue, slate)
        else:
            own, others = self.network.apply(params, step.observation, slate, drawn.ids, items, method="against")
            each = jax.vmap(
                lambda ids, positive: sampled_softmax(
                    positive, others, logq=drawn.logq, hits=accidental_hits(ids, drawn.ids)
                ),
                in_axes=1,
                out_axes=1,
            )(slate, own)
        return jnp.sum(each * clicked) / jnp.maximum(clicks, 1.0), clicks


def items_read(batch: Batch, drawn: Negatives | None) -> tuple[Array, ...]:
    """The items whose own rows an update from the first step of each window reads, integers of any shapes."""
    step = jax.tree.map(lambda x: x[:, 0], batch.experience)
    shown = jnp.maximum(shown_items(step.slate, step.observation), 0)
    return step.observation.history, shown, *(() if drawn is None else (drawn.ids,))
