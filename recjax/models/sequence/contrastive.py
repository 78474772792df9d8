"""Self-supervised losses of histories: attributes of items."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from recjax.losses import masked_mean
from recjax.types import Array


def attribute_loss(hidden: Array, attribute_vectors: Array, attributes: Array, valid: Array | None = None) -> Array:
    """Binary cross-entropy of telling an item's attributes from what an encoder makes of its place.

    ``-Σₐ (yₐ log σ(hᵀ eₐ) + (1 - yₐ) log(1 - σ(hᵀ eₐ)))``, a sum over all attributes and a mean
    over the valid positions. The source puts a matrix between ``h`` and ``e``: apply a dense
    layer to ``hidden`` before.

    Args:
      hidden: ``[..., D]``, outputs of the encoder.
      attribute_vectors: ``[A, D]``, one an attribute.
      attributes: ``[..., A]`` of zeros and ones (or booleans), such as ``items.content[ids]``.
      valid: ``bool[...]``, which positions count: with those that are not masked it is
        associated attribute prediction, with those that are, masked attribute prediction. The
        others may hold anything. All count by default.

    Returns:
      ``f32[]``; 0 where no position is valid.

    Raises:
      ValueError: shapes do not fit.

    References:
      Zhou et al., "S3-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual
      Information Maximization", CIKM 2020.
    """
    positions = hidden.shape[:-1]
    if attribute_vectors.ndim != 2 or attribute_vectors.shape[1:] != hidden.shape[-1:]:
        raise ValueError(
            "hidden must have shape [..., D] and attribute_vectors [A, D];"
            f" got {hidden.shape} and {attribute_vectors.shape}."
        )
    if attributes.shape != (*positions, len(attribute_vectors)):
        raise ValueError(f"attributes must have shape {(*positions, len(attribute_vectors))}; got {attributes.shape}.")
    if valid is not None and valid.shape != positions:
        raise ValueError(f"valid must have shape {positions}, one a position; got {valid.shape}.")
    counts = jnp.ones(positions, bool) if valid is None else valid.astype(bool)
    wide = jnp.promote_types(jnp.result_type(hidden, attribute_vectors), jnp.float32)
    # Replaced before the loss, so that no gradient meets what stands at positions that do not count.
    hidden = jnp.where(counts[..., None], hidden.astype(wide), 0)
    attributes = jnp.where(counts[..., None], attributes.astype(wide), 0)
    logits = hidden @ attribute_vectors.astype(wide).T
    each = optax.sigmoid_binary_cross_entropy(logits, attributes).sum(axis=-1)
    return masked_mean(each, counts)
