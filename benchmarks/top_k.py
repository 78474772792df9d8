"""Exact top-k over a whole catalogue, beside lax.top_k, faiss, NumPy and PyTorch.

Run:    python benchmarks/top_k.py            (about two minutes on two CPU cores)
Smoke:  python benchmarks/top_k.py --smoke
Prints: one table. Every contender finds the k largest inner products of the same random
        float32 queries and items, in a process of its own, with all cores. faiss-cpu and torch
        take part where they are installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _measure import Options, measure, megabytes, milliseconds, ratio, show, temporary_megabytes

from recjax.catalogue import top_k


@dataclasses.dataclass(frozen=True)
class Config(Options):
    items: int = 1_000_000
    queries: int = 256
    dim: int = 64
    k: tuple[int, ...] = (10, 100, 1000)
    seconds: float = 5.0
    """Time spent on each measurement after warming up."""


def data(items: int, queries: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(queries, dim)).astype(np.float32), rng.standard_normal((items, dim), np.float32)


def compiled(find: Callable, queries: np.ndarray, items: np.ndarray) -> tuple[Callable[[], Any], float]:
    arrays = jnp.asarray(queries), jnp.asarray(items)
    program = jax.jit(find).lower(*arrays).compile()
    return lambda: jax.block_until_ready(program(*arrays)), temporary_megabytes(program)


def recjax_top_k(items: int, queries: int, dim: int, k: int) -> tuple[Callable, float | None]:
    return compiled(lambda q, x: top_k(q, x, k), *data(items, queries, dim))


def lax_top_k(items: int, queries: int, dim: int, k: int) -> tuple[Callable, float | None]:
    return compiled(lambda q, x: jax.lax.top_k(q @ x.T, k), *data(items, queries, dim))


def faiss_flat(items: int, queries: int, dim: int, k: int) -> tuple[Callable, float | None]:
    import faiss

    q, x = data(items, queries, dim)
    index = faiss.IndexFlatIP(dim)
    index.add(x)
    return lambda: index.search(q, k), None


def numpy_argpartition(items: int, queries: int, dim: int, k: int) -> tuple[Callable, float | None]:
    q, x = data(items, queries, dim)

    def work() -> np.ndarray:
        scores = q @ x.T
        ids = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, ids, 1), axis=1)
        return np.take_along_axis(ids, order, 1)

    return work, None


def torch_topk(items: int, queries: int, dim: int, k: int) -> tuple[Callable, float | None]:
    import torch

    q, x = map(torch.from_numpy, data(items, queries, dim))
    return lambda: torch.topk(q @ x.T, k), None


PEERS = {"lax.top_k": lax_top_k, "faiss IndexFlatIP": faiss_flat, "NumPy argpartition": numpy_argpartition}
if importlib.util.find_spec("torch"):
    PEERS["torch.topk"] = torch_topk
if not importlib.util.find_spec("faiss"):
    del PEERS["faiss IndexFlatIP"]


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, items=20_000, queries=8, k=(10,), seconds=0.0)
    rows = []
    for k in config.k:
        sizes = {"items": config.items, "queries": config.queries, "dim": config.dim, "k": k}
        ours = None
        for name, contender in {"recjax top_k": recjax_top_k, **PEERS}.items():
            # The smoke run starts a process of its own for one of them.
            found = measure(
                contender, config.seconds, alone=not config.smoke or contender is numpy_argpartition, **sizes
            )
            ours = ours or found["seconds"]
            memory = megabytes(found["temporary"]), megabytes(found["peak"])
            rows.append([name, str(k), milliseconds(found["seconds"]), ratio(found["seconds"] / ours), *memory])
    show(
        config,
        "top_k",
        f"Top k of {config.items:,} items × {config.dim}, {config.queries} queries, float32",
        ["", "k", "ms", "× recjax", "temporary MB", "peak MB"],
        rows,
        ["jax", "faiss-cpu", "numpy", "torch"],
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
