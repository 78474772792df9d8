"""Models of the next item at published quality, under published protocols.

    python experiments/sequence/sequence_models.py --data ml-1m --models sasrec         # 10 min on 2 cores
    python experiments/sequence/sequence_models.py --data amazon-beauty --seeds 3
    python experiments/sequence/sequence_models.py --table                              # seconds
    python experiments/sequence/sequence_models.py --smoke                              # a generated log, seconds

It trains models, each with its recipe, and prints what they score, mean and half the range over seeds. Killed and
started again, it goes on from the last epoch. ``--table`` trains nothing and prints all cached results, one table a
data set.

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
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _generated import ring
from _results import Result, config_hash
from runner import LongOptions, Study, mean_and_spread, run

from recjax import catalogue, data, nn
from recjax.data import Dataset, NextItems, Split
from recjax.eval import Evaluation, Protocol, evaluate
from recjax.fit import Checkpoints, EarlyStopping, Hooks, Progress
from recjax.models.collaborative import collaborative_models
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Observation, PyTree

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
SMOKE = Recipe(dim=16, training=SequenceConfig(epochs=2, batch_size=16, history_length=12, num_buckets=1))
COLLABORATIVE: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {"neighbours": 200},
    "user_knn": {"neighbours": 200},
    "als": {"factors": 64},
    "ease": {"regularization": 500.0},
    "bpr": {},
}


@dataclasses.dataclass(frozen=True)
class Config(LongOptions):
    data: Literal["ml-1m", "ml-100k", "amazon-beauty"] = "ml-1m"
    """Data set and protocol."""
    models: tuple[
        Literal["sasrec", "bert4rec", "hstu", "gru4rec", "bpr", "als", "ease", "item_knn", "user_knn", "popularity"],
        ...,
    ] = ("sasrec",)
    """What to train."""
    seeds: int = 1
    """Of initial parameters, shuffles and dropout."""
    table: bool = False
    """Print the tables of all cached results and train nothing."""


def load(name: str) -> Dataset:
    """The data set of a protocol."""
    if name == "ring":
        return ring()
    dataset = data.load(name)
    return data.with_enough_events(dataset, per_item=5) if name == "ml-1m" else dataset


def recipe_for(name: str, model: str) -> Recipe | dict[str, Any]:
    """How a model is trained on a data set: by the recipe of the data, with the published block of the model."""
    if model in COLLABORATIVE:
        return COLLABORATIVE[model]
    if name == "ring":
        objective = "cloze" if model == "bert4rec" else SMOKE.training.objective
        return dataclasses.replace(SMOKE, training=dataclasses.replace(SMOKE.training, objective=objective))
    recipe, training = RECIPES[name], RECIPES[name].training
    known = {field.name for field in dataclasses.fields(ENCODERS[model])}
    encoder = {option: value for option, value in recipe.encoder.items() if option in known} | BLOCKS[model]
    if model == "hstu" and name in WITH_TIMES:
        encoder["time_buckets"] = 64
    if model == "bert4rec":  # A fifth of the events is asked for at a time, so it takes more epochs.
        training = dataclasses.replace(training, objective="cloze", epochs=3 * training.epochs, warmup_steps=500)
    return dataclasses.replace(recipe, encoder=encoder, training=training)


def as_dict(recipe: Recipe | dict[str, Any]) -> dict[str, Any]:
    """A recipe as it is written down."""
    return dataclasses.asdict(recipe) if isinstance(recipe, Recipe) else recipe


def result(name: str, model: str, seed: int, recipe: Recipe | dict[str, Any], work: Path) -> dict[str, Any]:
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
        "counts": {"users": dataset.num_users, "items": dataset.num_items, "events": len(dataset.interactions)},
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
        one = jax.tree.map(lambda leaf, user=user: leaf[user : user + 1], task.observation)
        seen = jax.device_put(task.seen.rows(np.array([user])))
        started = time.perf_counter()
        jax.block_until_ready(recommend(score, one, seen))
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

    checkpoints = Checkpoints(work / f"{dataset.name}-{model}-{config_hash({}, as_dict(recipe))}-{seed}", keep=1)
    with Progress() as progress:
        fitted = fit_sequences(
            module,
            data.sequences(split.train, dataset.num_users),
            items,
            recipe.training,
            key=jax.random.key(seed),
            hooks=Hooks(validate, EarlyStopping("ndcg@10", recipe.patience), progress, checkpoints),
        )
    history = fitted.history
    return nn.scorer(module, fitted.params, items), {
        "best_epoch": fitted.best_epoch,
        "epochs": len(history),
        # Of all epochs, those before the run was killed and started again among them.
        "seconds": round(sum(row["seconds_training"] + row["seconds_evaluation"] for row in history), 1),
        "seconds_per_epoch": round(float(np.median([row["seconds_training"] for row in history])), 2),
        "seconds_per_evaluation": round(float(np.median([row["seconds_evaluation"] for row in history])), 2),
    }


def _collaborative(model: Any, observation: Observation) -> jax.Array:
    return model.scores(observation.history)


def show(study: Study, results: list[Result]) -> None:
    """One table a data set, best models first."""
    headings = ["model", "recipe", "seeds", *METRICS, "epochs", "s an epoch", "s in all", "ms a user"]
    for name in sorted({each.condition["data"] for each in results}):
        of_data = [each for each in results if each.condition["data"] == name]
        rows: dict[tuple[str, str], list[Result]] = {}
        for each in of_data:
            recipe = config_hash(each.condition, each.config)
            rows.setdefault((each.condition["model"], recipe), []).append(each)
        best_first = sorted(rows.items(), key=lambda row: -np.mean([r.found["test"]["NDCG@10"] for r in row[1]]))
        lines = [([*row, *cells(found)], found) for row, found in best_first]
        study.show(f"{name}, test items", headings, lines, caption=of_data[0].found["protocol"], left=2)


def cells(results: list[Result]) -> list[str]:
    """What one model scores, and what it costs."""
    found = [result.found for result in results]
    epochs = ", ".join(str(r["epochs"]) for r in found if "epochs" in r) or "–"
    per_epoch = [r["seconds_per_epoch"] for r in found if "epochs" in r]
    latencies = [r["latency_ms"] for r in found if "latency_ms" in r]
    return [
        str(len(found)), *(mean_and_spread([r["test"][metric] for r in found]) for metric in METRICS),
        epochs, f"{np.median(per_epoch):.1f}" if per_epoch else "–",
        f"{np.mean([r['seconds'] for r in found]):,.0f}", f"{np.median(latencies):.1f}" if latencies else "–",
    ]  # fmt: skip


def main(study: Study) -> None:
    config: Any = study.config
    if config.table:
        show(study, study.cached())
        return
    name = "ring" if config.smoke else config.data
    recipes = {model: recipe_for(name, model) for model in config.models}
    conditions = [{"data": name, "model": model, "recipe": as_dict(recipe)} for model, recipe in recipes.items()]

    def compute(condition: dict[str, Any], seed: int) -> dict[str, Any]:
        return result(name, condition["model"], seed, recipes[condition["model"]], config.work)

    show(study, study.grid(conditions, compute, ["data", "models", "table"]))


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, models=("sasrec", "bert4rec", *COLLABORATIVE))
