"""Parameter-efficient fine-tuning: some parameters, or low-rank changes of them (LoRA).

An adaptation says which variables are trained and how parameters follow from them. Only the
variables have gradients and an optimiser's state; the parameters that they change are an
argument beside them.

>>> params = {"params": {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}}}
>>> bias = only(lambda path: path[-1] == "bias")
>>> variables = bias.init(jax.random.key(0), params)
>>> list(variables)
['params/dense/bias']
>>> changed = bias.expand(params, jax.tree.map(lambda leaf: leaf + 1, variables))
>>> changed["params"]["dense"]["bias"].tolist(), changed["params"]["dense"]["kernel"].shape
([1.0, 1.0, 1.0], (4, 3))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from recjax.types import Array, PyTree

Select = Callable[[tuple[str, ...]], bool]
"""Whether the parameter at a path, such as ``("params", "user", "output", "kernel")``, takes part."""


class Adaptation(NamedTuple):
    """The trained variables of given parameters, and how the parameters follow from them.

    Attributes:
      init: ``(key, params) -> variables``, which leave the parameters as they are.
      expand: ``(params, variables) -> params``, a pure function.
    """

    init: Callable[[Array, PyTree], PyTree]
    expand: Callable[[PyTree, PyTree], PyTree]


def only(select: Select) -> Adaptation:
    """Trains the selected parameters as they are; the others are frozen.

    Args:
      select: which. ``lambda path: path[-1] in ("bias", "scale")`` trains biases and norms alone
        (Ben Zaken et al., "BitFit", ACL 2022).

    Raises:
      ValueError: on ``init``, nothing is selected.
    """

    def init(key: Array, params: PyTree) -> PyTree:
        return {"/".join(path): leaf for path, leaf in _selected(params, select).items()}

    def expand(params: PyTree, variables: PyTree) -> PyTree:
        flat = flatten_dict(params)
        return unflatten_dict({path: variables.get("/".join(path), leaf) for path, leaf in flat.items()})

    return Adaptation(init, expand)


def lora(
    rank: int,
    select: Select = lambda path: path[-1] == "kernel",
    *,
    alpha: float | None = None,
    stacked: Select = lambda path: False,
) -> Adaptation:
    """Trains a low-rank change of the selected matrices, ``W + (alpha / rank) A B``.

    ``B`` starts at zero, so training starts from the parameters as they are. ``expand`` merges
    the change into them; the parameters themselves are never written, so taking it back is exact.

    >>> layers = {"layers": {"kernel": jnp.ones((5, 4, 3))}}
    >>> variables = lora(2, stacked=lambda path: path[0] == "layers").init(jax.random.key(0), layers)
    >>> {name: leaf.shape for name, leaf in variables["layers/kernel"].items()}
    {'a': (5, 4, 2), 'b': (5, 2, 3)}

    Args:
      rank: of ``A B``, at least 1. Above half of a matrix's smaller side it saves nothing.
      select: which; parameters of fewer than two axes cannot be. Of more axes, all but the last
        are taken as one.
      alpha: scale of the change; ``rank`` by default.
      stacked: which of the selected are matrices of several layers, ``[layers, ..., out]``, as those of a
        scanned module are. Each layer has a change of its own, of this rank: ``A: [layers, in, rank]``,
        ``B: [layers, rank, out]``.

    Raises:
      ValueError: ``rank`` is below 1; on ``init``, nothing or a vector is selected.

    References:
      Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """
    if rank < 1:
        raise ValueError(f"lora: rank is {rank}; it must be at least 1, e.g. 8.")
    scale = (rank if alpha is None else alpha) / rank

    def init(key: Array, params: PyTree) -> PyTree:
        variables = {}
        for index, (path, leaf) in enumerate(_selected(params, select).items()):
            layers = leaf.shape[:1] if stacked(path) else ()
            if leaf.ndim < 2 + len(layers):
                of_layers = " of stacked layers" if layers else ""
                raise ValueError(
                    f"lora: {'/'.join(path)} has shape {leaf.shape}{of_layers}; select matrices, or use only()."
                )
            rows = math.prod(leaf.shape[len(layers) : -1])
            a = jax.random.normal(jax.random.fold_in(key, index), (*layers, rows, rank), leaf.dtype) / math.sqrt(rows)
            variables["/".join(path)] = {"a": a, "b": jnp.zeros((*layers, rank, leaf.shape[-1]), leaf.dtype)}
        return variables

    def expand(params: PyTree, variables: PyTree) -> PyTree:
        flat = flatten_dict(params)
        for name, change in variables.items():
            path = tuple(name.split("/"))
            flat[path] += scale * (change["a"] @ change["b"]).reshape(flat[path].shape)
        return unflatten_dict(flat)

    return Adaptation(init, expand)


def chain(*adaptations: Adaptation) -> Adaptation:
    """Several adaptations of different parameters at once, such as low-rank layers below a head that is trained whole.

    Args:
      *adaptations: :func:`only` and :func:`lora`; the variables are a tuple of theirs.

    Raises:
      ValueError: on ``init``, two of them select the same parameter.
    """

    def init(key: Array, params: PyTree) -> PyTree:
        variables = tuple(each.init(jax.random.fold_in(key, index), params) for index, each in enumerate(adaptations))
        names = [name for each in variables for name in each]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"chain: {', '.join(twice)} selected by two adaptations; let one of them leave it out.")
        return variables

    def expand(params: PyTree, variables: PyTree) -> PyTree:
        for adaptation, own in zip(adaptations, variables, strict=True):
            params = adaptation.expand(params, own)
        return params

    return Adaptation(init, expand)


def _selected(params: PyTree, select: Select) -> dict[tuple[str, ...], Array]:
    flat = flatten_dict(params)
    found = {path: leaf for path, leaf in flat.items() if select(path)}
    if not found:
        raise ValueError(f"Nothing is selected for training; the parameters are {', '.join(map('/'.join, flat))}.")
    return found
