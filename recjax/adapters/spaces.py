"""Spaces of Gymnasium for what is seen of users and what they are shown, and actions from there to recjax."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from recjax.types import Behaviour, Spec


def observation_space(spec: Spec, seen: Any) -> spaces.Space:
    """The space of what :func:`recjax.adapters.outside.as_dict` gives.

    Args:
      spec: of the environment.
      seen: shapes of it, without a batch axis.
    """
    sizes = {"history": spec.num_items + 2, "behaviour": len(Behaviour) + 1, "candidates": spec.num_items + 1}
    return spaces.Dict(
        {
            name: spaces.MultiDiscrete(np.full(shape.shape, sizes[name]), dtype=np.int32)
            if name in sizes
            else box(shape)
            for name, shape in seen.items()
        }
    )


def box(seen: Any) -> spaces.Space:
    """The widest space of an array, or of a dictionary of arrays, of floats or integers.

    Raises:
      ValueError: what an agent is to be given is something else.
    """
    if isinstance(seen, dict):
        return spaces.Dict({name: box(part) for name, part in seen.items()})
    dtype = getattr(seen, "dtype", None)
    if dtype == jnp.float32:
        return spaces.Box(-np.inf, np.inf, seen.shape, np.float32)
    if dtype == jnp.int32:
        limits = np.iinfo(np.int32)
        return spaces.Box(limits.min, limits.max, seen.shape, np.int32)
    raise ValueError(f"observe returned {seen}; it must return an array of float32 or int32, or a dictionary of them.")


def action_space(spec: Spec, bounds: tuple[float, float]) -> spaces.Space:
    """The space of actions for one user, see :func:`recjax.adapters.gymnasium_env`."""
    if spec.action_size:
        return spaces.Box(*bounds, (spec.action_size,), np.float32)
    choices = spec.num_candidates or spec.num_items
    if spec.slate_size == 1:
        return spaces.Discrete(choices)
    return spaces.MultiDiscrete(np.full(spec.slate_size, choices))


def as_actions(given: Any, spec: Spec, count: int) -> np.ndarray:
    """Actions of Gymnasium as an environment of ``count`` users takes them, ``i32[U, K]`` or ``f32[U, A]``.

    Raises:
      ValueError: they are of another shape, or outside of the space.
    """
    actions, width = np.asarray(given), spec.action_size or spec.slate_size
    if actions.size != count * width:
        raise ValueError(f"The action has shape {actions.shape}; for {count} users it must hold {width} numbers each.")
    actions = actions.reshape(count, width)
    if spec.action_size:
        if not np.isfinite(actions).all():
            raise ValueError(f"The action {actions[~np.isfinite(actions).all(axis=1)][0]} is infinite or NaN.")
        return actions.astype(np.float32)
    choices = spec.num_candidates or spec.num_items
    if not np.issubdtype(actions.dtype, np.integer) or ((actions < 0) | (actions >= choices)).any():
        raise ValueError(f"The action {given} must hold integers in 0 .. {choices - 1}.")
    return actions.astype(np.int32)
