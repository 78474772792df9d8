"""What the simulators declare instead of fitting: numbers that no log of ratings can tell."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from recjax.envs.choice.parameters import ResponseModel

jax.tree_util.register_dataclass(ResponseModel)

Declared = TypeVar("Declared")


class Description(NamedTuple):
    """One declared parameter, as a report prints it: name, value, unit and meaning."""

    name: str
    value: float
    doc: str


def describe(declared: Any) -> list[Description]:
    """Every declared parameter with its value and its meaning, in order of declaration.

    Args:
      declared: a :class:`ResponseModel`, or the parameters of a domain such as :class:`Shop`.

    >>> describe(ResponseModel(boredom_weight=2.0))[5][:2]
    ('boredom_weight', 2.0)
    """
    return [
        Description(field.name, float(getattr(declared, field.name)), field.metadata["doc"])
        for field in dataclasses.fields(declared)
    ]


def as_arrays(declared: Declared) -> Declared:
    """Declared parameters as ``f32[]`` leaves, checked, ready to be an environment's params.

    Raises:
      ValueError: a value lies outside the range of its parameter or is not a number.
    """
    for field in dataclasses.fields(declared):  # type: ignore[arg-type]
        value = float(getattr(declared, field.name))
        low, high = field.metadata["low"], field.metadata["high"]
        if not low <= value <= high:
            raise ValueError(
                f"{type(declared).__name__}.{field.name} is {value}; it must lie in [{low:g}, {high:g}]."
                f" {field.metadata['doc']}"
            )
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), declared)
