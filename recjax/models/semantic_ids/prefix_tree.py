"""The beginnings of all ids as a tree in flat arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recjax.models.semantic_ids.collisions import check_distinct
from recjax.models.semantic_ids.ids import SemanticIds
from recjax.types import Array


@struct.dataclass
class PrefixTree:
    """Which codes can follow which. A node of depth ``d`` is ``d`` codes that some item's id begins with.

    The nodes of a depth are numbered in the order of their codes, so that the children of a node are
    neighbours at the next depth. The root is the one node of depth 0, and the leaves are the items. All
    arrays together have ``O(N levels)`` numbers.

    Attributes:
      first_child: for each depth ``0 .. levels - 1``, ``i32[nodes + 1]``: where the children of each node
        begin, and those of the node before end.
      last_code: for each depth ``1 .. levels``, ``i32[nodes]``: the code by which a node differs from its parent.
      item: ``i32[N]`` the item at each leaf.
      most_children: how many children a node of each depth ``0 .. levels - 1`` has at most.
    """

    first_child: tuple[Array, ...]
    last_code: tuple[Array, ...]
    item: Array
    most_children: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def num_items(self) -> int:
        """``N``."""
        return self.item.shape[0]

    @property
    def num_nodes(self) -> tuple[int, ...]:
        """How many nodes each depth ``0 .. levels`` has."""
        return (1, *(len(codes) for codes in self.last_code))


def prefix_tree(ids: SemanticIds) -> PrefixTree:
    """The tree of ids that no two items share.

    Raises:
      ValueError: two items share an id, or a code is not one of its level.

    >>> ids = SemanticIds(codes=jnp.array([[1, 0], [0, 1], [1, 1]]), codebooks=(jnp.eye(2), jnp.eye(2)))
    >>> tree = prefix_tree(ids)
    >>> [children.tolist() for children in tree.first_child], [codes.tolist() for codes in tree.last_code]
    ([[0, 2], [0, 1, 3]], [[0, 1], [1, 0, 1]])
    >>> tree.item.tolist()
    [1, 0, 2]
    """
    codes = np.asarray(jax.device_get(ids.codes))
    sizes = np.asarray(ids.level_sizes)
    wrong = (codes < 0) | (codes >= sizes)
    if wrong.any():
        item, level = np.argwhere(wrong)[0]
        raise ValueError(
            f"Item {item} has the code {codes[item, level]} at level {level}, whose codes are"
            f" 0 .. {sizes[level] - 1}; make ids by the functions of recjax.models.semantic_ids."
        )
    check_distinct(codes)
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    # A node begins where an id, in order, is the first to have its codes.
    begins, first_child, last_code = np.array([0]), [], []
    for depth in range(1, codes.shape[1] + 1):
        differs = (ordered[1:, :depth] != ordered[:-1, :depth]).any(axis=-1)
        nodes = np.concatenate([[0], 1 + np.flatnonzero(differs)])
        first_child.append(np.searchsorted(nodes, np.append(begins, len(codes))))
        last_code.append(ordered[nodes, depth - 1])
        begins = nodes
    return PrefixTree(
        first_child=tuple(jnp.asarray(children, jnp.int32) for children in first_child),
        last_code=tuple(jnp.asarray(found, jnp.int32) for found in last_code),
        item=jnp.asarray(order, jnp.int32),
        most_children=tuple(int(np.diff(children).max()) for children in first_child),
    )
