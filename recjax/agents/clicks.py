"""The supervised loss of agents: a clicked item is the class of a softmax over the catalogue."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from recjax.catalogue import Negatives, accidental_hits, logsumexp, score_at
from recjax.losses import sampled_softmax
from recjax.nn import catalogue_scores
from recjax.types import PAD_ID, Array, Items, PyTree, Sample


def click_loss(
    network: Any, params: PyTree, sample: Sample, items: Items, drawn: Negatives | None
) -> tuple[Array, Array]:
    """Cross-entropy of the clicked slots of the first step of each window.

    Clicks alone count as positive; what was shown and not clicked is one of the other classes,
    no more.

    Args:
      network: logits of every item, such as :class:`recjax.nn.Recommendation`.
      params: its variables.
      sample: windows of steps.
      items: the features of all items.
      drawn: negatives that estimate the normaliser of the softmax without bias; None for the
        whole catalogue.

    Returns:
      ``(the mean loss f32[], how many clicks f32[])``; 0 without clicks.
    """
    step = jax.tree.map(lambda x: x[:, 0], sample.steps)
    clicked = step.response.click * ((step.slate != PAD_ID) & sample.valid[:, None])
    clicks, slate = jnp.sum(clicked), jnp.maximum(step.slate, 0)
    if drawn is None:
        queries, catalogue = catalogue_scores(network, params, step.observation, items)
        each = logsumexp(queries, catalogue)[:, None] - score_at(queries, catalogue, slate)
    else:
        shown, others = network.apply(params, step.observation, slate, drawn.ids, items, method="against")
        each = jax.vmap(
            lambda ids, positive: sampled_softmax(
                positive, others, logq=drawn.logq, hits=accidental_hits(ids, drawn.ids)
            ),
            in_axes=1,
            out_axes=1,
        )(slate, shown)
    return jnp.sum(each * clicked) / jnp.maximum(clicks, 1.0), clicks
