"""Search for the most probable ids among those that items have, and their exact probabilities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.catalogue import BlockScorer
from recjax.catalogue.plan import scores_at_once
from recjax.models.semantic_ids.ids import SemanticIds
from recjax.models.semantic_ids.prefix_tree import PrefixTree
from recjax.models.semantic_ids.retriever import GenerativeRetriever
from recjax.types import PAD_ID, Array, Observation, PyTree


def beam_search(
    retriever: GenerativeRetriever,
    params: PyTree,
    observation: Observation,
    ids: SemanticIds,
    tree: PrefixTree,
    k: int,
    *,
    beam: int = 50,
    exclude: Array | None = None,
) -> tuple[Array, Array]:
    """The ``k`` most probable items of each user, as far as the beam is wide enough to find them.

    From level to level the ``beam`` most probable beginnings of ids go on, each by the codes that
    some item's id goes on with; of equals, that of the lower codes. With a beam of at least
    ``max(tree.num_nodes[:-1])`` no beginning is left out, and the result is exact. A wider beam costs more and
    finds better lists on average, but not for each user: a beginning that it lets in may crowd out
    a better one a level later.

    Args:
      retriever: the network.
      params: its variables.
      observation: of a batch of users.
      ids: of all items.
      tree: ``prefix_tree(ids)``.
      k: how many items.
      beam: beginnings of ids that are followed at once.
      exclude: ``i32[B, E]`` items that each user must not get, padded with ``PAD_ID``.

    Returns:
      ``(log-probabilities f32[B, k], items i32[B, k])``, most probable first and, of equals, the
      lowest item id; ``-inf`` and ``PAD_ID`` where fewer were found.

    Raises:
      ValueError: ``k`` or ``beam`` is out of range, or the tree is not that of the ids.

    References:
      Rajput et al. (TIGER), NeurIPS 2023; De Cao et al., "Autoregressive Entity Retrieval", ICLR
      2021, for the search in a prefix tree.
    """
    if not 1 <= k <= tree.num_items:
        raise ValueError(f"k is {k}, but there are {tree.num_items} items; choose k in 1 .. {tree.num_items}.")
    if beam < 1:
        raise ValueError(f"beam is {beam}; it must be at least 1.")
    if tree.num_items != ids.num_items:
        raise ValueError(
            f"The tree has {tree.num_items} items but ids has {ids.num_items}; make it anew by prefix_tree(ids)."
        )
    if exclude is None:
        exclude = jnp.full((len(observation.history), 1), PAD_ID, jnp.int32)
    return _search(retriever, params, observation, ids, tree, exclude, k, beam)


@functools.partial(jax.jit, static_argnames=("retriever", "k", "beam"))
def _search(
    retriever: GenerativeRetriever,
    params: PyTree,
    observation: Observation,
    ids: SemanticIds,
    tree: PrefixTree,
    exclude: Array,
    k: int,
    beam: int,
) -> tuple[Array, Array]:
    def of_user(user: Array, exclude: Array) -> tuple[Array, Array]:
        def children(depth: int, node: Array, codes: Array, score: Array) -> tuple[Array, Array]:
            users = jnp.broadcast_to(user, (len(node), len(user)))
            log_probs = jnp.asarray(retriever.apply(params, users, codes, method="next_code"))
            return _children(tree, depth, node, score, log_probs)

        node, codes, score = jnp.zeros(1, jnp.int32), jnp.zeros((1, 0), jnp.int32), jnp.zeros(1)
        for depth, num_nodes in enumerate(tree.num_nodes[1:-1]):
            child, total = children(depth, node, codes, score)
            place = lax.top_k(total, min(beam, num_nodes, len(total)))[1]
            # In the order of their codes, so that the next ranking breaks ties by it too.
            place = jnp.sort(place)
            node, score = child[place], total[place]
            said = tree.last_code[depth][node]
            codes = jnp.concatenate([codes[place // tree.most_children[depth]], said[:, None]], axis=-1)
        child, total = children(len(tree.first_child) - 1, node, codes, score)
        return _best_items(total, tree.item[child], exclude, k)

    users = jnp.asarray(retriever.apply(params, observation, ids, method="represent"))
    return jax.vmap(of_user)(users, exclude)


def _children(tree: PrefixTree, depth: int, node: Array, score: Array, log_probs: Array) -> tuple[Array, Array]:
    """The children ``i32[W C]`` of nodes ``i32[W]`` and their scores, ``-inf`` for those that a node has not."""
    begin, end = tree.first_child[depth][node], tree.first_child[depth][node + 1]
    child = begin[:, None] + jnp.arange(tree.most_children[depth])[None]
    exists = child < end[:, None]
    child = jnp.where(exists, child, 0)
    code = tree.last_code[depth][child]
    total = score[:, None] + jnp.take_along_axis(log_probs, code, axis=-1)
    return child.reshape(-1), jnp.where(exists, total, -jnp.inf).reshape(-1)


def _best_items(score: Array, item: Array, exclude: Array, k: int) -> tuple[Array, Array]:
    """The best ``k`` of some items, the lowest id of equals first."""
    excluded = jnp.sort(exclude)
    place = jnp.minimum(jnp.searchsorted(excluded, item), len(excluded) - 1)
    score = jnp.where(excluded[place] == item, -jnp.inf, score)
    missing = (0, max(0, k - len(score)))
    score, item = jnp.pad(score, missing, constant_values=-jnp.inf), jnp.pad(item, missing)
    negated, item = lax.sort((-score, item), num_keys=2)
    score, item = -negated[:k], item[:k]
    return score, jnp.where(score == -jnp.inf, PAD_ID, item)


def item_scorer(retriever: GenerativeRetriever, params: PyTree, ids: SemanticIds) -> jax.tree_util.Partial:
    """The exact log-probabilities of all items as what :func:`recjax.eval.evaluate` ranks by.

    The short transformer reads every id for every user, block by block: for small catalogues, and to
    see what :func:`beam_search` misses. It is a pytree, so that other parameters do not compile
    anything again.

    Returns:
      ``Observation -> (users f32[B, dim], BlockScorer)``.
    """
    return jax.tree_util.Partial(functools.partial(_scored, retriever), params, ids)


def _scored(
    retriever: GenerativeRetriever, params: PyTree, ids: SemanticIds, observation: Observation
) -> tuple[Array, BlockScorer]:
    users = jnp.asarray(retriever.apply(params, observation, ids, method="represent"))

    def score(users: Array, codes: Array) -> Array:
        """``(f32[B, dim], i32[B or 1, M, levels]) -> f32[B, M]``."""
        shape = len(users), codes.shape[1]
        each_user = jnp.broadcast_to(users[:, None], (*shape, users.shape[-1])).reshape(-1, users.shape[-1])
        each_code = jnp.broadcast_to(codes, (*shape, codes.shape[-1])).reshape(-1, codes.shape[-1])
        return jnp.asarray(retriever.apply(params, each_user, each_code, method="log_probs")).reshape(shape)

    def score_block(users: Array, start: Array | int, size: int) -> Array:
        return score(users, lax.dynamic_slice_in_dim(ids.codes, start, size)[None])

    def score_ids(users: Array, items: Array) -> Array:
        return score(users, ids.codes[items])

    widest = max(retriever.dim * len(ids.level_sizes), *ids.level_sizes)
    size = max(1, scores_at_once() // (widest * max(1, len(users))))
    return users, BlockScorer(score_block, ids.num_items, score_ids, block_size=min(size, ids.num_items))


@functools.partial(jax.jit, static_argnames="retriever")
def log_probabilities(
    retriever: GenerativeRetriever, params: PyTree, observation: Observation, ids: SemanticIds
) -> Array:
    """The exact log-probability of every item, ``f32[B, N]``, computed block by block."""
    users, scorer = _scored(retriever, params, ids, observation)
    # The last block reaches over the end: ids are padded, and what is too much is cut off.
    size = scorer.block_size
    starts = jnp.minimum(jnp.arange(0, ids.num_items, size), ids.num_items - size)
    blocks = lax.map(lambda start: scorer.score_block(users, start, size), starts)
    found = jnp.zeros((len(users), ids.num_items))
    places = starts[:, None] + jnp.arange(size)[None]
    return found.at[:, places.reshape(-1)].set(blocks.swapaxes(0, 1).reshape(len(users), -1))
