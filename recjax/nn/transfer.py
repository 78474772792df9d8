"""Scores of every network for catalogue operations, and starting a network from trained towers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.catalogue import Catalogue, ItemIndex
from recjax.nn.contracts import ItemVectorNetwork, ScoringNetwork
from recjax.nn.recommendation import Recommendation
from recjax.nn.towers import Towers
from recjax.types import Array, Items, Observation, PyTree

TOWERS = ("user", "item")
"""Names of the submodules that networks have in common."""

ITEM_TABLES = ("item_bias", "item_odds", "q_vectors")
"""Names of parameters beside the towers that have a row for each item."""


def catalogue_scores(
    network: nn.Module,
    params: PyTree,
    observation: Observation,
    items: Items,
    index: ItemIndex | None = None,
    rngs: dict[str, Array] | None = None,
) -> tuple[PyTree, Catalogue]:
    """What the operations of :mod:`recjax.catalogue` take, for any network.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`.
      params: its variables, as ``network.init`` returns them.
      observation: of a batch of users.
      items: the features of all items.
      index: item vectors that were made before (:func:`item_vectors`), so that only queries are computed.
      rngs: keys of what the network draws, such as ``{"noise": key}``.

    Returns:
      ``(queries, items)``.

    Raises:
      ValueError: the network is none.
    """
    check_scores(network)
    if index is not None:
        return network.apply(params, observation, items, method="queries", rngs=rngs), index
    queries_and_items: Any = network.apply(params, observation, items, method="catalogue", rngs=rngs)
    return queries_and_items


def check_scores(network: nn.Module) -> None:
    """Raises ValueError where a network is no :class:`recjax.nn.ScoringNetwork`."""
    if not isinstance(network, ScoringNetwork):
        raise ValueError(
            f"{type(network).__name__} is no nn.ScoringNetwork; wrap a Flax module (observation, items) -> [B, N] as"
            f" nn.DenseNetwork({type(network).__name__}(...)), or derive it from nn.ScoringNetwork."
        )


def scorer(network: nn.Module, params: PyTree, items: Items, index: ItemIndex | None = None) -> jax.tree_util.Partial:
    """A trained network as the function of observations that :func:`recjax.eval.evaluate` ranks by.

    It is a pytree, so that other parameters of the same network do not compile anything again.

    Args:
      network: a :class:`recjax.nn.ScoringNetwork`.
      params: its variables.
      items: the features of all items.
      index: item vectors that were made before, where it would cost much to make them for every batch of users.
    """
    return jax.tree_util.Partial(functools.partial(_scored, network), params, items, index)


def _scored(
    network: nn.Module, params: PyTree, items: Items, index: ItemIndex | None, observation: Observation
) -> tuple[PyTree, Catalogue]:
    return catalogue_scores(network, params, observation, items, index)


def has_item_vectors(network: nn.Module) -> bool:
    """Whether scores are inner products with vectors that each belong to one item."""
    return isinstance(network, ItemVectorNetwork)


def item_vectors(network: nn.Module, params: PyTree, items: Items) -> Callable[[Array], Array]:
    """How a network makes item vectors, for :func:`recjax.catalogue.build_index`.

    Args:
      network: a :class:`recjax.nn.ItemVectorNetwork`.
      params: its variables.
      items: the features of all items.

    Returns:
      ``ids i32[M] -> [M, D]``.

    Raises:
      ValueError: the network scores items otherwise.
    """
    if not has_item_vectors(network):
        raise ValueError(
            f"{type(network).__name__} has no item vectors that could be cached; use an nn.ItemVectorNetwork, such as"
            " DotProductQ or Recommendation."
        )
    return lambda ids: jnp.asarray(network.apply(params, ids, items, method="item_vectors"))


def warm_start(params: PyTree, source: PyTree) -> PyTree:
    """``params`` with the towers of another network in place of its own.

    The trees below ``user`` and ``item`` are copied where both have them with equal
    structure and shapes; everything else (heads, a tower that differs) stays.

    Args:
      params: variables as ``network.init`` returns them.
      source: variables of the network to start from, in the same form.

    Returns:
      Variables like ``params``.

    Raises:
      ValueError: no tower matches.
    """
    own, other = params["params"], source["params"]
    copied = {name: other[name] for name in TOWERS if name in own and name in other and _alike(own[name], other[name])}
    if not copied:
        raise ValueError(
            "Nothing to start from: no tower has equal structure and shapes in both networks."
            f" Towers here: {_shapes(own)}; towers of the source: {_shapes(other)}."
            " Build both with the same num_items, dim, encoder and item features."
        )
    return {**params, "params": {**own, **copied}}


def with_new_items(params: PyTree, num_items: int) -> PyTree:
    """``params`` for a catalogue that has grown: the items that were there, and new ones behind them.

    New items have the zero vector for an id, and no bias. With a description (:class:`ItemTower`) they are what
    they are described as, and can be recommended at once; without one they score as no item in particular.
    Everything else stays, so build the network with the new ``num_items`` and go on, with or without training.

    Args:
      params: variables of any network with towers, as ``network.init`` returns them.
      num_items: items of the catalogue now.

    Raises:
      ValueError: the catalogue has become smaller.
    """
    own = dict(params["params"])
    table = own["item"]["embedding"]
    if len(table) > 1:  # Otherwise items have no vectors of their own.
        grown = _with_rows(table[:-2], num_items)
        own["item"] = {**own["item"], "embedding": jnp.concatenate([grown, table[-2:]])}
    for name in ITEM_TABLES:
        if name in own:
            own[name] = _with_rows(own[name], num_items)
    return {**params, "params": own}


def _with_rows(table: Array, num_items: int) -> Array:
    """A table with rows of zeros behind those that it has."""
    new = num_items - len(table)
    if new < 0:
        raise ValueError(f"num_items is {num_items}, but the network knows {len(table)}; items cannot be taken away.")
    return jnp.concatenate([table, jnp.zeros((new, *table.shape[1:]), table.dtype)])


def towers_of(params: PyTree) -> PyTree:
    """The variables of a network's towers, which are those of a :class:`Recommendation` of the same towers."""
    return {"params": {name: params["params"][name] for name in TOWERS}}


def check_towers(network: ScoringNetwork, other: ScoringNetwork) -> None:
    """Checks that a network can read the towers of another (:func:`towers_of`) and needs nothing else.

    Raises:
      ValueError: a network has no towers, a field of the towers differs, or ``other`` has parameters of its own.
    """
    for each in (network, other):
        if not isinstance(each, Towers):
            raise ValueError(f"{type(each).__name__} has no item and user tower to share; use an nn.Towers network.")
    for tower in TOWERS:
        one, another = getattr(network, tower), getattr(other, tower)
        for field in dataclasses.fields(one):
            own, its = getattr(one, field.name), getattr(another, field.name)
            if field.name not in ("parent", "name") and own != its:
                raise ValueError(
                    f"{type(network).__name__}.{tower}.{field.name} is {own!r} but"
                    f" {type(other).__name__}.{tower}.{field.name} is {its!r};"
                    " networks that share towers need the same."
                )
    if isinstance(other, Recommendation) and other.learn_temperature:
        raise ValueError("A learned temperature is no part of the towers; use learn_temperature=False.")


def _alike(own: PyTree, other: PyTree) -> bool:
    return jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, other)


def _shapes(tree: PyTree) -> dict[str, PyTree]:
    return {name: jax.tree.map(jnp.shape, tree[name]) for name in TOWERS if name in tree}
