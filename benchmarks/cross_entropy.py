"""The gradient of the mean softmax cross-entropy over a whole catalogue, beside the dense expression and PyTorch.

Run:    python benchmarks/cross_entropy.py            (about a minute on two CPU cores)
Smoke:  python benchmarks/cross_entropy.py --smoke
Prints: one table. Value and gradients by queries and item vectors, float32; one row in eight has no label,
        as padding has none. Each contender runs in a process of its own; PyTorch takes part where it is
        installed, and leaves out the same rows.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from _measure import Options, measure, megabytes, milliseconds, ratio, show, temporary_megabytes

from recjax import catalogue


@dataclasses.dataclass(frozen=True)
class Config(Options):
    items: tuple[int, ...] = (3_416, 20_000)
    rows: int = 6400
    """Positions of a batch: 32 histories of 200."""
    dim: int = 64
    seconds: float = 3.0
    """Time spent on each measurement after warming up."""


def problem(items: int, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(rows) % 8 == 0, -1, rng.integers(0, items, rows)).astype(np.int32)
    return rng.standard_normal((rows, dim), np.float32), 0.1 * rng.standard_normal((items, dim), np.float32), labels


def blocked(queries: jax.Array, vectors: jax.Array, labels: jax.Array) -> jax.Array:
    return catalogue.softmax_cross_entropy(queries, vectors, labels).sum() / (labels >= 0).sum()


def dense(queries: jax.Array, vectors: jax.Array, labels: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(queries @ vectors.T, jnp.maximum(labels, 0))
    return jnp.where(labels >= 0, losses, 0).sum() / (labels >= 0).sum()


def jitted(items: int, rows: int, dim: int, *, loss: Callable) -> tuple[Callable, float | None]:
    arguments = tuple(map(jnp.asarray, problem(items, rows, dim)))
    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments)), temporary_megabytes(program)


def pytorch(items: int, rows: int, dim: int) -> tuple[Callable, float | None]:
    import torch

    queries, vectors, labels = map(torch.from_numpy, problem(items, rows, dim))
    queries.requires_grad_()
    vectors.requires_grad_()

    def work() -> None:
        queries.grad = vectors.grad = None
        known = labels >= 0
        torch.nn.functional.cross_entropy(queries[known] @ vectors.T, labels[known].long()).backward()

    return work, None


CONTENDERS: dict[str, Callable] = {
    "recjax mean_softmax_cross_entropy": partial(jitted, loss=catalogue.mean_softmax_cross_entropy),
    "recjax softmax_cross_entropy": partial(jitted, loss=blocked),
    "optax, dense": partial(jitted, loss=dense),
}


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, items=(50, 300), rows=64, dim=8, seconds=0.0)
    contenders = dict(CONTENDERS)
    if importlib.util.find_spec("torch"):
        contenders["torch, dense"] = pytorch
    rows, reference = [], {}
    for name, contender in contenders.items():
        cells: list = [name]
        for items in config.items:
            found = measure(
                contender, config.seconds, alone=not config.smoke, items=items, rows=config.rows, dim=config.dim
            )
            seconds = found["seconds"]
            times = ratio(seconds / reference.setdefault(items, seconds), digits=2)
            cells += [milliseconds(seconds), times, megabytes(found["temporary"])]
        rows.append(cells)
    headings = ["", *(h for items in config.items for h in (f"ms, {items:,} items", "ratio", "temporary MB"))]
    title = f"Value and gradient of the mean cross-entropy, {config.rows:,} rows, dim {config.dim}"
    show(config, "cross_entropy", title, headings, rows, ("jax", "optax", "torch"))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
