"""Contrastive losses: two views of an example against those of other examples."""

from __future__ import annotations

import jax.numpy as jnp

from recjax.catalogue import normalize
from recjax.losses.sampled import sampled_softmax
from recjax.types import Array


def info_nce(
    first: Array,
    second: Array,
    *,
    temperature: float | Array,
    valid: Array | None = None,
    alike: Array | None = None,
) -> Array:
    """The contrastive loss InfoNCE with cosines (NT-Xent): a view's partner among the views of all examples.

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
      van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018;
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
