"""Which events of a history a model is to fill in."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.types import PAD_ID, Array


def masked_positions(key: Array, history: Array, share: float, *, last_only_share: float = 0.0) -> Array:
    """Draws the gaps of masked-item training.

    Every event is a gap with probability ``share``, independently; a history in which none
    would be has one at an event drawn uniformly. With probability ``last_only_share`` a
    history has its last event as the only gap.

    Args:
      key: a key of ``jax.random``.
      history: ``i32[B, L]`` padded on the left with ``PAD_ID``.
      share: in [0, 1].
      last_only_share: in [0, 1].

    Returns:
      ``bool[B, L]``; empty histories have no gap.

    References:
      Sun et al., "BERT4Rec", CIKM 2019.
    """
    gap_key, one_key, last_key = jax.random.split(key, 3)
    present = history != PAD_ID
    order = jnp.where(present, jax.random.uniform(gap_key, history.shape), 2.0)
    gaps = order < share
    # The event with the smallest number of its own is a uniform choice, whether or not it is below the share.
    lot = jnp.where(present, jax.random.uniform(one_key, history.shape), 2.0)
    one = jnp.arange(history.shape[-1])[None] == jnp.argmin(lot, axis=-1)[:, None]
    gaps = jnp.where(gaps.any(-1, keepdims=True), gaps, one & present)
    last = jnp.arange(history.shape[-1])[None] == history.shape[-1] - 1
    only_last = jax.random.bernoulli(last_key, last_only_share, (len(history), 1))
    return jnp.where(only_last, last & present, gaps)
