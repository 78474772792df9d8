"""Evolution strategies: policies around one are tried, and it moves to where whole episodes earn more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from recjax.types import Array, PyTree, shared


@struct.dataclass
class EvolutionState:
    """What a search carries from generation to generation.

    Attributes:
      params: the parameters around which policies are drawn; those of the policy that was found.
      opt_state: state of the optimiser.
      step: ``i32[]`` generations so far.
    """

    params: PyTree
    opt_state: optax.OptState
    step: Array = shared()


class Evolution(NamedTuple):
    """A search, as three pure functions.

    Attributes:
      init: ``(params) -> EvolutionState`` makes the state that begins at ``params``.
      ask: ``(key, state) -> params [P, ...]`` draws the parameters of a generation of policies. Rows ``i`` and
        ``P / 2 + i`` are mirror images, so give both the same users and the same chance.
      tell: ``(key, state, fitness f32[P]) -> EvolutionState`` is the state after that generation, where ``key`` is the
        one that it was drawn with, and more fitness is better.
    """

    init: Callable[[PyTree], EvolutionState]
    ask: Callable[[Array, EvolutionState], PyTree]
    tell: Callable[[Array, EvolutionState, Array], EvolutionState]


def evolution_strategy(
    optimizer: optax.GradientTransformation, *, population: int = 256, sigma: float = 0.1
) -> Evolution:
    """A search for parameters by the rewards of whole episodes, where steps tell too little or actions are vectors.

    A generation is ``θ ± σ ε_i`` with ``ε_i ~ N(0, 1)``. With the ranks ``r`` of their fitness, scaled to
    ``[-1/2, 1/2]`` (ties share theirs), the parameters climb along ``sum_i (r_i^+ - r_i^-) ε_i / (P σ)``. Ranks keep
    the search from following a few lucky episodes. One episode a policy is enough, and more policies are worth more
    than more episodes of each.

    Args:
      optimizer: an optax transformation, which is given the negative of that direction.
      population: ``P``, policies of a generation; even.
      sigma: standard deviation of parameters within a generation.

    Raises:
      ValueError: an argument is out of range.

    References:
      Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", arXiv 1703.03864,
      2017; Wierstra et al., "Natural evolution strategies", JMLR 15, 2014.

    >>> search = evolution_strategy(optax.sgd(0.1), population=64, sigma=0.1)
    >>> state = search.init(jnp.zeros(2))
    >>> for key in jax.random.split(jax.random.key(0), 50):
    ...     tried = search.ask(key, state)
    ...     state = search.tell(key, state, -jnp.sum((tried - 1.0) ** 2, axis=-1))
    >>> bool(jnp.all(jnp.abs(state.params - 1.0) < 0.2))
    True
    """
    if population < 2 or population % 2:
        raise ValueError(f"population is {population}; it must be even and at least 2, because policies come in pairs.")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be above 0.")

    def init(params: PyTree) -> EvolutionState:
        return EvolutionState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    def ask(key: Array, state: EvolutionState) -> PyTree:
        noise = _noise(key, state.params, population // 2)
        around = lambda x, e: x[None] + sigma * jnp.concatenate([e, -e])  # noqa: E731
        return jax.tree.map(around, state.params, noise)

    def tell(key: Array, state: EvolutionState, fitness: Array) -> EvolutionState:
        if fitness.shape != (population,):
            raise ValueError(f"fitness has shape {fitness.shape}; a generation has {population} policies.")
        up, down = jnp.split(centred_ranks(fitness), 2)
        along = partial(jnp.tensordot, (down - up) / (population * sigma), axes=1)
        direction = jax.tree.map(along, _noise(key, state.params, population // 2))
        updates, opt_state = optimizer.update(direction, state.opt_state, state.params)
        return EvolutionState(optax.apply_updates(state.params, updates), opt_state, state.step + 1)

    return Evolution(init, ask, tell)


def centred_ranks(fitness: Array) -> Array:
    """Ranks ``f32[P]`` in ``[-1/2, 1/2]``, the best 1/2; equals have the mean of theirs.

    >>> centred_ranks(jnp.array([3.0, 7.0, 3.0])).tolist()
    [-0.25, 0.5, -0.25]
    """
    in_order = jnp.sort(fitness)
    below = jnp.searchsorted(in_order, fitness, side="left")
    up_to = jnp.searchsorted(in_order, fitness, side="right")
    return (below + up_to - 1) / (2 * (fitness.shape[0] - 1)) - 0.5


def _noise(key: Array, params: PyTree, count: int) -> PyTree:
    """Standard normal numbers, leaves ``[count, ...]``."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree, [jax.random.normal(k, (count, *jnp.shape(x))) for k, x in zip(keys, leaves, strict=True)]
    )
