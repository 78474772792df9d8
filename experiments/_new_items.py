"""What the studies of new items and users share: draws of items, a SASRec of texts, how it is trained and ranked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from _runs import kept, recipe_hash, stated

from recjax import data, language, nn
from recjax.data import Dataset, Interactions, NextItems
from recjax.eval import Evaluation, Protocol, evaluate
from recjax.fit import Checkpoints, Fitted, Progress
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import PAD_ID, Items, PyTree

PARTS = ("cold", "warm")
"""Items that no training has seen, and the others."""
METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10"}
TEXTS_ALONE = {"use_id": False}
"""Options of a network that knows items by their texts and nothing else."""


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Options that the studies have in common; each has ``seeds``, ``out`` and ``work`` besides."""

    data: str = "ml-1m"
    """Named data set whose items have titles and genres."""
    language: str = "minilm"
    """Language model, a name or a folder."""
    dim: int = 64
    """Width of the vectors."""
    history_length: int = 50
    """Events that the model sees in training."""
    dropout: float = 0.1
    """Between layers."""
    epochs: int = 5
    """Of a training, with all windows of all histories."""
    batch_size: int = 128
    """Windows of a batch."""
    learning_rate: float = 2e-3
    """The peak."""
    warmup_steps: int = 100
    """Over which the rate rises to it."""
    seeds: int = 5
    """Of the draws, the initial parameters and the training."""
    out: Path = Path("experiments/results")
    """Where the JSON files go."""
    work: Path = Path("runs")
    """Where checkpoints and vectors of texts go."""
    smoke: bool = False
    """A small generated log: checks that the script runs."""


Language = Callable[[], language.LanguageModel]
"""Reads the language model of a study, once, and only where there is something to train."""


def each_seed(
    result: Callable[[Dataset, int, Language, Any], dict[str, Any]], config: StudyConfig
) -> list[dict[str, Any]]:
    """What every seed of a study finds, kept below ``out``."""
    dataset = ring() if config.smoke else data.with_enough_events(data.load(config.data), per_item=5)
    get_model = functools.cache(
        lambda: tiny(data.item_texts(dataset)) if config.smoke else language.load(config.language)
    )
    name = f"{config.data}-{recipe_hash(stated(config))}"
    return [
        kept(config.out / f"{name}-{seed}.json", functools.partial(result, dataset, seed, get_model, config))
        for seed in range(config.seeds)
    ]


def learn(
    module: nn.Recommendation,
    log: Interactions,
    items: Items,
    name: str,
    seed: int,
    config: StudyConfig,
    training: dict[str, Any] | None = None,
    **options: Any,
) -> Fitted:
    """Trains on a log; ``training`` are other options than the study's, and ``name`` is that of checkpoints."""
    said = {
        "epochs": config.epochs, "batch_size": config.batch_size, "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps, "lengths": 1 if config.smoke else 6,
    }  # fmt: skip
    given = SequenceConfig(
        history_length=config.history_length, windows="all", schedule="cosine", weight_decay=0.01, max_grad_norm=1.0,
        **said | (training or {}),
    )  # fmt: skip
    title = name.replace(" ", "_").replace(",", "")
    checkpoints = Checkpoints(config.work / f"{title}-{recipe_hash(stated(config, 'rows'))}-{seed}", keep=1)
    with Progress(enabled=not config.smoke) as progress:
        return fit_sequences(
            module, data.sequences(log, int(log.user.max()) + 1), items, given, key=jax.random.key(seed),
            progress=progress, checkpoints=checkpoints, **options,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Problem:
    """One draw of cold items, which come last in the catalogue.

    Attributes:
      dataset: all items.
      num_warm: items that are trained.
      train: the training events of warm items.
      items: all of them, by their ids.
      test: what is known of every user and asked for.
      history_length: events that a model sees.
    """

    dataset: Dataset
    num_warm: int
    train: data.Interactions
    items: Items
    test: NextItems
    history_length: int

    def warm(self, items: Items) -> Items:
        """Those that are trained."""
        return jax.tree.map(lambda leaf: leaf[: self.num_warm], items)


def problem(dataset: Dataset, seed: int, cold_share: float, history_length: int) -> Problem:
    """Draws cold items and puts them behind the others."""
    num_warm = dataset.num_items - round(cold_share * dataset.num_items)
    dataset = data.with_items(dataset, np.random.default_rng(seed).permutation(dataset.num_items))
    split = data.leave_one_out(dataset.interactions)
    known = data.concatenate(split.train, split.validation)
    test = data.next_items(known, split.test, dataset.num_users, history_length)
    train = split.train.take(split.train.item < num_warm)
    items = data.item_features(dataset, train).without_features()
    return Problem(dataset, num_warm, train, items, test, history_length)


def sasrec(num_items: int, config: StudyConfig, **options: Any) -> nn.Recommendation:
    """Of the ``dim`` and ``dropout`` of a study, with inner products as scores; ``options`` are those of its items."""
    encoder = functools.partial(
        nn.SelfAttentionEncoder, num_blocks=2, num_heads=1, norm="query", expansion=1, activation="relu",
        dropout=config.dropout,
    )  # fmt: skip
    return nn.Recommendation(
        item=nn.ItemTower(num_items, config.dim, initial_norm=0.2, **options),
        user=nn.UserTower(config.dim, encoder, project=False, use_behaviour=False),
        normalized=False,
        temperature=1.0,
    )


def named(evaluation: Evaluation) -> dict[str, float]:
    """The metrics of the studies, ready for JSON."""
    return {short: evaluation.metrics[key] for short, key in METRICS.items()}


def rank(of: Problem, module: Any, params: PyTree, items: Items, part: str) -> Evaluation:
    """How the test items of one part stand among the items of that part."""
    is_cold = np.arange(of.dataset.num_items) >= of.num_warm
    among = is_cold if part == "cold" else ~is_cold
    targets = np.asarray(of.test.targets)
    targets = np.where((targets >= 0) & among[targets], targets, PAD_ID)
    protocol = Protocol(
        split="leave-one-out by time",
        history_length=of.history_length,
        item_filter=f"{part}, ranked among themselves",
    )
    index = jax.jit(functools.partial(module.apply, method="item_index"))(params, items)
    score = nn.scorer(module, params, items, index=index)
    return evaluate(score, of.test.observation, targets, protocol, seen=of.test.seen, candidates=jnp.asarray(among))


def ring() -> Dataset:
    """Users who walk along a ring of items, which say where they stand."""
    user, step = np.divmod(np.arange(48 * 12), 12)
    item = (np.random.default_rng(0).integers(0, 30, 48)[user] + step) % 30
    frame = pl.DataFrame({"user": user, "item": item, "timestamp": step})
    dataset, _ = data.from_frame(frame, data.Columns(time="timestamp"), time_format="s", name="ring")
    number = np.array(list(map(int, dataset.items.names)))
    return dataclasses.replace(
        dataset,
        titles=tuple(f"part {n % 6} of {n // 6}" for n in number),
        genres=tuple("abc"),
        multi_hot=(number[:, None] % 3 == np.arange(3)[None]).astype(np.float32),
    )


def tiny(texts: list[str]) -> language.LanguageModel:
    """A random language model with a tokenizer of its own."""
    tokenizer = language.train_wordpiece(texts, vocab_size=80, max_length=16)
    shape = {"dim": 16, "num_layers": 3, "num_heads": 2, "feed_forward": 16}
    config = language.LanguageConfig("bert", vocab_size=80, max_length=16, **shape)
    return language.initialize(config, jax.random.key(0), tokenizer)
