"""What the simulators declare instead of fitting: numbers that no log of ratings can tell."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.envs.choice.parameters import ResponseModel

jax.tree_util.register_dataclass(ResponseModel)


class Description(NamedTuple):
    """One declared parameter, as a report prints it: name, value, unit and meaning."""

    name: str
    value: float
    doc: str


def describe(response_model: ResponseModel) -> list[Description]:
    """Every declared parameter with its value and its meaning, in order of declaration.

    >>> describe(ResponseModel(boredom_weight=2.0))[5][:2]
    ('boredom_weight', 2.0)
    """
    return [
        Description(field.name, float(getattr(response_model, field.name)), field.metadata["doc"])
        for field in dataclasses.fields(response_model)
    ]


def as_arrays(response_model: ResponseModel) -> ResponseModel:
    """``declared`` as ``f32[]`` leaves, checked, ready to be an environment's params.

    Raises:
      ValueError: a value lies outside the range of its parameter or is not a number.
    """
    for field in dataclasses.fields(response_model):
        value = float(getattr(response_model, field.name))
        low, high = field.metadata["low"], field.metadata["high"]
        if not low <= value <= high:
            raise ValueError(
                f"ResponseModel.{field.name} is {value}; it must lie in [{low:g}, {high:g}]. {field.metadata['doc']}"
            )
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), response_model)
