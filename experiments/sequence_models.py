"""Models of the next item at published quality, under published protocols.

    python experiments/sequence_models.py --data ml-1m --model sasrec --seed 0      # 10 min on 2 cores
    python experiments/sequence_models.py --data amazon-beauty --model sasrec
    python experiments/sequence_models.py --table                                   # seconds
    python experiments/sequence_models.py --smoke                                   # a generated log, seconds

It trains one model with one seed and writes one JSON file with its recipe and the hash of it, the protocol,
validation and test metrics. Killed and started again, it goes on from its last epoch; where the file lies
already, nothing is trained. ``--table`` prints what ``experiments/results/sequence_models`` holds, mean and half
the range over seeds, one table a data set.

Protocols: leave one out (the last item of each user is the test, the one before it the validation item and
part of what is known at the test), the whole catalogue ranked, items that the user had left out, the best
epoch by NDCG@10 of the validation items.

* ``ml-1m``: MovieLens-1M, items with at least 5 ratings (3,416 items, 999,611 events), histories of 200; that
  of Klenitskiy and Vasilev (RecSys 2023), whose SASRec with the softmax over the whole catalogue has HR@10
  .3152 and NDCG@10 .1821.
* ``ml-100k``: MovieLens-100K, 943 users and 1,682 items, histories of 200.
* ``amazon-beauty``: the 5-core of S3-Rec (22,363 users, 12,101 items), histories of 50; that of eSASRec
  (RecSys 2025), whose best rows have Recall@10 .0928 and NDCG@10 .0531.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import polars as pl
import tyro
from _runs import kept, mean_and_spread, recipe_hash
from rich.console import Console
from rich.table import Table

from recjax import catalogue, data, nn
from recjax.data import Dataset, NextItems, Split
from recjax.eval import Evaluation, Protocol, evaluate
from recjax.fit import Checkpoints, EarlyStopping, Progress
from recjax.models.collaborative import collaborative_models
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Observation, PyTree

RESULTS = Path(__file__).parent / "results" / "sequence_models"
METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10", "MRR": "mrr"}
HISTORY = {"ml-1m": 200, "ml-100k": 200, "amazon-beauty": 50, "ring": 12}
ITEM_FILTER = {"ml-1m": "with at least 5 ratings"}
WITH_TIMES = ("ml-1m", "ml-100k")

ENCODERS: dict[str, Callable[..., Any]] = {
    "sasrec": nn.SelfAttentionEncoder,
    "bert4rec": nn.BidirectionalEncoder,
    "hstu": nn.HSTUEncoder,
    "gru4rec": nn.GRUEncoder,
}
BLOCKS: dict[str, dict[str, Any]] = {
    "sasrec": {"num_heads": 1, "norm": "query", "expansion": 1, "activation": "relu"},  # the published block
    "bert4rec": {"num_heads": 2},
    "hstu": {"num_heads": 2, "positions": "relative"},
    "gru4rec": {},
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    Attributes:
      dim: width of the vectors.
      temperature: divides the similarity.
      normalized: whether the similarity is a cosine.
      item_norm: ``initial_norm`` of :class:`recjax.nn.ItemTower`; 0.2 learned faster and to a better end than 1.
      item_dropout: see there.
      project: see there.
      encoder: options of the encoder.
      training: see :class:`recjax.models.sequence.SequenceConfig`.
      patience: epochs without a better validation NDCG@10 before training stops.
    """

    dim: int = 64
    temperature: float = 1.0
    normalized: bool = False
    item_norm: float = 0.2
    item_dropout: float = 0.0
    project: bool = False
    encoder: dict[str, Any] = dataclasses.field(default_factory=dict)
    training: SequenceConfig = dataclasses.field(default_factory=lambda: SequenceConfig(learning_rate=2e-3))
    patience: int = 10


RECIPES: dict[str, Recipe] = {
    "ml-1m": Recipe(
        dim=128,
        encoder={"num_blocks": 2, "dropout": 0.2},
        training=SequenceConfig(epochs=30, learning_rate=2e-3, schedule="cosine", windows="all"),
        patience=20,
    ),
    "ml-100k": Recipe(
        item_dropout=0.3,
        encoder={"num_blocks": 2, "dropout": 0.3},
        training=SequenceConfig(epochs=60, batch_size=32, learning_rate=2e-3, schedule="cosine", windows="all"),
        patience=20,
    ),
    "amazon-beauty": Recipe(
        dim=128,
        item_dropout=0.5,
        encoder={"num_blocks": 1, "dropout": 0.2, "positions": "from_end"},
        training=SequenceConfig(epochs=45, learning_rate=3e-3, schedule="cosine", history_length=50),
    ),
}
"""What the models of a data set have in common."""
SMOKE = Recipe(dim=16, training=SequenceConfig(epochs=2, batch_size=16, history_length=12, lengths=1))
COLLABORATIVE: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {"neighbours": 200},
    "user_knn": {"neighbours": 200},
    "als": {"factors": 64},
    "ease": {"regularization": 500.0},
    "bpr": {},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train one model and write what it scores, or print the tables."""

    data: Literal["ml-1m", "ml-100k", "amazon-beauty"] = "ml-1m"
    """Data set and protocol."""
    model: Literal[
        "sasrec", "bert4rec", "hstu", "gru4rec", "bpr", "als", "ease", "item_knn", "user_knn", "popularity"
    ] = "sasrec"
    """What to train."""
    seed: int = 0
    """Of initial parameters, shuffles and dropout."""
    out: Path = RESULTS
    """Where the JSON file goes."""
    work: Path = Path("runs/sequence_models")
    """Where checkpoints go."""
    table: bool = False
    """Print the tables of what lies in ``out`` and train nothing."""
    smoke: bool = False
    """A small generated log and two epochs of some models: checks that the script runs."""


def load(name: str) -> Dataset:
    """The data set of a protocol."""
    if name == "ring":  # Users who walk along a ring of items.
        user, step = np.divmod(np.arange(64 * 12), 12)
        item = (np.random.default_rng(0).integers(0, 40, 64)[user] + step) % 40
        return data.from_frame(
            pl.DataFrame({"user": user, "item": item, "timestamp": step}),
            data.Columns(time="timestamp"),
            time_format="s",
            name=name,
        )[0]
    dataset = data.load(name)
    return data.with_enough_events(dataset, per_item=5) if name == "ml-1m" else dataset


def recipe_for(name: str, model: str) -> Recipe | dict[str, Any]:
    """How a model is trained on a data set: by the recipe of the data, with the published block of the model."""
    if model in COLLABORATIVE:
        return COLLABORATIVE[model]
    recipe, training = RECIPES[name], RECIPES[name].training
    known = {field.name for field in dataclasses.fields(ENCODERS[model])}
    encoder = {option: value for option, value in recipe.encoder.items() if option in known} | BLOCKS[model]
    if model == "hstu" and name in WITH_TIMES:
        encoder["time_buckets"] = 64
    if model == "bert4rec":  # A fifth of the events is asked for at a time, so it takes more epochs.
        training = dataclasses.replace(training, objective="cloze", epochs=3 * training.epochs, warmup_steps=500)
    return dataclasses.replace(recipe, encoder=encoder, training=training)


def stated(recipe: Recipe | dict[str, Any]) -> dict[str, Any]:
    """A recipe as it is written down."""
    return dataclasses.asdict(recipe) if isinstance(recipe, Recipe) else recipe


def run(name: str, model: str, seed: int, recipe: Recipe | dict[str, Any], work: Path) -> dict[str, Any]:
    """One training: its result, ready for JSON."""
    dataset = load(name)
    split = data.leave_one_out(dataset.interactions)
    length = HISTORY[name]
    protocol = Protocol(split=split.protocol, history_length=length, item_filter=ITEM_FILTER.get(name, "all"))
    validation = data.next_items(split.train, split.validation, dataset.num_users, length)
    known = data.concatenate(split.train, split.validation)
    test = data.next_items(known, split.test, dataset.num_users, length)
    started = time.perf_counter()
    if isinstance(recipe, Recipe):
        score, trained = train(dataset, split, model, seed, recipe, protocol, validation, work)
    else:
        options = {"key": jax.random.key(seed)} if model in ("als", "bpr") else {}
        fitted = collaborative_models.make(model, split.train, dataset.num_items, **recipe, **options)
        score, trained = jax.tree_util.Partial(_collaborative, fitted), {}
    seconds = time.perf_counter() - started
    scored = {"validation": rank(score, validation, protocol), "test": rank(score, test, protocol)}
    return {
        "data": dataset.describe()["name"],
        "counts": {"users": dataset.num_users, "items": dataset.num_items, "events": len(dataset.interactions)},
        "model": model,
        "seed": seed,
        "recipe": stated(recipe),
        "recipe_hash": recipe_hash(name, model, stated(recipe)),
        "protocol": str(protocol),
        **{part: {short: e.metrics[metric] for short, metric in METRICS.items()} for part, e in scored.items()},
        "latency_ms": round(latency(score, test), 2),
        "seconds": round(seconds, 1),
        **trained,
    }


def rank(score: Callable, task: NextItems, protocol: Protocol) -> Evaluation:
    """Ranks the targets of all users."""
    return evaluate(score, task.observation, task.targets, protocol, seen=task.seen)


def latency(score: Callable, task: NextItems, repeats: int = 50) -> float:
    """Milliseconds from the history of one user to ten items, compiled: the median over users."""

    @jax.jit
    def recommend(score: Callable, observation: Observation, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
        scored = score(observation)
        queries, items = scored if isinstance(scored, tuple) else catalogue.dense_scorer(scored)
        return catalogue.top_k(queries, items, k=10, exclude=seen)

    taken = []
    for user in range(min(repeats, len(task.targets))):
        one = jax.tree.map(lambda leaf, user=user: leaf[user : user + 1], (task.observation, task.seen))
        started = time.perf_counter()
        jax.block_until_ready(recommend(score, *one))
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3


def train(
    dataset: Dataset,
    split: Split,
    model: str,
    seed: int,
    recipe: Recipe,
    protocol: Protocol,
    validation: NextItems,
    work: Path,
) -> tuple[Callable, dict[str, Any]]:
    """A trained network as a function of observations, and how training went."""
    # Ids alone, as in the papers: no features of items, nor what a user did to them.
    items = data.item_features(dataset, split.train).without_features()
    encoder = functools.partial(ENCODERS[model], **recipe.encoder)
    module = nn.Recommendation(
        item=nn.ItemTower(dataset.num_items, recipe.dim, initial_norm=recipe.item_norm, dropout=recipe.item_dropout),
        user=nn.UserTower(recipe.dim, encoder, project=recipe.project, use_behaviour=False),
        temperature=recipe.temperature,
        normalized=recipe.normalized,
    )
    clock = [time.perf_counter()]

    def validate(epoch: int, params: PyTree) -> dict[str, float]:
        trained_at = time.perf_counter()
        metrics = rank(nn.scorer(module, params, items), validation, protocol)
        clock.append(time.perf_counter())
        return {
            "ndcg@10": metrics.metrics["ndcg@10"],
            "seconds_training": trained_at - clock[-2],
            "seconds_evaluation": clock[-1] - trained_at,
        }

    checkpoints = Checkpoints(work / f"{dataset.name}-{model}-{recipe_hash(stated(recipe))}-{seed}", keep=1)
    with Progress() as progress:
        fitted = fit_sequences(
            module,
            data.sequences(split.train, dataset.num_users),
            items,
            recipe.training,
            key=jax.random.key(seed),
            callback=validate,
            early_stopping=EarlyStopping("ndcg@10", recipe.patience),
            progress=progress,
            checkpoints=checkpoints,
        )
    history = fitted.history
    return nn.scorer(module, fitted.params, items), {
        "best_epoch": fitted.best_epoch,
        "epochs": len(history),
        "loss": [round(row["loss"], 4) for row in history],
        "validation_ndcg@10": [round(row["ndcg@10"], 4) for row in history],
        # Of all epochs, those before the run was killed and started again among them.
        "seconds": round(sum(row["seconds_training"] + row["seconds_evaluation"] for row in history), 1),
        "seconds_per_epoch": round(float(np.median([row["seconds_training"] for row in history])), 2),
        "seconds_per_evaluation": round(float(np.median([row["seconds_evaluation"] for row in history])), 2),
    }


def _collaborative(model: Any, observation: Observation) -> jax.Array:
    return model.scores(observation.history)


def show(results: list[dict[str, Any]]) -> None:
    """One table a data set, best models first."""
    console = Console(width=150)
    for name in sorted({result["data"] for result in results}):
        rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for result in results:
            if result["data"] == name:
                rows.setdefault((result["model"], result["recipe_hash"]), []).append(result)
        (protocol,) = {result["protocol"] for found in rows.values() for result in found}
        table = Table(title=f"{name}, test items", caption=protocol, title_justify="left", caption_justify="left")
        headings = ("model", "recipe", "seeds", *METRICS, "epochs", "s an epoch", "s in all", "ms a user")
        for heading in headings:
            table.add_column(heading, justify="left" if heading in ("model", "recipe") else "right")
        best_first = sorted(rows.items(), key=lambda row: -np.mean([r["test"]["NDCG@10"] for r in row[1]]))
        for (model, recipe), found in best_first:
            cells = [mean_and_spread([r["test"][metric] for r in found]) for metric in METRICS]
            epochs = ", ".join(str(r["epochs"]) for r in found if "epochs" in r) or "–"
            per_epoch = [r["seconds_per_epoch"] for r in found if "epochs" in r]
            pace = f"{np.median(per_epoch):.1f}" if per_epoch else "–"
            total = f"{np.mean([r['seconds'] for r in found]):,.0f}"
            latencies = [r["latency_ms"] for r in found if "latency_ms" in r]
            wait = f"{np.median(latencies):.1f}" if latencies else "–"
            table.add_row(model, recipe, str(len(found)), *cells, epochs, pace, total, wait)
        console.print(table)


def main(config: Config) -> None:
    if config.table:
        show([json.loads(path.read_text()) for path in sorted(config.out.glob("*.json"))])
        return
    if config.smoke:
        cloze = dataclasses.replace(SMOKE, training=dataclasses.replace(SMOKE.training, objective="cloze"))
        recipes = {"sasrec": SMOKE, "bert4rec": cloze} | COLLABORATIVE
        with tempfile.TemporaryDirectory() as work:
            show([run("ring", model, 0, recipe, Path(work)) for model, recipe in recipes.items()])
        return
    recipe = recipe_for(config.data, config.model)
    name = f"{config.data}-{config.model}-{recipe_hash(config.data, config.model, stated(recipe))}-{config.seed}.json"
    show([kept(config.out / name, lambda: run(config.data, config.model, config.seed, recipe, config.work))])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
