"""One update of an embedding table by the rows of a batch, beside dense optax.adam and PyTorch's SparseAdam.

Run:    python benchmarks/row_update.py            (about two minutes on two CPU cores)
Smoke:  python benchmarks/row_update.py --smoke
Prints: one table. The batch is uniform random ids and random gradients of their rows; the
        dense peer adds them into an array of the table's shape, as jax.grad does, and updates
        everything. JAX programs reuse the memory of table and state (donated), except where
        the table says "not donated". Each contender runs in a process of its own; PyTorch takes
        part where it is installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from _measure import Options, measure, megabytes, milliseconds, ratio, show, temporary_megabytes

from recjax.catalogue import RowGrads, RowOptimizer, row_adagrad, row_adam, row_sgd


@dataclasses.dataclass(frozen=True)
class Config(Options):
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000, 4_000_000)
    batch: int = 8192
    dim: int = 64
    dense_up_to: int = 1_000_000
    """Largest table that is updated densely as well."""
    seconds: float = 3.0
    """Time spent on each measurement after warming up."""


def batch_of(rows: int, batch: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, rows, batch).astype(np.int32), rng.standard_normal((batch, dim), np.float32)


def stepping(step: Callable, state: Any, arguments: tuple, donate: bool) -> tuple[Callable[[], None], float]:
    """Calls ``state = step(state, *arguments)`` again and again."""
    program = jax.jit(step, donate_argnums=0 if donate else ()).lower(state, *arguments).compile()
    box = [state]

    def work() -> None:
        box[0] = jax.block_until_ready(program(box[0], *arguments))

    return work, temporary_megabytes(program)


def row_wise(
    rows: int, batch: int, dim: int, *, optimizer: Callable[..., RowOptimizer]
) -> tuple[Callable, float | None]:
    made = optimizer(1e-3)
    table = jnp.ones((rows, dim))

    def step(state: tuple, ids: jax.Array, values: jax.Array) -> tuple:
        table, opt_state, count = state
        table, opt_state = made.update(table, opt_state, RowGrads(ids, values), count)
        return table, opt_state, count + 1

    arguments = tuple(map(jnp.asarray, batch_of(rows, batch, dim)))
    return stepping(step, (table, made.init(table), jnp.int32(0)), arguments, donate=True)


def dense_adam(rows: int, batch: int, dim: int, *, donate: bool) -> tuple[Callable, float | None]:
    made = optax.adam(1e-3)
    table = jnp.ones((rows, dim))

    def step(state: tuple, ids: jax.Array, values: jax.Array) -> tuple:
        table, opt_state = state
        updates, opt_state = made.update(jnp.zeros_like(table).at[ids].add(values), opt_state, table)
        return optax.apply_updates(table, updates), opt_state

    arguments = tuple(map(jnp.asarray, batch_of(rows, batch, dim)))
    return stepping(step, (table, made.init(table)), arguments, donate)


def torch_sparse_adam(rows: int, batch: int, dim: int) -> tuple[Callable, float | None]:
    import torch

    table = torch.nn.Parameter(torch.ones(rows, dim))
    optimizer = torch.optim.SparseAdam([table], lr=1e-3)
    ids, values = map(torch.from_numpy, batch_of(rows, batch, dim))

    def work() -> None:
        table.grad = torch.sparse_coo_tensor(ids[None].long(), values, (rows, dim), check_invariants=False)
        optimizer.step()

    return work, None


OURS = {
    "recjax row_adam": partial(row_wise, optimizer=row_adam),
    "recjax row_adagrad": partial(row_wise, optimizer=row_adagrad),
    "recjax row_sgd": partial(row_wise, optimizer=row_sgd),
}
DENSE = {
    "optax.adam": partial(dense_adam, donate=True),
    "optax.adam, not donated": partial(dense_adam, donate=False),
}


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, rows=(1_000, 5_000), batch=64, dim=8, seconds=0.0)
    contenders: dict[str, Callable] = dict(OURS)
    if importlib.util.find_spec("torch"):
        contenders["torch SparseAdam"] = torch_sparse_adam
    contenders |= DENSE
    rows, reference = [], {}
    for name, contender in contenders.items():
        for size in config.rows:
            if name in DENSE and size > config.dense_up_to:
                continue
            sizes = {"rows": size, "batch": config.batch, "dim": config.dim}
            found = measure(contender, config.seconds, alone=not config.smoke, **sizes)
            times = ratio(found["seconds"] / reference.setdefault(size, found["seconds"]))
            memory = megabytes(found["temporary"], 1), megabytes(found["peak"])
            rows.append([name, f"{size:,}", milliseconds(found["seconds"]), times, *memory])
    show(
        config,
        "row_update",
        f"An update of a table [V, {config.dim}] by {config.batch:,} rows, float32",
        ["", "V", "ms", "× row_adam", "temporary MB", "peak MB"],
        rows,
        ["jax", "optax", "torch"],
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
