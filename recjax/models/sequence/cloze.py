"""The positions that training on masked items masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.types import PAD_ID, Array


def masked_positions(key: Array, history: Array, share: float, *, last_only_share: float = 0.0) -> Array:
    """Draws the masked positions of the cloze objective.

    Every event is masked with probability ``share``, independently; in a history in which none
    would be, one event drawn uniformly is. With probability ``last_only_share`` only the last event of
    a history is masked.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: in [0, 1].
      last_only_share: in [0, 1].

    Returns:
      ``bool[B, L]``; no position of an empty history.

    References:
      Sun et al., "BERT4Rec", CIKM 2019.
    """
    mask_key, one_key, last_key = jax.random.split(key, 3)
    present = history != PAD_ID
    order = jnp.where(present, jax.random.uniform(mask_key, history.shape), 2.0)
    masked = order < share
    # The event with the smallest number of its own is a uniform choice, whether or not it is below the share.
    lot = jnp.where(present, jax.random.uniform(one_key, history.shape), 2.0)
    one = jnp.arange(history.shape[-1])[None] == jnp.argmin(lot, axis=-1)[:, None]
    masked = jnp.where(masked.any(-1, keepdims=True), masked, one & present)
    last = jnp.arange(history.shape[-1])[None] == history.shape[-1] - 1
    only_last = jax.random.bernoulli(last_key, last_only_share, (len(history), 1))
    return jnp.where(only_last, last & present, masked)
