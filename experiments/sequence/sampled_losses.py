"""What sampled losses cost in quality, beside the softmax over the whole catalogue.

The two-tower recommender of ``recjax loop`` is trained on MovieLens-100K with every loss of
``recjax.losses`` and with the samplers of negatives, and ranks the whole catalogue.

    python experiments/sequence/sampled_losses.py              # 8 min on 2 cores
    python experiments/sequence/sampled_losses.py --smoke      # a generated log, seconds

Prints one table, mean and half the range over seeds, with its protocol. Every training writes one JSON
file below ``--out``; a study that was killed and is started again goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _generated import ring
from _results import Result
from runner import Options, Study, mean_and_spread, run

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
class Config(Options):
    data: str = "ml-100k"
    """Named data set."""
    negatives: int = 256
    """Items that the positions of a batch share as negatives."""
    learning_rates: tuple[float, ...] = (1e-2, 3e-3)
    """Each loss gets the rate with the best NDCG@10 of the validation items of the first seed."""


def train_and_rank(dataset: Dataset, split: Split, options: TwoTowerConfig, cosine: bool, seed: int) -> dict[str, Any]:
    """Metrics of the validation and of the test items of one training, ready for JSON."""
    module = Recommendation.of(
        dataset.num_items,
        dim=32,
        encoder="attention",
        temperature=0.1 if cosine else 1.0,
        normalized=cosine,
    )
    items = data.item_features(dataset, split.train)
    log = data.sequences(split.train, dataset.num_users)
    params = fit_recommendation(module, log, items, options, key=jax.random.key(seed)).params
    score = jax.tree_util.Partial(TwoTower.scores, TwoTower(params, items, module))
    protocol = Protocol(split=split.protocol, history_length=options.history_length)
    known = {"validation": split.train, "test": data.concatenate(split.train, split.validation)}
    held_out = {"validation": split.validation, "test": split.test}
    found = {}
    for part, log_of_part in known.items():
        task = data.next_items(log_of_part, held_out[part], dataset.num_users, options.history_length)
        metrics = evaluate(score, task.observation.history, task.targets, protocol, seen=task.seen).metrics
        found[part] = {short: metrics[name] for short, name in METRICS.items()}
    return {"protocol": str(protocol), **found}


def main(study: Study) -> None:
    config: Any = study.config
    dataset = ring() if config.smoke else data.load(config.data)
    dataset = dataclasses.replace(dataset, context_names=(), context=None)
    split = data.leave_one_out(dataset.interactions)
    results: list[list[Result]] = []
    for loss, sampler, similarity in LOSSES[4:6] if config.smoke else LOSSES:
        options = TwoTowerConfig(loss=loss, negatives=config.negatives, epochs=1 if config.smoke else 6)
        options = dataclasses.replace(options, sampler="uniform" if sampler == "–" else sampler)

        def one(rate: float, seed: int) -> Result:
            trained = dataclasses.replace(options, learning_rate=rate)  # noqa: B023
            condition = {"loss": loss, "sampler": sampler, "similarity": similarity, "learning_rate": rate}  # noqa: B023
            cosine = similarity == "cosine"  # noqa: B023
            return study.result(
                lambda: train_and_rank(dataset, split, trained, cosine, seed), seed, condition, ["learning_rates"]
            )

        tried = [one(rate, 0) for rate in config.learning_rates]
        best = max(tried, key=lambda result: result.found["validation"]["NDCG@10"])
        others = (one(best.condition["learning_rate"], seed) for seed in range(1, config.seeds))
        results.append([best, *others])
    show(study, results)


def show(study: Study, results: list[list[Result]]) -> None:
    """One row a loss, sampler and similarity."""
    config: Any = study.config
    names = ["loss", "sampler", "similarity", "learning_rate"]
    lines = [
        (
            [
                *(str(found[0].condition[name]) for name in names), str(len(found)),
                *(mean_and_spread([result.found["test"][metric] for result in found]) for metric in METRICS),
            ],
            found,
        )
        for found in results
    ]  # fmt: skip
    headings = [*names[:3], "learning rate", "seeds", *METRICS]
    title = f"{config.data}, {config.negatives} negatives"
    study.show(title, headings, lines, caption=results[0][0].found["protocol"], left=3)


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, negatives=8, learning_rates=(1e-2,))
