"""How much of a language model to train along with a recommender: nothing of it, low-rank changes, or whole layers.

    python experiments/fine_tuning.py                # MovieLens-100K, 5 seeds
    python experiments/fine_tuning.py --smoke        # a generated log and a tiny random language model, seconds

A share of the items is cold: all their events are taken out of the training log. First a SASRec learns to recommend
from the vectors that a language model makes of titles and genres, as they are. From there it goes on in three ways,
by the same batches, loss and number of epochs: the language model stays frozen; its upper layers get low-rank
changes; or they are trained whole. What the lower layers make of the texts is computed once. Nothing is chosen by the
test items: the last event of each user, a cold one ranked among the cold items and a warm one among the others.

Prints one table: what was trained of the language model, the seconds of an epoch after compilation, metrics as mean and
half the range over seeds, and the paired difference to the whole layers with its interval over seeds. Every seed writes
one JSON file below ``--out``, and its trainings their checkpoints below ``--work``; a study that was killed and is
started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _new_items import METRICS, PARTS, Problem, problem, rank, ring, sasrec, tiny
from _runs import kept, mean_and_spread, recipe_hash, run_study, stated
from rich.console import Console
from rich.table import Table

from recjax import data, fit, nn
from recjax.data import Dataset
from recjax.eval import paired_difference
from recjax.fit import Checkpoints, Progress
from recjax.models import text
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Items, PyTree

WAYS = ("frozen", "low rank", "whole")
BEFORE = "before"
"""The row of what all ways go on from."""


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "ml-100k"
    """Named data set whose items have titles and genres."""
    language: str = "minilm"
    """Language model, a name or a folder."""
    layers: int = 2
    """Upper layers of the language model, which are trained along."""
    rank: int = 8
    """Of the changes of their matrices."""
    max_tokens: int = 24
    """Tokens of a text at most."""
    cold_share: float = 0.2
    """Of the items."""
    dim: int = 64
    """Width of the vectors."""
    history_length: int = 50
    """Events that the model sees."""
    epochs: int = 30
    """Of the training before, from vectors that stay as they are."""
    further: int = 6
    """Epochs of each of the ways from there."""
    batch_size: int = 64
    """Users of a batch."""
    temperature: float = 0.07
    """Of the cosine."""
    dropout: float = 0.2
    """Between layers."""
    item_dropout: float = 0.2
    """Of the vectors of items."""
    learning_rate: float = 1e-3
    """The peak."""
    whole_rate: float = 1e-4
    """The peak where the upper layers are trained whole."""
    seeds: int = 5
    """Of the draw of cold items, the initial parameters and the training."""
    out: Path = Path("experiments/results/fine_tuning")
    """Where the JSON files go."""
    work: Path = Path("runs/fine_tuning")
    """Where checkpoints go."""
    smoke: bool = False
    """A small generated log: checks that the script runs."""


TEXTS_ALONE = {"use_id": False, "adaptor": "mlp"}


def in_language(path: tuple[str, ...]) -> bool:
    return "language" in path


def adaptation(way: str, config: Config) -> fit.Adaptation | None:
    """What is trained: all but the language model, and of this what the way says."""
    others = fit.only(lambda path: not in_language(path))
    if way == "frozen":
        return others
    if way == "whole":
        return None
    matrices = fit.lora(config.rank, lambda path: in_language(path) and path[-1] == "kernel", stacked=text.in_layers)
    return fit.chain(matrices, others)


@dataclasses.dataclass(frozen=True)
class Study:
    """One draw of cold items and what is the same for all ways.

    Attributes:
      of: the draw.
      model: the language model.
      seed: of everything.
      config: of the study.
      progress: where epochs are shown.
    """

    of: Problem
    model: text.LanguageModel
    seed: int
    config: Config
    progress: Progress

    @property
    def first(self) -> int:
        """The lowest layer of the language model that is trained."""
        return self.model.config.num_layers - self.config.layers

    def items(self) -> Items:
        """All items, as their tokens and what the lower layers make of them."""
        texts = data.item_texts(self.of.dataset)
        return text.with_tokens(self.of.items, self.model, texts, first=self.first, max_tokens=self.config.max_tokens)

    def fit(self, module: nn.Recommendation, items: Items, name: str, **options: Any) -> Any:
        """Trains on the warm items."""
        training = SequenceConfig(
            history_length=self.config.history_length, schedule="cosine", weight_decay=0.01, max_grad_norm=1.0,
            batch_size=self.config.batch_size, lengths=1, **options.pop("training"),
        )  # fmt: skip
        return fit_sequences(
            module, data.sequences(self.of.train, self.of.dataset.num_users), warm(items, self.of), training,
            key=jax.random.key(self.seed), progress=self.progress,
            checkpoints=Checkpoints(
                self.config.work / f"{name.replace(' ', '_')}-{recipe_hash(stated(self.config))}-{self.seed}", keep=1
            ), **options,
        )  # fmt: skip

    def measure(self, params: PyTree, items: Items, **options: Any) -> dict[str, Any]:
        """Metrics of cold and of warm items, ready for JSON."""
        module = sasrec(self.of.dataset.num_items, self.config, **TEXTS_ALONE, **options)
        found = {part: rank(self.of, module, params, items, part).metrics for part in PARTS}
        return {part: {short: metrics[key] for short, key in METRICS.items()} for part, metrics in found.items()}


def warm(items: Items, of: Problem) -> Items:
    return jax.tree.map(lambda leaf: leaf[: of.num_warm], items)


def result(
    dataset: Dataset, seed: int, language: Callable[[], text.LanguageModel], config: Config, progress: Progress
) -> dict[str, Any]:
    """What one draw of cold items found, ready for JSON."""
    study = Study(problem(dataset, seed, config.cold_share, config.history_length), language(), seed, config, progress)
    items, num_warm = study.items(), study.of.num_warm
    tower = text.text_tower(study.model, first=study.first)
    trained_along = sasrec(num_warm, config, text_encoder=tower, **TEXTS_ALONE)
    shown = jax.tree.map(lambda leaf: leaf[:1], study.of.test.observation)
    shown = dataclasses.replace(shown, history=jnp.minimum(shown.history, num_warm - 1))
    start = trained_along.init(jax.random.key(seed), shown, warm(items, study.of))
    start = text.with_language(start, study.model, first=study.first)

    as_they_are = dataclasses.replace(study.of.items, vectors=made_by(tower(), start, items))
    once = {"epochs": config.epochs, "learning_rate": config.learning_rate}
    learned = study.fit(sasrec(num_warm, config, **TEXTS_ALONE), as_they_are, BEFORE, training=once).params
    rows = {BEFORE: study.measure(learned, as_they_are)}
    start = with_encoder(learned, start)
    for way in WAYS:
        rate = config.whole_rate if way == "whole" else config.learning_rate
        further = {"epochs": config.further, "learning_rate": rate, "loss": "sampled_softmax", "sampler": "in_batch"}
        ends: list[float] = []
        fitted = study.fit(
            trained_along, items, way, training=further, params=start, adaptation=adaptation(way, config),
            callback=lambda epoch, params: ends.append(time.perf_counter()),  # noqa: B023
        )  # fmt: skip
        rows[way] = study.measure(fitted.params, items, text_encoder=tower)
        rows[way]["seconds_per_epoch"] = float(np.median(np.diff(ends))) if len(ends) > 1 else None
        rows[way]["trained"] = num_trained(way, start, config) - num_trained("frozen", start, config)
    return {
        "data": dataset.name, "seed": seed, "config": stated(config), "language": study.model.num_params, "rows": rows,
    }  # fmt: skip


def made_by(tower: text.TextTower, params: PyTree, items: Items, block: int = 64) -> jax.Array:
    """What the tower makes of all items, ``[N, H]``, in blocks."""
    variables = {"params": params["params"]["item"]["encoder"]}
    rows = np.minimum(np.arange(-(-items.num_items // block) * block), items.num_items - 1).reshape(-1, block)
    vectors = jax.lax.map(lambda each: tower.apply(variables, each, items), jnp.asarray(rows))
    return vectors.reshape(-1, vectors.shape[-1])[: items.num_items]


def with_encoder(learned: PyTree, start: PyTree) -> PyTree:
    """What was learned of fixed vectors, with the language model in their place."""
    item = learned["params"]["item"] | {"encoder": start["params"]["item"]["encoder"]}
    return {"params": learned["params"] | {"item": item}}


def num_trained(way: str, params: PyTree, config: Config) -> int:
    adapted = adaptation(way, config)
    trained = params if adapted is None else jax.eval_shape(adapted.init, jax.random.key(0), params)
    return sum(leaf.size for leaf in jax.tree.leaves(trained))


def show(results: list[dict[str, Any]]) -> None:
    """One row a way, seeds together."""
    first = results[0]
    table = Table(title=f"{first['data']}: a language model of {first['language']:,} numbers", title_justify="left")
    table.add_column("language model")
    for heading in ("trained of it", "s an epoch", *(f"{part} {metric}" for part in PARTS for metric in METRICS)):
        table.add_column(heading, justify="right")
    for part in PARTS:
        table.add_column(f"{part} NDCG@10 less whole", justify="right")
    for name in first["rows"]:
        found = [each["rows"][name] for each in results]
        seconds = [row["seconds_per_epoch"] for row in found if row.get("seconds_per_epoch") is not None]
        trained = found[0].get("trained", 0)
        cells = [
            f"{trained:,} ({trained / first['language']:.2%})" if trained else "–",
            f"{np.median(seconds):.1f}" if seconds else "–",
            *(mean_and_spread([row[part][metric] for row in found]) for part in PARTS for metric in METRICS),
        ]
        for part in PARTS:
            own, whole = ([each["rows"][way][part]["NDCG@10"] for each in results] for way in (name, WAYS[-1]))
            cells.append("" if name == WAYS[-1] else difference(own, whole))
        table.add_row(name, *cells)
    Console(width=180).print(table)


def difference(own: list[float], other: list[float]) -> str:
    """The mean difference and, of several seeds, its paired interval."""
    if len(own) == 1:
        return f"{own[0] - other[0]:+.4f}"
    interval = paired_difference(own, other)
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def main(config: Config) -> None:
    dataset = ring() if config.smoke else data.load(config.data)
    if not config.smoke:
        dataset = data.with_enough_events(dataset, per_item=5)
    # Read once, and only where there is something to train.
    language = functools.cache(lambda: tiny(data.item_texts(dataset)) if config.smoke else text.load(config.language))
    name = f"{config.data}-{recipe_hash(stated(config))}"
    with Progress(enabled=not config.smoke) as progress:
        results = [
            kept(
                config.out / f"{name}-{seed}.json",
                functools.partial(result, dataset, seed, language, config, progress),
            )
            for seed in range(config.seeds)
        ]
    show(results)


if __name__ == "__main__":
    small = {"dim": 8, "history_length": 8, "epochs": 1, "further": 2, "seeds": 1, "rank": 2, "batch_size": 16}
    run_study(main, tyro.cli(Config, description=__doc__), **small)
