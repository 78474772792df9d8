"""Environments whose users share the declared dynamics and differ in who arrives."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import struct

from recjax.envs.base import Environment, Transition
from recjax.envs.choice import dynamics
from recjax.envs.choice.oracles import oracles
from recjax.envs.choice.response_model import ResponseModel, as_arrays
from recjax.types import Array, Items, Observation, PyTree, Spec

BAIT_SEED = 20
"""Which items are bait is the same in every environment of a size, so that sweeps compare like with like."""


@struct.dataclass
class Params:
    """What all users of a simulator share.

    Attributes:
      response_model: the declared parameters.
      factors: what the dynamics know of the items.
      population: whatever ``reset`` draws users from.
    """

    response_model: ResponseModel
    factors: dynamics.ItemFactors
    population: PyTree


def environment(
    spec: Spec,
    items: Items,
    response_model: ResponseModel,
    item_vectors: Array,
    item_bias: Array,
    population: PyTree,
    draw: Callable[[Array, Params], tuple[Array, Array, Array, Observation]],
) -> Environment:
    """An environment with the declared dynamics.

    Args:
      spec: static shapes.
      items: what the platform knows of the items.
      response_model: declared parameters, checked here.
      item_vectors: ``f32[N, T]`` preference factors of the items.
      item_bias: ``f32[N]`` logits.
      population: pytree that ``draw`` reads.
      draw: ``(key, params) -> (user id, vector, bias, observation)`` of a user who arrives. It
        runs for a share of the users in most steps, more than those who leave, so it must not touch the whole
        catalogue.
    """
    factors = dynamics.ItemFactors(
        vectors=item_vectors,
        bias=item_bias,
        topics=dynamics.topics(item_vectors),
        bait=jax.random.normal(jax.random.key(BAIT_SEED), item_bias.shape),
    )
    params = Params(response_model=as_arrays(response_model), factors=factors, population=population)

    def reset(key: Array, params: Params, world: PyTree) -> tuple[Observation, dynamics.User]:
        user = dynamics.arrive(*draw(key, params), params.response_model)
        return user.observation, user

    def step(key: Array, state: dynamics.User, slate: Array, params: Params, world: PyTree) -> Transition:
        return dynamics.step(key, state, slate, params.response_model, params.factors)

    return Environment(spec, params, items, reset, step, oracles=oracles(spec.slate_size))
