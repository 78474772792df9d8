"""Users who answer vectors, with the best ones known: what agents of continuous actions are tested with.

A user is of a kind ``g`` and stays for ``steps`` vectors. A vector ``a`` earns ``1 - |a - b_g|²``, so the best one is
``b_g`` at every step, and with ``t`` steps left it is worth ``1 + γ + … + γ^(t-1)``. The context is the kind, one-hot,
and the share of the steps that is left.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from recjax.envs import Environment, Oracle, Transition, environments
from recjax.response import Response, Signal
from recjax.types import Array, Items, Observation, Spec

EARNED = Signal("earned", "1 less the squared distance of a vector to the best one")
BEST = ((0.5, -0.6), (-0.3, 0.7))
"""Of two kinds of users, in (-1, 1) as actors give vectors."""

User = tuple[Array, Array]
"""The kind and the steps that are left, ``i32[]`` each."""


@environments.register("probe_vectors")
def vector_targets(best: ArrayLike = BEST, steps: int = 2) -> Environment:
    """Users of whom each kind has a best vector.

    Args:
      best: ``f32[G, A]``, one a kind.
      steps: vectors until a user leaves.

    Raises:
      ValueError: an argument has another shape, or ``steps`` is below 1.

    >>> env = vector_targets()
    >>> env.step(jax.random.key(0), (jnp.int32(0), jnp.int32(2)), jnp.array([0.5, -0.6]), env.params, None).response[
    ...     "earned"
    ... ].tolist()
    [1.0]
    """
    vectors = np.asarray(best, np.float32)
    if vectors.ndim != 2 or 0 in vectors.shape or steps < 1:
        raise ValueError(f"best has shape {vectors.shape} and steps is {steps}; give f32[G, A] and at least 1.")
    kinds, size = vectors.shape
    spec = Spec(1, 1, 1, context_size=kinds + 1, action_size=size, signals=(EARNED,))
    oracle = Oracle(lambda key, users, setting: users.params[users.state[0]], "the best vector: the optimum")
    return Environment(
        spec,
        jnp.asarray(vectors),
        Items(popularity=jnp.zeros(1), is_new=jnp.zeros(1, bool)),
        partial(_reset, spec=spec, steps=steps),
        partial(_step, spec=spec, steps=steps),
        oracles={"optimum": oracle},
    )


def _observe(user: User, spec: Spec, steps: int) -> Observation:
    kind, left = user
    context = jnp.append(jax.nn.one_hot(kind, spec.context_size - 1), left / steps)
    return dataclasses.replace(spec.empty_observation(), context=context)


def _reset(key: Array, params: Array, world: None, *, spec: Spec, steps: int) -> tuple[Observation, User]:
    user = jax.random.randint(key, (), 0, len(params)), jnp.int32(steps)
    return _observe(user, spec, steps), user


def _step(key: Array, state: User, slate: Array, params: Array, world: None, *, spec: Spec, steps: int) -> Transition:
    del key
    kind, left = state[0], state[1] - 1
    response = Response(earned=1.0 - jnp.sum((slate - params[kind]) ** 2)[None])
    return Transition(_observe((kind, left), spec, steps), (kind, left), response, left <= 0, jnp.zeros((), bool), {})
