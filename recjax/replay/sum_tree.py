"""Weights that change one by one, drawn from in proportion, without a pass over all of them.

The lowest level holds the weights, each level above the sums of blocks of the one below. A change writes weights and
computes the sums of their blocks anew, level by level. No sum is ever incremented, so none drifts: it is
what its block adds up to, however many changes there were.

>>> import jax, jax.numpy as jnp
>>> tree = put(empty(100), jnp.array([7, 70]), jnp.array([1.0, 3.0]))
>>> float(tree.total), sorted(draw(jax.random.key(0), tree, 4).tolist())
(4.0, [7, 70, 70, 70])
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from recjax.types import Array

FAN_OUT = 16
"""Numbers in a block: a line of a CPU's cache. Blocks of 8 are as fast, of 32 and more slower."""


@struct.dataclass
class SumTree:
    """A tree of blocks of ``FAN_OUT`` numbers.

    Attributes:
      nodes: ``f32[m]``, level after level and each in whole blocks: the weights, the sums of their blocks, and so on
        up to a single block.
      total: ``f32[]`` the sum of all weights. Who reads it reads no nodes, which can then be written in place.
      size: how many weights there are.
    """

    nodes: Array
    total: Array
    size: int = struct.field(pytree_node=False)


def empty(size: int) -> SumTree:
    """A tree of ``size`` weights that are 0."""
    return SumTree(jnp.zeros(FAN_OUT * _first_blocks(size)[-1], jnp.float32), jnp.zeros((), jnp.float32), size)


def put(tree: SumTree, indices: Array, weights: Array) -> SumTree:
    """The tree with ``weights: f32[B]`` at ``indices: i32[B]``; of an index that occurs several times the largest."""
    # Writing 0 first and then the maximum gives the same result on every device, whatever the order of writes. That 0
    # is made of the old weights, so that whoever reads them has done so before they are written over: no copy.
    zero = jnp.minimum(tree.nodes[indices], 0.0)
    nodes = tree.nodes.at[indices].set(zero).at[indices].max(weights)
    for first, above in itertools.pairwise(_first_blocks(tree.size)[:-1]):
        indices = indices // FAN_OUT
        sums = _block_sums(_blocks_at(nodes, first + indices))
        nodes = nodes.at[above * FAN_OUT + indices].set(sums)
    return _of_nodes(nodes, tree.size)


def put_ranges(tree: SumTree, ranges: Sequence[tuple[Array, Array]]) -> SumTree:
    """The tree with weights in ranges, each ``(start, weights)``: ``f32[n]`` at ``start .. start + n - 1``.

    Ranges must be within the tree; where they overlap, the last one counts. All writes are contiguous, also
    under ``vmap`` over trees where ``start`` has no such axis.
    """
    nodes = tree.nodes
    for start, weights in ranges:
        nodes = jax.lax.dynamic_update_slice(nodes, weights, (start,))
    touched = [(start, len(weights)) for start, weights in ranges]
    for first, above in itertools.pairwise(_first_blocks(tree.size)[:-1]):
        touched = [_blocks_of_range(start, size, above - first) for start, size in touched]
        for start, count in touched:
            block = jax.lax.dynamic_slice(nodes, ((first + start) * FAN_OUT,), (count * FAN_OUT,))
            sums = _block_sums(block.reshape(-1, FAN_OUT))
            nodes = jax.lax.dynamic_update_slice(nodes, sums, (above * FAN_OUT + start,))
    return _of_nodes(nodes, tree.size)


def draw(key: Array, tree: SumTree, count: int) -> Array:
    """Indices in proportion to their weights, stratified: one from each of ``count`` equal parts of the sum.

    An index is drawn ``count * weight / total`` times in the mean, and the draws from any range of indices differ from
    that by less than two. An index of weight 0 is never drawn while there are others.

    Args:
      key: a key of ``jax.random``.
      tree: finite weights, none below 0.
      count: how many, at most ``2**23``.

    Returns:
      ``i32[count]`` in ascending order.

    References:
      Schaul et al., "Prioritized Experience Replay", ICLR 2016, appendix B.2.1.
    """
    bits = jax.random.bits(key, (count,), jnp.uint32)
    # A point of the sum, in two numbers: one float32 alone would tell only 2**24 points apart, a few for each of a
    # million weights. The second joins once the first is small.
    coarse = jnp.arange(count, dtype=jnp.uint32) * 256 + (bits >> 24)
    step = tree.total / (256.0 * count)
    target, rest = coarse.astype(jnp.float32) * step, (bits & 0xFFFFFF).astype(jnp.float32) * (step * 2.0**-24)

    def descend(point: tuple[Array, Array, Array], first: Array) -> tuple[tuple[Array, Array, Array], None]:
        target, rest, index = point
        child, before = _child_at(_blocks_at(tree.nodes, first + index), target + rest)
        return (jnp.maximum((target - before) + rest, 0.0), jnp.zeros_like(rest), index * FAN_OUT + child), None

    # A loop, because XLA would compute the levels above again for each one below.
    top_down = jnp.asarray(_first_blocks(tree.size)[-2::-1], jnp.int32)
    index = jax.lax.scan(descend, (target, rest, jnp.zeros(count, jnp.int32)), top_down)[0][2]
    # Without any weight the way down leads past the last one.
    return jnp.minimum(index, tree.size - 1)


def _of_nodes(nodes: Array, size: int) -> SumTree:
    # A reduction, which XLA computes once; sums written out would be read again after later writes, from a copy.
    return SumTree(nodes, jnp.sum(nodes[-FAN_OUT:]), size)


def _blocks_at(nodes: Array, index: Array) -> Array:
    """Blocks ``f32[B, FAN_OUT]``; the nodes are not reshaped, or XLA would write them anew where they just changed."""
    return jax.vmap(lambda block: jax.lax.dynamic_slice(nodes, (block * FAN_OUT,), (FAN_OUT,)))(index)


def _child_at(children: Array, target: Array) -> tuple[Array, Array]:
    """Which of ``f32[B, FAN_OUT]`` holds the point ``target`` of their sum, and the sum of those before it."""
    sums = _running_sums(children)
    # Rounding may have moved a point to the end of the sum, after which there is only weight 0.
    target = jnp.minimum(target, jnp.nextafter(sums[-1], jnp.zeros_like(target)))
    child, before = jnp.zeros(target.shape, jnp.int32), jnp.zeros_like(target)
    for so_far in sums[:-1]:
        is_passed = so_far <= target
        child, before = child + is_passed, jnp.where(is_passed, so_far, before)
    return child, before


def _running_sums(children: Array) -> list[Array]:
    """Sums along the last axis, one after the other: a child of weight 0 repeats the sum before it exactly."""
    return list(itertools.accumulate(children[..., child] for child in range(FAN_OUT)))


def _block_sums(blocks: Array) -> Array:
    return _running_sums(blocks)[-1]


def _blocks_of_range(start: Array, size: int, blocks: int) -> tuple[Array, int]:
    """The first block that a range touches and how many it may touch, within a level of so many blocks."""
    # A range may begin anywhere in its first block and so touch one block more than it fills.
    count = min((size - 2) // FAN_OUT + 2, blocks)
    return jnp.minimum(start // FAN_OUT, blocks - count), count


def _first_blocks(size: int) -> list[int]:
    """The block with which each level begins, and the number of all blocks."""
    firsts = [0]
    while size > 1 or len(firsts) == 1:
        size = -(-size // FAN_OUT)
        firsts.append(firsts[-1] + size)
    return firsts
