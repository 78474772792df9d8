"""Items as codes: how well ids are used, and what a retriever that generates them scores beside SASRec.

    python experiments/sequence/semantic_ids.py --data ml-100k                     # ALS vectors, 3 seeds
    python experiments/sequence/semantic_ids.py --data amazon-beauty --vectors sasrec  # those of the SASRec beside it
    python experiments/sequence/semantic_ids.py --data ml-100k --vectors texts     # of titles and genres by MiniLM
    python experiments/sequence/semantic_ids.py --data ml-100k --vectors mine.npy  # your own, one row an item
    python experiments/sequence/semantic_ids.py --smoke                            # a generated log, seconds

Item vectors become ids by residual k-means and by an RQ-VAE; items of the same codes are told apart by one
more level (TIGER) or moved to free codes. A generative retriever learns each kind of ids from whole
histories, and ranks by a search among the ids that exist. SASRec has the same width, blocks, epochs, batches
and early stopping. Leave one out, the whole catalogue ranked, seen items left out; the best epoch by NDCG@10
of the validation items of ``--validation-users`` users. One table: use of codes, collisions before they are
resolved and after, Recall and NDCG at 5 and 10, mean and half the range over seeds.

Every training writes one JSON file below ``--out``, and its checkpoints below ``--work``; a run that was
killed and is started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _generated import ring
from _results import Result, config_hash
from runner import LongOptions, Study, mean_and_spread, run, stated

from recjax import catalogue, data, language, nn
from recjax.data import Dataset, NextItems, Sequences
from recjax.eval import Protocol, evaluate, positions, ranking_metrics
from recjax.fit import Checkpoints, EarlyStopping, Hooks, Progress
from recjax.models.collaborative import als
from recjax.models.semantic_ids import (
    GenerativeRetriever,
    RQVAEConfig,
    SemanticIds,
    beam_search,
    codebook_use,
    fit_rq_vae,
    prefix_tree,
    residual_kmeans,
    with_extra_level,
    with_free_codes,
)
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Items, PyTree

METRICS = {"Recall@5": "recall@5", "NDCG@5": "ndcg@5", "Recall@10": "recall@10", "NDCG@10": "ndcg@10"}
MODELS = ("k-means, extra level", "k-means, free codes", "rq-vae, extra level", "sasrec")


@dataclasses.dataclass(frozen=True)
class Config(LongOptions):
    data: str = "ml-100k"
    """Named data set."""
    vectors: str = "als"
    """What ids are made of: "als" factors, "sasrec" vectors, "texts" (MiniLM), "features" (genres) or a .npy file."""
    models: tuple[str, ...] = MODELS
    """What to train."""
    levels: int = 3
    """Codes of an id, before collisions are resolved."""
    codebook_size: int = 64
    """Codes of a level."""
    dim: int = 64
    """Width of vectors."""
    blocks: int = 2
    """Transformer blocks over histories."""
    epochs: int = 60
    """At most; training stops after six without a better NDCG@10 of the validation items."""
    history_length: int = 50
    """Events that a model sees."""
    batch_size: int = 128
    """Users in a batch."""
    learning_rate: float = 2e-3
    """Of all models."""
    dropout: float = 0.2
    """Of all models."""
    beam: int = 50
    """Beginnings of ids that are followed at once."""
    validation_users: int = 2000
    """Users that are ranked after each epoch, at most."""


SMOKE: dict[str, Any] = {
    "models": MODELS[2:], "vectors": "features", "levels": 2, "codebook_size": 6, "dim": 8, "blocks": 1, "epochs": 1,
    "history_length": 8, "batch_size": 16, "beam": 8,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    """A log and what is asked of it.

    Attributes:
      dataset: names and features.
      log: the training events.
      items: ids alone.
      parts: what is known and asked for, of some validation users and of all test users.
      protocol: how it is measured.
    """

    dataset: Dataset
    log: Sequences
    items: Items
    parts: tuple[NextItems, NextItems]
    protocol: Protocol


Rank = Callable[[PyTree, NextItems], dict[str, float]]
"""``(params, task) -> metrics``."""


def problem(dataset: Dataset, config: Config) -> Problem:
    split = data.leave_one_out(dataset.interactions)
    validation = data.next_items(split.train, split.validation, dataset.num_users, config.history_length)
    known = data.concatenate(split.train, split.validation)
    test = data.next_items(known, split.test, dataset.num_users, config.history_length)
    protocol = Protocol(split=split.protocol, history_length=config.history_length, ks=(5, 10))
    some = np.random.default_rng(0).permutation(dataset.num_users)[: config.validation_users]
    return Problem(
        dataset,
        data.sequences(split.train, dataset.num_users),
        data.item_features(dataset, split.train).without_features(),
        (validation.take(some), test),
        protocol,
    )


def item_vectors(of: Problem, seed: int, config: Config) -> np.ndarray:
    """``f32[N, D]``, what ids are made of."""
    if config.vectors == "als":
        train = data.leave_one_out(of.dataset.interactions).train
        return np.asarray(als(train, of.dataset.num_items, factors=32, key=jax.random.key(seed)).items)
    if config.vectors == "sasrec":
        module = sasrec(of, config)
        params, _ = train(of, module, of.items, sasrec_rank(of, module), "sasrec", seed, config)
        return np.asarray(module.apply(params, of.items, method="item_index").vectors)
    if config.vectors == "texts":
        texts = data.item_texts(of.dataset)
        return language.encode(language.load("minilm"), texts, pooling="mean", cache=config.work / "vectors")
    if config.vectors == "features":
        if of.dataset.multi_hot is None:
            raise SystemExit(f"{of.dataset.name} has no features; use --vectors als, sasrec, texts or a .npy file.")
        return np.asarray(of.dataset.multi_hot, np.float32)
    found = np.load(config.vectors)
    if len(found) != of.dataset.num_items:
        raise SystemExit(f"{config.vectors} has {len(found)} rows, but {of.dataset.name} {of.dataset.num_items} items.")
    return found


def semantic_ids(model: str, vectors: np.ndarray, seed: int, config: Config) -> tuple[SemanticIds, SemanticIds]:
    """Ids before and after collisions are resolved."""
    quantizer, resolved = model.split(", ")
    # Directions alone: popular items have long vectors, and would have the codes to themselves.
    unit = catalogue.normalize(jnp.asarray(vectors))
    key, size = jax.random.key(seed), config.codebook_size
    if quantizer == "k-means":
        ids = residual_kmeans(unit, levels=config.levels, codebook_size=size, key=key)
    else:
        epochs = 5 if config.smoke else 300
        ids = fit_rq_vae(unit, RQVAEConfig(levels=config.levels, codebook_size=size, epochs=epochs), key=key)
    if resolved == "free codes":
        return ids, with_free_codes(ids, unit)
    shared = int(np.unique(np.asarray(ids.codes), axis=0, return_counts=True)[1].max())
    return ids, with_extra_level(ids, size=max(size, shared))


def encoder(config: Config) -> Callable[..., Any]:
    block = {"num_heads": 1, "norm": "query", "expansion": 1, "activation": "relu"}  # that of SASRec
    return functools.partial(nn.SelfAttentionEncoder, num_blocks=config.blocks, dropout=config.dropout, **block)


def sasrec(of: Problem, config: Config) -> nn.Recommendation:
    return nn.Recommendation(
        item=nn.ItemTower(of.dataset.num_items, config.dim, initial_norm=0.2),
        user=nn.UserTower(config.dim, encoder(config), use_behaviour=False, project=False),
        normalized=False,
        temperature=1.0,
    )


def sasrec_rank(of: Problem, module: nn.Recommendation) -> Rank:
    def rank(params: PyTree, task: NextItems) -> dict[str, float]:
        score = nn.scorer(module, params, of.items)
        return evaluate(score, task.observation, task.targets, of.protocol, seen=task.seen).metrics

    return rank


def beam_rank(of: Problem, retriever: GenerativeRetriever, ids: SemanticIds, config: Config) -> Rank:
    tree, size = prefix_tree(ids), 128

    def rank(params: PyTree, task: NextItems) -> dict[str, float]:
        users, ranked = len(task.targets), []
        for start in range(0, users, size):
            # The last batch is filled up by repeating the last user, so that all have one shape.
            rows = np.minimum(np.arange(start, start + size), users - 1)
            observation = jax.tree.map(lambda leaf: leaf[rows], task.observation)  # noqa: B023
            seen = jnp.asarray(task.seen.rows(rows))
            _, items = beam_search(
                retriever, params, observation, ids, tree, max(of.protocol.ks), beam=config.beam, exclude=seen
            )
            ranked.append(np.asarray(items))
        ranks = positions(jnp.asarray(np.concatenate(ranked)[:users]), task.targets[:, None])
        return {name: float(np.nanmean(value)) for name, value in ranking_metrics(ranks, of.protocol.ks).items()}

    return rank


def train(
    of: Problem, module: Any, items: Any, rank: Rank, model: str, seed: int, config: Config
) -> tuple[PyTree, dict[str, Any]]:
    """The best parameters and how training went; goes on from its checkpoints, also when it is done."""
    training = SequenceConfig(
        epochs=config.epochs, batch_size=config.batch_size, history_length=config.history_length,
        learning_rate=config.learning_rate, num_buckets=1 if config.smoke else 6,
    )  # fmt: skip
    with Progress(enabled=not config.smoke) as progress:
        fitted = fit_sequences(
            module,
            of.log,
            items,
            training,
            key=jax.random.key(seed),
            hooks=Hooks(
                lambda epoch, params: {"ndcg@10": rank(params, of.parts[0])["ndcg@10"]},
                EarlyStopping("ndcg@10", 6),
                progress,
                Checkpoints(config.work / checkpoints_of(model, seed, config), keep=1),
            ),
        )
    return fitted.params, {"epochs": len(fitted.history), "best_epoch": fitted.best_epoch}


def result(of: Problem, model: str, seed: int, config: Config) -> dict[str, Any]:
    """One training: its result, ready for JSON."""
    started, codes = time.perf_counter(), {}
    if model == "sasrec":
        module: Any = sasrec(of, config)
        items: Any = of.items
        rank = sasrec_rank(of, module)
    else:
        before, items = semantic_ids(model, item_vectors(of, seed, config), seed, config)
        codes = {"before": dataclasses.asdict(codebook_use(before)), "after": dataclasses.asdict(codebook_use(items))}
        module = GenerativeRetriever(
            items.level_sizes, dim=config.dim, encoder=encoder(config), use_behaviour=False, dropout=config.dropout
        )
        rank = beam_rank(of, module, items, config)
    params, trained = train(of, module, items, rank, model, seed, config)
    found = rank(params, of.parts[1])
    return {
        "protocol": str(of.protocol),
        "codes": codes,
        "test": {short: found[name] for short, name in METRICS.items()},
        **trained,
        "seconds": round(time.perf_counter() - started, 1),
    }


def checkpoints_of(model: str, seed: int, config: Config) -> str:
    """The name of the folder of a training."""
    return f"{model.replace(', ', '-').replace(' ', '_')}-{config_hash({}, stated(config, 'models'))}-{seed}"


def show(study: Study, results: list[Result]) -> None:
    """One row a model."""
    lines = []
    for model in dict.fromkeys(each.condition["model"] for each in results):
        of_model = [each for each in results if each.condition["model"] == model]
        found = [each.found for each in of_model]
        use = ["–"] * 4
        if found[0]["codes"]:
            before = [each["codes"]["before"] for each in found]
            use = [" / ".join(f"{100 * x:.0f}" for x in np.mean([each["used"] for each in before], axis=0))]
            use += [" / ".join(f"{x:.0f}" for x in np.mean([each["perplexity"] for each in before], axis=0))]
            use += [f"{np.mean([each['colliding'] for each in before]):.3f}"]
            use += [f"{np.mean([each['codes']['after']['colliding'] for each in found]):.3f}"]
        cells = [mean_and_spread([each["test"][metric] for each in found]) for metric in METRICS]
        lines.append(([model, *use, *cells, f"{np.mean([each['epochs'] for each in found]):.0f}"], of_model))
    config: Any = study.config
    headings = ["model", "codes used, %", "perplexity", "colliding", "after", *METRICS, "epochs"]
    title = f"{config.data}, ids of {config.vectors} vectors, test items"
    study.show(title, headings, lines, caption=results[0].found["protocol"])


def main(study: Study) -> None:
    config: Any = study.config
    unknown = set(config.models) - set(MODELS)
    if unknown:
        raise SystemExit(f"There are no models {sorted(unknown)}; choose of {', '.join(MODELS)}.")
    of = problem(ring() if config.smoke else data.load(config.data), config)
    conditions = [{"model": model} for model in config.models]
    show(
        study, study.grid(conditions, lambda condition, seed: result(of, condition["model"], seed, config), ["models"])
    )


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, **SMOKE)
