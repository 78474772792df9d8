"""What sampled losses cost in quality, beside the softmax over the whole catalogue.

The two-tower recommender of ``recjax loop`` is trained on MovieLens-100K with every loss of
``recjax.catalogue.losses`` and with the samplers of negatives, and ranks the whole catalogue.

    python experiments/sampled_losses.py              # 8 min on 2 cores
    python experiments/sampled_losses.py --smoke      # a generated log, seconds

Prints one table, mean and half the range over seeds, with its protocol. Every training writes one JSON
file below ``--out``; a study that was killed and is started again goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import tyro
from _runs import kept, mean_and_spread, recipe_hash, run_study, stated
from rich.console import Console
from rich.table import Table

from recjax import data
from recjax.data import Dataset, Split
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
    out: Path = Path("experiments/results/sampled_losses")
    """Where the JSON files go."""
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


def train_and_rank(dataset: Dataset, split: Split, options: TwoTowerConfig, said: dict[str, Any]) -> dict[str, Any]:
    """Metrics of the validation and of the test items of one training, ready for JSON."""
    cosine = said["similarity"] == "cosine"
    module = Recommendation.of(
        dataset.num_items,
        dim=32,
        encoder="attention",
        temperature=0.1 if cosine else 1.0,
        normalized=cosine,
    )
    items = data.item_features(dataset, split.train)
    log = data.sequences(split.train, dataset.num_users)
    params = fit_recommendation(module, log, items, options, key=jax.random.key(said["seed"])).params
    score = jax.tree_util.Partial(TwoTower.scores, TwoTower(params, items, module))
    protocol = Protocol(split=split.protocol, history_length=options.history_length)
    known = {"validation": split.train, "test": data.concatenate(split.train, split.validation)}
    held_out = {"validation": split.validation, "test": split.test}
    found = {}
    for part, log_of_part in known.items():
        task = data.next_items(log_of_part, held_out[part], dataset.num_users, options.history_length)
        metrics = evaluate(score, task.observation.history, task.targets, protocol, seen=task.seen).metrics
        found[part] = {short: metrics[name] for short, name in METRICS.items()}
    return {"data": dataset.name, **said, "protocol": str(protocol), **found}


def main(config: Config) -> None:
    dataset = generated() if config.smoke else data.load(config.data)
    dataset = dataclasses.replace(dataset, context_names=(), context=None)
    split = data.leave_one_out(dataset.interactions)
    recipe = recipe_hash(stated(config, "learning_rates"))
    results: list[dict[str, Any]] = []
    for loss, sampler, similarity in LOSSES[3:6] if config.smoke else LOSSES:
        options = TwoTowerConfig(loss=loss, negatives=config.negatives, epochs=1 if config.smoke else 6)
        options = dataclasses.replace(options, sampler="uniform" if sampler == "–" else sampler)
        said = {"loss": loss, "sampler": sampler, "similarity": similarity, "negatives": config.negatives}

        def one(rate: float, seed: int) -> dict[str, Any]:
            trained = dataclasses.replace(options, learning_rate=rate)  # noqa: B023
            run = said | {"learning_rate": rate, "seed": seed}  # noqa: B023
            words = (config.data, *map(str, run.values()), recipe)
            path = config.out / ("-".join(words).replace("–", "all") + ".json")
            return kept(path, functools.partial(train_and_rank, dataset, split, trained, run))

        tried = [one(rate, 0) for rate in config.learning_rates]
        best = max(tried, key=lambda result: result["validation"]["NDCG@10"])
        results += [best, *(one(best["learning_rate"], seed) for seed in range(1, config.seeds))]
    show(results)


def show(results: list[dict[str, Any]]) -> None:
    """One row a loss, sampler and similarity."""
    first = results[0]
    table = Table(title=f"{first['data']}, {first['negatives']} negatives", caption=first["protocol"])
    names = ("loss", "sampler", "similarity", "learning_rate")
    for heading in (*names, "seeds", *METRICS):
        table.add_column(heading.replace("_", " "), justify="left" if heading in names[:3] else "right")
    for row in dict.fromkeys(tuple(str(result[name]) for name in names) for result in results):
        found = [result for result in results if tuple(str(result[name]) for name in names) == row]
        spread = (mean_and_spread([result["test"][metric] for result in found]) for metric in METRICS)
        table.add_row(*row, str(len(found)), *spread)
    Console(width=120).print(table)


if __name__ == "__main__":
    run_study(main, tyro.cli(Config, description=__doc__), negatives=8, learning_rates=(1e-2,), seeds=1)
