"""The items that a target competes with when only a sample of the catalogue is ranked."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recjax.eval.protocol import SampledProtocol
from recjax.types import Array


def with_negatives(
    protocol: SampledProtocol,
    users: Array,
    targets: Array,
    exclude: Array | None,
    candidates: Array,
    popularity: Array | None,
) -> Array:
    """Each user's target and negatives, ``bool[B, N]``. Gumbel-top-k draws without replacement.

    Args:
      protocol: how many negatives are drawn, and how.
      users: ``i32[B]``; a user's negatives depend on this id and the protocol's seed alone.
      targets: ``i32[B, 1]``; a target that is no candidate does not compete.
      exclude: ``i32[B, S]`` padded, items that are no negatives, or None.
      candidates: ``bool[N]``.
      popularity: ``f32[N]`` that negatives are drawn in proportion to, or None for uniform draws.
    """
    num_items = candidates.shape[0]
    logits = jnp.where(candidates, 0.0 if popularity is None else jnp.log(popularity), -jnp.inf)

    def one_user(user: Array, target: Array, unwanted: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(protocol.seed), user)
        drawn = logits + jax.random.gumbel(key, (num_items,))
        drawn = drawn.at[jnp.where(unwanted < 0, num_items, unwanted)].set(-jnp.inf, mode="drop")
        noise, ids = jax.lax.top_k(drawn, min(protocol.num_negatives, num_items))
        chosen = jnp.zeros(num_items, bool).at[ids].set(noise > -jnp.inf)
        own = jnp.where(target < 0, num_items, target)
        return chosen.at[own].set(candidates.at[own].get(mode="fill", fill_value=False), mode="drop")

    unwanted = targets if exclude is None else jnp.concatenate([targets, exclude], axis=-1)
    return jax.vmap(one_user)(users, targets[:, 0], unwanted)


def check_popularity(popularity: Array, candidates: np.ndarray | None) -> np.ndarray:
    """The popularity that negatives are drawn by, as ``f32[N]``.

    Raises:
      ValueError: it has not one number an item, a number is negative or not finite, or no
        candidate has any, so that nothing could be drawn.
    """
    with np.errstate(over="ignore"):
        column = np.asarray(popularity, np.float32)
    if column.ndim != 1:
        raise ValueError(f"popularity has shape {column.shape}; it must be [N], one number an item.")
    bad = ~(np.isfinite(column) & (column >= 0))
    if bad.any():
        item = int(np.flatnonzero(bad)[0])
        raise ValueError(f"popularity of item {item} is {column[item]}; it must be a finite number of at least 0.")
    if candidates is not None and len(candidates) != len(column):
        raise ValueError(f"popularity is of {len(column)} items and candidates of {len(candidates)}; give one an item.")
    if not (column if candidates is None else column[candidates]).any():
        raise ValueError("No candidate has a popularity above 0, so there is no negative to draw; use 'uniform'.")
    return column
