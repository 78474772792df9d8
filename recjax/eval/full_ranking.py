"""The rank of held-out items among all items, without a matrix of users by items."""

from __future__ import annotations

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax

from recjax.catalogue import BLOCK_SIZE, Catalogue, as_scorer
from recjax.catalogue.blocks import Blocks, Rows, reduce_rows
from recjax.eval.ranking import distinct
from recjax.types import Array, PyTree

Ties = Literal["lowest_id", "average"]
"""Who goes first among equal scores: the lowest id, or every tied item at the mean of their ranks."""

COMPARISONS = 2**21
"""Pairs of a target and an item that are compared at once, over all users."""


def target_ranks(
    queries: PyTree,
    items: Catalogue,
    targets: Array,
    *,
    exclude: Array | None = None,
    candidates: Array | None = None,
    ties: Ties = "lowest_id",
    block_size: int | None = None,
) -> Array:
    """The rank of each target among all candidates, by counting who scores more.

    The catalogue is scored in blocks, twice: once to find the targets' scores and once to
    count, so that equal items compare as equal whatever the rounding. A model that
    diverges cannot shine: items that score NaN count as better than any target, and a
    target that scores NaN or ``-inf`` is not ranked.

    Args:
      queries: what ``items`` scores, every leaf with leading ``[B]``.
      items: the catalogue, see :func:`recjax.catalogue.top_k`.
      targets: ``i32[B, R]`` padded with ``PAD_ID``, or ``i32[B]``. A target outside the
        catalogue is a relevant item that cannot be ranked.
      exclude: ``i32[B, E]`` items that are not recommended to a user (those seen before);
        ``PAD_ID`` is ignored. A target among them is not ranked.
      candidates: ``bool[N]`` or ``bool[B, N]``, the items that compete; all when None.
      ties: who goes first among equal scores.
      block_size: items scored at once, by default what ``items`` asks for, and fewer where users have
        many targets.

    Returns:
      ``f32[B, R]`` ranks from 1, exact for catalogues below ``2**23`` items; ``inf`` for
      targets that are not ranked; NaN for padding and repeats.

    Raises:
      ValueError: ``ties`` is not a known rule.

    >>> from recjax.catalogue import ItemIndex
    >>> index = ItemIndex(jnp.array([[1.0], [3.0], [3.0], [2.0]]))
    >>> target_ranks(jnp.ones((1, 1)), index, jnp.array([[1, 2, 0]])).tolist()
    [[1.0, 2.0, 4.0]]
    >>> target_ranks(jnp.ones((1, 1)), index, jnp.array([[1, 2, 0]]), ties="average").tolist()
    [[1.5, 1.5, 4.0]]
    """
    if ties not in get_args(Ties):
        raise ValueError(f"ties is {ties!r}; choose one of {get_args(Ties)}.")
    scorer = as_scorer(items)
    num_items = scorer.num_items
    targets = targets[:, None] if targets.ndim == 1 else targets
    size = block_size or min(scorer.block_size or BLOCK_SIZE, COMPARISONS // max(targets.size, 1))
    blocks = Blocks(num_items, max(1, min(size, num_items)))

    def evaluate(rows: Rows) -> tuple[Rows, Array, Array]:
        """The rows, their scores ``f32[B, size]``, and which of them compete."""
        scores = scorer.score_block(queries, rows.start, rows.size).astype(jnp.float32)
        is_new = rows.start + jnp.arange(rows.size) >= rows.first
        competes = is_new[None, :] & ~_among(exclude, rows.start, scores.shape)
        if candidates is not None:
            chosen = lax.dynamic_slice_in_dim(candidates, rows.start, rows.size, axis=-1)
            competes &= chosen if candidates.ndim == 2 else chosen[None, :]
        return rows, scores, competes

    def find(found: tuple[Array, Array], block: tuple[Rows, Array, Array]) -> tuple[Array, Array]:
        rows, *block_values = block
        is_here = (targets >= rows.first) & (targets < rows.start + rows.size)
        local = jnp.where(is_here, targets - rows.start, 0)
        score, competes = (jnp.take_along_axis(values, local, axis=-1) for values in block_values)
        return jnp.where(is_here, score, found[0]), jnp.where(is_here, competes, found[1])

    missing = jnp.full(targets.shape, jnp.nan), jnp.zeros(targets.shape, bool)
    scores, competes = reduce_rows(evaluate, find, blocks, init=missing)

    def count(ahead: Array, block: tuple[Rows, Array, Array]) -> Array:
        rows, others, rivals = block
        others, rivals, own = others[:, None, :], rivals[:, None, :], scores[:, :, None]
        ids, target = (rows.start + jnp.arange(rows.size))[None, None, :], targets[:, :, None]
        better = (others > own) | jnp.isnan(others)
        if ties == "lowest_id":
            in_front = jnp.where(better | ((others == own) & (ids < target)), 1.0, 0.0)
        else:
            in_front = jnp.where(better, 1.0, jnp.where(others == own, 0.5, 0.0))
        return ahead + jnp.sum(jnp.where(rivals & (ids != target), in_front, 0.0), axis=-1)

    ahead = reduce_rows(evaluate, count, blocks, init=jnp.zeros(targets.shape))
    ranked = competes & (scores > -jnp.inf)
    return jnp.where(distinct(targets), jnp.where(ranked, 1 + ahead, jnp.inf), jnp.nan)


def _among(ids: Array | None, start: Array | int, shape: tuple[int, ...]) -> Array:
    """``bool[B, size]``: which items of the block that begins at ``start`` are in ``ids [B, E]``."""
    none = jnp.zeros(shape, bool)
    if ids is None:
        return none
    local = ids - start
    local = jnp.where((ids < 0) | (local < 0), shape[1], local)
    return none.at[jnp.arange(shape[0])[:, None], local].set(True, mode="drop")
