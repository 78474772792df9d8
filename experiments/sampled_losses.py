"""What sampled losses cost in quality, beside the softmax over the whole catalogue.

The two-tower recommender of ``recjax loop`` is trained on MovieLens-100K with every loss of
``recjax.catalogue.losses`` and with the samplers of negatives, and ranks the whole catalogue.

    python experiments/sampled_losses.py              # 8 min on 2 cores
    python experiments/sampled_losses.py --smoke      # a generated log, seconds

Prints one table, mean and half the range over seeds, with its protocol, and writes it with every
single number to ``sampled_losses.json`` in ``--out``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import tyro
from rich.console import Console
from rich.table import Table

from recjax import data
from recjax.data import Dataset
from recjax.eval import Protocol, evaluate
from recjax.models.sequence import TwoTower, TwoTowerConfig, fit_recommendation
from recjax.nn import Recommendation

LOSSES = (
    ("softmax", "–", "cosine"),
    ("sampled_softmax", "uniform", "cosine"),
    ("sampled_softmax", "popularity", "cosine"),
    ("sampled_softmax", "in_batch", "cosine"),
    ("sampled_softmax", "mixed", "cosine"),
    ("gbce", "uniform", "cosine"),
    ("gbce", "uniform", "dot"),
    ("bce", "uniform", "cosine"),
    ("bce", "uniform", "dot"),
    ("bpr", "uniform", "cosine"),
    ("bpr", "uniform", "dot"),
)
METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10"}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "ml-100k"
    """Named data set."""
    negatives: int = 256
    """Items that the positions of a batch share as negatives."""
    learning_rates: tuple[float, ...] = (1e-2, 3e-3)
    """Each loss gets the rate with the best NDCG@10 of the validation items of the first seed."""
    seeds: int = 3
    """Trainings of each loss."""
    out: Path = Path("runs/sampled_losses")
    """Where the table goes."""
    smoke: bool = False
    """A small generated log: checks that the script runs."""


def generated() -> Dataset:
    """Users who walk along a ring of items."""
    user, step = np.divmod(np.arange(64 * 12), 12)
    item = (np.random.default_rng(0).integers(0, 40, 64)[user] + step) % 40
    return data.from_frame(
        pl.DataFrame({"user": user, "item": item, "timestamp": step}),
        data.Columns(time="timestamp"),
        time_format="s",
        name="a ring",
    )[0]


def train_and_rank(dataset: Dataset, split: Any, similarity: str, options: TwoTowerConfig, seed: int) -> Any:
    """Evaluations on the validation and on the test items of one training."""
    module = Recommendation(
        num_items=dataset.num_items,
        dim=32,
        encoder="attention",
        text_vocabulary=len(data.title_vocabulary(dataset)),
        temperature=0.1 if similarity == "cosine" else 1.0,
        normalized=similarity == "cosine",
    )
    items = data.item_features(dataset, split.train)
    log = data.sequences(split.train, dataset.num_users)
    params = fit_recommendation(module, log, items, options, key=jax.random.key(seed)).params
    model, length = TwoTower(params, items, module), options.history_length
    protocol = Protocol(split=split.protocol, history_length=length)
    evaluations = []
    for known, held_out in (
        (split.train, split.validation),
        (data.concatenate(split.train, split.validation), split.test),
    ):
        task = data.next_items(known, held_out, dataset.num_users, length)
        score = jax.tree_util.Partial(TwoTower.scores, model)
        evaluations.append(evaluate(score, task.observation.history, task.targets, protocol, seen=task.seen))
    return evaluations


def main(config: Config) -> None:
    dataset = generated() if config.smoke else data.load(config.data)
    dataset = dataclasses.replace(dataset, context_names=(), context=None)
    if config.smoke:
        config = dataclasses.replace(config, negatives=8, learning_rates=(1e-2,), seeds=1)
    split = data.leave_one_out(dataset.interactions)
    results: list[dict[str, Any]] = []
    for loss, sampler, similarity in LOSSES[3:6] if config.smoke else LOSSES:
        options = TwoTowerConfig(loss=loss, negatives=config.negatives, epochs=1 if config.smoke else 6)
        options = dataclasses.replace(options, sampler="uniform" if sampler == "–" else sampler)
        tried = {
            rate: train_and_rank(dataset, split, similarity, dataclasses.replace(options, learning_rate=rate), 0)
            for rate in config.learning_rates
        }
        rate = max(tried, key=lambda rate: tried[rate][0].metrics["ndcg@10"])
        options = dataclasses.replace(options, learning_rate=rate)
        runs = [tried[rate]] + [
            train_and_rank(dataset, split, similarity, options, seed) for seed in range(1, config.seeds)
        ]
        numbers = {name: [run[1].metrics[metric] for run in runs] for name, metric in METRICS.items()}
        results.append({"loss": loss, "sampler": sampler, "similarity": similarity, "learning rate": rate, **numbers})
    protocol = runs[0][1]
    table = Table(
        title=f"{dataset.name}, {config.negatives} negatives, {config.seeds} seeds", caption=str(protocol.protocol)
    )
    for heading in ("loss", "sampler", "similarity", "learning rate", *METRICS):
        table.add_column(heading, justify="left" if heading in ("loss", "sampler", "similarity") else "right")
    for row in results:
        spread = (f"{np.mean(row[name]):.4f} ± {np.ptp(row[name]) / 2:.4f}" for name in METRICS)
        table.add_row(row["loss"], row["sampler"], row["similarity"], f"{row['learning rate']:g}", *spread)
    Console(width=120).print(table)
    config.out.mkdir(parents=True, exist_ok=True)
    kept = {
        "config": {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "smoke")},
        "protocol": str(protocol.protocol),
        "results": results,
    }
    (config.out / "sampled_losses.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
