"""An epoch of SASRec with the softmax over the whole catalogue, beside RecTools', and the ranking of all users.

Run:    python benchmarks/sequence_epoch.py --peer-python PATH      (about 8 minutes on two CPU cores)
Smoke:  python benchmarks/sequence_epoch.py --smoke
Prints: one table. Two blocks, one head, feed-forward layers as wide as the vectors times four, dropout 0.1,
        float32, the training part of MovieLens-1M. RecTools needs NumPy 1, so it lives in an environment of
        its own (``python -m venv peers; peers/bin/pip install 'rectools[torch]'``), whose interpreter PATH is.
        Epochs are the median of those after the first; all cores work for each in turn.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _measure import Options, number, ratio, show

from recjax import data, nn
from recjax.eval import Protocol, evaluate
from recjax.fit import Hooks
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Items, PyTree


@dataclasses.dataclass(frozen=True)
class Config(Options):
    batch: int = 128
    dim: int = 64
    length: int = 200
    epochs: int = 4
    peer_python: str | None = None
    """Interpreter of an environment with rectools[torch]; without it the peer is left out."""


def training_log(config: Config) -> tuple[data.Interactions, int]:
    """The log and the number of items."""
    if config.smoke:
        rng = np.random.default_rng(0)
        return data.Interactions(
            np.repeat(np.arange(64), 20), rng.integers(0, 50, 64 * 20), time=np.arange(64 * 20)
        ), 50
    dataset = data.with_enough_events(data.load("ml-1m"), per_item=5)
    return data.leave_one_out(dataset.interactions).train, dataset.num_items


def ours(
    config: Config, log: data.Interactions, num_items: int, training: SequenceConfig
) -> tuple[list[float], float, float]:
    """Seconds of each epoch, the last loss, seconds of ranking all users once it is compiled."""
    encoder = functools.partial(nn.SelfAttentionEncoder, num_blocks=2, num_heads=1, dropout=0.1, norm="query")
    module = nn.Recommendation(
        item=nn.ItemTower(num_items, config.dim, initial_norm=0.2),
        user=nn.UserTower(config.dim, encoder, project=False, use_behaviour=False),
        normalized=False,
        temperature=1.0,
    )
    items = Items(popularity=jnp.ones(num_items), is_new=jnp.zeros(num_items, bool))
    num_users = int(log.user.max()) + 1
    sequences = data.sequences(log, num_users)
    clock = [time.perf_counter()]
    trained: list[PyTree] = []

    def lap(epoch: int, params: PyTree) -> None:
        clock.append(time.perf_counter())
        trained[:] = [params] if epoch == config.epochs else []

    fitted = fit_sequences(module, sequences, items, training, key=jax.random.key(0), hooks=Hooks(lap))
    nothing = log.take(np.zeros(len(log), bool))
    task = data.next_items(log, nothing, num_users, config.length)
    score = nn.scorer(module, fitted.params, items)
    protocol = Protocol(split="speed only", history_length=config.length)
    targets = np.zeros(num_users, np.int32)
    ranking = []
    for _ in range(2):
        start = time.perf_counter()
        evaluate(score, task.observation, targets, protocol, seen=task.seen)
        ranking.append(time.perf_counter() - start)
    return list(np.diff(clock)), fitted.history[-1]["loss"], ranking[-1]


def peer(config: Config, log: data.Interactions) -> tuple[list[float], float]:
    """The same of RecTools, in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        order = log.order()
        np.savez(path, user=log.user[order], item=log.item[order], step=np.arange(len(log)))
        numbers = [str(n) for n in (config.batch, config.dim, config.length, config.epochs)]
        script = Path(__file__).with_name("_rectools_epoch.py")
        done = subprocess.run([config.peer_python, str(script), str(path), *numbers], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"RecTools did not run:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    return found["seconds"], found["loss"]


def main(config: Config) -> None:
    if config.smoke:
        config = dataclasses.replace(config, batch=16, dim=8, length=16, epochs=2)
    log, num_items = training_log(config)
    base = SequenceConfig(epochs=config.epochs, batch_size=config.batch, history_length=config.length)
    contenders = {
        "recjax, parts of like length": base,
        "recjax, all padded alike": dataclasses.replace(base, num_buckets=1),
        "recjax, all padded alike, batches whole": dataclasses.replace(base, num_buckets=1, accumulate=1),
    }
    rows, reference = [], None
    for name, training in contenders.items():
        seconds, loss, ranking = ours(config, log, num_items, training)
        epoch = float(np.median(seconds[1:]))
        reference = reference or epoch
        times = ratio(epoch / reference, 2)
        rows.append([name, number(epoch, "s", 1), times, number(loss, "nats", 3), number(ranking, "s", 1)])
    if config.peer_python:
        seconds, loss = peer(config, log)
        epoch = float(np.median(seconds[1:]))
        times = ratio(epoch / reference, 2)
        rows.append(["RecTools SASRec", number(epoch, "s", 1), times, number(loss, "nats", 3), number(None, "s")])
    show(
        config,
        "sequence_epoch",
        f"SASRec, {len(log):,} events, {num_items:,} items, dim {config.dim}, length {config.length},"
        f" batch {config.batch}",
        ["", "s an epoch", "ratio", f"loss of epoch {config.epochs}", "s to rank all users"],
        rows,
        ["jax", "flax", "optax"],
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
