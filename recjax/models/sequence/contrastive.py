"""Self-supervised losses of histories: views against each other, attributes of items."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from recjax.catalogue import normalize, sampled_softmax
from recjax.types import Array


def info_nce(
    first: Array,
    second: Array,
    *,
    temperature: float | Array,
    valid: Array | None = None,
    alike: Array | None = None,
) -> Array:
    """NT-Xent: each of the ``2B`` views has to tell its partner from the views of other examples.

    With cosine ``s(u, v)``, the loss of view ``u`` whose partner is ``u⁺`` is ``-log(exp(s(u, u⁺)
    / τ) / Σᵥ exp(s(u, v) / τ))``, where ``v`` runs over all views but ``u``; an example's is the
    mean over its two views. The mean over valid examples is the loss of SimCLR.

    Args:
      first: ``[B, D]``, one view of each example.
      second: ``[B, D]``, the other.
      temperature: ``τ``, above 0.
      valid: ``bool[B]``; an example that is not valid has loss 0 and is no negative of others,
        whatever its vectors hold. All are by default.
      alike: ``bool[B, B]``, symmetric: which examples are no negatives of each other, such as those
        that are equal. None are by default.

    Returns:
      ``f32[B]``; 0 where no other example is valid.

    Raises:
      ValueError: shapes differ, or ``temperature`` is not above 0.

    References:
      Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
      ICML 2020; for histories, Xie et al. (CL4SRec), ICDE 2022.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"first and second must both have shape [B, D]; got {first.shape} and {second.shape}.")
    if valid is not None and valid.shape != first.shape[:1]:
        raise ValueError(f"valid must have shape [B] = {first.shape[:1]}, one an example; got {valid.shape}.")
    if alike is not None and alike.shape != (len(first), len(first)):
        raise ValueError(f"alike must have shape [B, B] with B = {len(first)}; got {alike.shape}.")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0, e.g. 0.1.")
    batch = len(first)
    counts = jnp.tile(jnp.ones(batch, bool) if valid is None else valid.astype(bool), 2)
    views = jnp.where(counts[:, None], jnp.concatenate([first, second]), 0)
    views = normalize(views.astype(jnp.promote_types(views.dtype, jnp.float32)))
    similarity = views @ views.T / temperature
    # Of the same example are the view itself and its partner, which is the positive.
    same = jnp.eye(batch, dtype=bool) if alike is None else jnp.eye(batch, dtype=bool) | alike
    is_negative = jnp.tile(~same, (2, 2)) & counts[:, None] & counts[None, :]
    positive = jnp.concatenate([jnp.diagonal(similarity, batch), jnp.diagonal(similarity, -batch)])
    loss = sampled_softmax(positive, similarity, hits=~is_negative)
    return loss.reshape(2, batch).mean(axis=0)


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
    return jnp.where(counts, each, 0).sum() / jnp.maximum(counts.sum(), 1)
