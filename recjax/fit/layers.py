"""Learning rates by parameter: per path, and layer-wise decay."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from recjax.fit.adapt import Select
from recjax.types import Array, PyTree

Rates = Callable[[tuple[str, ...]], float]
"""The factor of the learning rate of the parameter at a path."""


def path_wise(optimizer: optax.GradientTransformation, rates: Rates) -> optax.GradientTransformation:
    """Multiplies the learning rate of each parameter: what was pretrained may change less than what is new.

    An update is multiplied after the optimiser made it, decoupled weight decay included.

    >>> optimizer = path_wise(optax.sgd(1.0), lambda path: 0.25 if "language" in path else 1.0)
    >>> params = {"language": jnp.ones(1), "head": jnp.ones(1)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params))
    >>> {name: leaf.tolist() for name, leaf in updates.items()}
    {'head': [-1.0], 'language': [-0.25]}

    Args:
      optimizer: with a learning rate or a schedule of its own.
      rates: ``path -> factor``. Variables of an adaptation count by the paths of the parameters that they change.
    """

    def scaled(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * rates(_names(path)), updates)

    return optax.chain(optimizer, optax.stateless(scaled))


def layer_wise(
    optimizer: optax.GradientTransformation, decay: float, *, stacked: Select, bottom: Select
) -> optax.GradientTransformation:
    """Multiplies the learning rate by ``decay ** depth``: what lies deeper is more general and changes less.

    The depth of what lies above the layers is 0, of the topmost of ``L`` layers 1, of the lowest
    ``L``, and of what lies below them ``L + 1``. An update is multiplied after the optimiser made it,
    decoupled weight decay included.

    >>> params = {"embed": jnp.ones(1), "layers": jnp.ones((2, 1)), "head": jnp.ones(1)}
    >>> optimizer = layer_wise(
    ...     optax.sgd(1.0), 0.5, stacked=lambda path: "layers" in path, bottom=lambda path: "embed" in path
    ... )
    >>> updates, _ = optimizer.update(params, optimizer.init(params))
    >>> {name: leaf.ravel().tolist() for name, leaf in updates.items()}
    {'embed': [-0.125], 'head': [-1.0], 'layers': [-0.25, -0.5]}

    Args:
      optimizer: with a learning rate or a schedule of its own.
      decay: in (0, 1]; 1 changes nothing. ULMFiT has 1 / 2.6.
      stacked: which parameters have a leading axis of layers, the lowest first. Variables of an
        adaptation count by the paths of the parameters that they change.
      bottom: which lie below the layers.

    Raises:
      ValueError: ``decay`` is out of range; on ``init``, no parameter is stacked, or stacks differ in their layers.

    References:
      Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_wise: decay is {decay}; it must lie in (0, 1], e.g. 0.9.")

    def init(params: PyTree) -> optax.EmptyState:
        _num_layers(params, stacked)
        return optax.EmptyState()

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        num_layers = _num_layers(updates, stacked)

        def scaled(path: tuple, leaf: Array) -> Array:
            names = _names(path)
            if stacked(names):
                depth = num_layers - jnp.arange(num_layers, dtype=jnp.float32)
                return leaf * (decay**depth).reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
            return leaf * decay ** (num_layers + 1) if bottom(names) else leaf

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.chain(optimizer, optax.GradientTransformation(init, update))


def _num_layers(params: PyTree, stacked: Select) -> int:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = {"/".join(_names(path)): leaf.shape[0] for path, leaf in leaves if stacked(_names(path))}
    if len(set(found.values())) != 1:
        known = found or [*map("/".join, (_names(path) for path, _ in leaves))]
        raise ValueError(f"layer_wise: stacked must select parameters of one number of layers, but found {known}.")
    return next(iter(found.values()))


def _names(path: tuple) -> tuple[str, ...]:
    """The parts of a path; the variables of an adaptation are named by whole paths."""
    keys = (str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path)
    return tuple(part for key in keys for part in key.split("/"))
