"""What a model learned on one domain is worth on another, at 1 %, 10 % and 100 % of the target's data.

    python experiments/transfer.py --study items --data-dir PATH   # MovieLens-1M to MovieTweetings, below PATH
    python experiments/transfer.py --study texts                   # the same, by what a language model makes of texts
    python experiments/transfer.py --study users                   # one half of the genres of MovieLens-1M to the other
    python experiments/transfer.py --smoke                         # generated domains, seconds

``items``: no item and no user is shared. Items are what they are called and their genres and year; the model is
trained on the source and moved, whole, with its item tower frozen, by low-rank changes, by biases and norms
alone, or with a vector for each target item on top. ``texts``: the same, but items are vectors of their titles and
genres by a pretrained language model, brought to the width of the model by a mixture of experts, which alone may
be trained further (as in UniSRec). ``users``: all users are shared and no item is. Items are
ids; what the source's user tower makes of a user's past there is a context for the target's model.

The share is of the target's users whose training sequence is used; all users are ranked, by leave one out, with
the whole target catalogue and without items that they had. From scratch stands beside every row, so a
transfer that hurts shows. Prints one table, NDCG@10 as mean and half the range over seeds. Every seed writes
one JSON file below ``--out``, and its trainings their checkpoints below ``--work``; a study that was killed and is
started again goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import tyro
from _new_items import tiny
from _runs import kept, mean_and_spread, recipe_hash, run_study, stated
from rich.console import Console
from rich.table import Table

from recjax import catalogue, data, fit, nn
from recjax.data import Dataset, Interactions, NextItems
from recjax.eval import Protocol, evaluate
from recjax.fit import Checkpoints, EarlyStopping
from recjax.models import text
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import Items, PyTree

LANGUAGE = "minilm"
"""The language model of ``texts``."""


@dataclasses.dataclass(frozen=True)
class Config:
    study: Literal["items", "texts", "users"] = "items"
    """What the domains share: words and genres of items, their texts as a language model reads them, or users."""
    source: str = "ml-1m"
    """Named data set to learn from; of ``users`` both domains are its parts."""
    target: str = "movietweetings"
    """Named data set to move to, for ``items`` and ``texts``."""
    source_genres: tuple[str, ...] = ("Action", "Sci-Fi", "Thriller", "Horror", "Adventure", "Crime", "War", "Western")
    """Items with one of these are the source of ``users``."""
    data_dir: Path | None = None
    """Folder that holds data sets that cannot be fetched; RECJAX_DATA by default."""
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Of the target's users."""
    epochs: int = 40
    """At most; training stops after five without a better NDCG@10 of the validation items."""
    seeds: int = 3
    """Of the draw of users, the initial parameters and the training."""
    dim: int = 64
    """Width of the vectors."""
    history_length: int = 50
    """Events that the model sees."""
    out: Path = Path("experiments/results/transfer")
    """Where the numbers go."""
    work: Path = Path("runs/transfer")
    """Where checkpoints and vectors of texts go."""
    smoke: bool = False
    """Small generated domains: checks that the script runs."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """A log, split, and its items.

    Attributes:
      name: of the data.
      train: the training log.
      parts: what is known of every user and asked for, of the validation and of the test items.
      items: features.
      words: size of the vocabulary of titles.
      num_users: ``U``.
    """

    name: str
    train: Interactions
    parts: tuple[NextItems, NextItems]
    items: Items
    words: int
    num_users: int

    def module(self, config: Config, *, use_id: bool) -> nn.Recommendation:
        """A SASRec over these items."""
        return nn.Recommendation(
            self.items.num_items,
            dim=config.dim,
            encoder=functools.partial(nn.SelfAttentionEncoder, num_blocks=2, num_heads=2, dropout=0.2, norm="query"),
            project=False,
            use_id=use_id,
            use_behaviour=False,
            text_vocabulary=self.words,
            adaptor="moe",
            temperature=0.1,
        )


def domain(
    dataset: Dataset, config: Config, *, vocabulary: data.Vocabulary | None = None, vectors: np.ndarray | None = None
) -> Domain:
    """A data set as a domain, whose items are described by genres and words, by vectors, or are ids."""
    split = data.leave_one_out(dataset.interactions)
    items = data.item_features(dataset, split.train, vocabulary=vocabulary)
    if vocabulary is None:
        items = items.without_features()
    if vectors is not None:
        items = dataclasses.replace(items, vectors=jnp.asarray(vectors))
    known = data.concatenate(split.train, split.validation)
    parts = (
        data.next_items(split.train, split.validation, dataset.num_users, config.history_length),
        data.next_items(known, split.test, dataset.num_users, config.history_length),
    )
    words = 0 if vocabulary is None else len(vocabulary)
    return Domain(dataset.name, split.train, parts, items, words, dataset.num_users)


def protocol_of(config: Config) -> Protocol:
    """Of validation and test."""
    return Protocol(split="leave-one-out", history_length=config.history_length)


def ndcg(module: Any, params: PyTree, target: Domain, part: int, config: Config, context: jax.Array | None) -> float:
    """NDCG@10 of the validation items (part 0) or the test items (part 1)."""
    task = target.parts[part]
    score = nn.scorer(module, params, target.items)
    shown = dataclasses.replace(task.observation, context=context)
    found = evaluate(score, shown, task.targets, protocol_of(config), seen=task.seen)
    return found.metrics["ndcg@10"]


def train(
    module: nn.Recommendation,
    on: Domain,
    log: Interactions,
    seed: int,
    config: Config,
    name: str,
    *,
    params: PyTree | None = None,
    adaptation: fit.Adaptation | None = None,
    context: jax.Array | None = None,
) -> PyTree:
    """Parameters after training on ``log``, at the best epoch by the validation items of all users.

    ``name`` is that of its checkpoints.
    """
    training = SequenceConfig(
        epochs=config.epochs, batch_size=64, history_length=config.history_length, learning_rate=2e-3, loss="softmax",
        weight_decay=0.01, max_grad_norm=1.0,
    )  # fmt: skip
    fitted = fit_sequences(
        module, data.sequences(log, on.num_users), on.items, training, key=jax.random.key(seed), params=params,
        adaptation=adaptation, context=context,
        callback=lambda epoch, params: {"ndcg@10": ndcg(module, params, on, 0, config, context)},
        early_stopping=EarlyStopping("ndcg@10", 5),
        checkpoints=Checkpoints(config.work / f"{config.study}-{name}-{recipe_hash(stated(config))}-{seed}", keep=1),
    )  # fmt: skip
    # Each way and share is compiled for itself, more than one process has memory maps for.
    jax.clear_caches()
    return fitted.params


def some_users(log: Interactions, num_users: int, share: float, seed: int) -> Interactions:
    """The events of a random share of the users, of one at least."""
    count = max(1, round(share * num_users))
    chosen = np.random.default_rng(seed).permutation(np.unique(log.user))[:count]
    return log.take(np.isin(log.user, chosen))


def move_items(source: Domain, target: Domain, seed: int, config: Config) -> list[dict[str, Any]]:
    """A model of described items, moved whole or in part."""
    in_tower = lambda path: "item" in path  # noqa: E731
    ways: dict[str, fit.Adaptation | None] = {
        "pretrained, all of it trained": None,
        "pretrained, item tower frozen": fit.only(lambda path: not in_tower(path)),
        "pretrained, low rank (4)": fit.lora(4, lambda path: path[-1] == "kernel" and not in_tower(path)),
        "pretrained, biases and norms": fit.only(lambda path: path[-1] in ("bias", "scale")),
    }
    if config.study == "texts":
        ways["pretrained, adaptor alone"] = fit.only(lambda path: "adapt" in path)
    if config.smoke:
        ways = dict(list(ways.items())[-1:] if config.study == "texts" else list(ways.items())[2:3])
    plain, with_ids = (target.module(config, use_id=use_id) for use_id in (False, True))
    learned = train(source.module(config, use_id=False), source, source.train, seed, config, "source")
    as_it_is = ndcg(plain, learned, target, 1, config, None)
    rows: list[dict[str, Any]] = [{"way": "pretrained, as it is", "share": 0.0, "ndcg@10": as_it_is}]
    shown = jax.tree.map(lambda x: x[:1], target.parts[0].observation)
    start = with_new_ids(learned, with_ids.init(jax.random.key(seed), shown, target.items))
    for share in config.shares:
        log = some_users(target.train, target.num_users, share, seed)

        def add(way: str, module: nn.Recommendation, **options: Any) -> None:
            name = f"{share:g}-{way.replace(', ', '-').replace(' ', '_')}"  # noqa: B023
            params = train(module, target, log, seed, config, name, **options)  # noqa: B023
            found = ndcg(module, params, target, 1, config, None)
            rows.append({"way": way, "share": share, "ndcg@10": found})  # noqa: B023

        add("from scratch, described", plain)
        add("from scratch, described + ids", with_ids)
        for way, adaptation in ways.items():
            add(way, plain, params=learned, adaptation=adaptation)
        add("pretrained + new ids", with_ids, params=start)
    return rows


def with_new_ids(learned: PyTree, fresh: PyTree) -> PyTree:
    """What was learned, with a small vector for each item of the new catalogue."""
    item = learned["params"]["item"] | {"embedding": 0.1 * fresh["params"]["item"]["embedding"]}
    return {"params": learned["params"] | {"item": item}}


def move_users(source: Domain, target: Domain, seed: int, config: Config) -> list[dict[str, Any]]:
    """A model of ids that is told what another domain's user tower makes of a user."""
    module = target.module(config, use_id=True)
    over = source.module(config, use_id=True)
    learned = train(over, source, source.train, seed, config, "source")
    represent: Callable = jax.jit(functools.partial(over.apply, method="represent"))
    # Of the source, only what is in its training part: its later events may be later than the targets here.
    context = catalogue.normalize(represent(learned, source.parts[0].observation, source.items))
    rows: list[dict[str, Any]] = []
    for share in config.shares:
        log = some_users(target.train, target.num_users, share, seed)
        for way, given in (("target alone", None), ("told by the source", context)):
            name = f"{share:g}-{way.replace(' ', '_')}"
            params = train(module, target, log, seed, config, name, context=given)
            rows.append({"way": way, "share": share, "ndcg@10": ndcg(module, params, target, 1, config, given)})
    return rows


def halves(dataset: Dataset, genres: tuple[str, ...]) -> tuple[Dataset, Dataset]:
    """The items with one of the genres, and the others; each user's source events end before the target's last two.

    Raises:
      ValueError: the data set has no such genre.
    """
    columns = [i for i, genre in enumerate(dataset.genres) if genre in genres]
    if not columns or dataset.multi_hot is None:
        raise ValueError(f"{dataset.name} has none of the genres {genres}; it has {dataset.genres}.")
    chosen = dataset.multi_hot[:, columns].any(axis=1)
    source, target = (
        dataclasses.replace(data.with_items(dataset, np.flatnonzero(half)), name=name)
        for name, half in (("source", chosen), ("target", ~chosen))
    )
    split = data.leave_one_out(target.interactions)
    assert split.validation.time is not None
    assert source.interactions.time is not None
    until = np.full(dataset.num_users, np.iinfo(np.int64).max)
    until[split.validation.user] = split.validation.time
    log = source.interactions
    return dataclasses.replace(source, interactions=log.take(log.time < until[log.user])), target


def generated() -> Dataset:
    """Users who like one of two genres."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 14)
    item = rng.integers(0, 15, len(user)) * 2 + (rng.random(len(user)) < 0.8 * (user % 2))
    frame = pl.DataFrame({"user": user, "item": item, "timestamp": np.arange(len(user))})
    columns = data.Columns(time="timestamp")
    dataset, _ = data.from_frame(frame, columns, time_format="s", name="generated", allow={"duplicate"})
    number = np.array(list(map(int, dataset.items.names)))
    return dataclasses.replace(
        dataset,
        titles=tuple(f"Part {n % 5} of {n // 5}" for n in number),
        genres=("even", "odd", "third"),
        multi_hot=np.stack([number % 2 == 0, number % 2 == 1, number % 3 == 0], axis=1).astype(np.float32),
    )


def domains(config: Config) -> tuple[Domain, Domain]:
    """Where is learned, and where that moves."""
    if config.study == "users":
        dataset = generated() if config.smoke else data.load(config.source, data_dir=config.data_dir)
        dataset = data.with_enough_events(dataset, per_item=5, per_user=10)
        genres = ("even",) if config.smoke else config.source_genres
        source, target = (domain(part, config) for part in halves(dataset, genres))
        return source, target
    names = (config.source, config.target)
    both = [generated() if config.smoke else data.load(name, data_dir=config.data_dir) for name in names]
    both = [data.with_enough_events(dataset, per_item=5, per_user=5) for dataset in both]
    if config.study == "texts":
        source, target = (
            domain(dataset, config, vectors=vectors) for dataset, vectors in zip(both, read(both, config), strict=True)
        )
    else:
        described, words = data.same_features(*both)
        source, target = (domain(dataset, config, vocabulary=words) for dataset in described)
    return source, target


def read(datasets: list[Dataset], config: Config) -> list[np.ndarray]:
    """Vectors of the texts of each data set, all of them whitened by one map, which no label has to do with."""
    texts = [data.item_texts(dataset) for dataset in datasets]
    model = tiny(texts[0]) if config.smoke else text.load(LANGUAGE)
    vectors = [text.encode(model, each, cache=config.work / "vectors") for each in texts]
    white = text.fit_whitening(np.concatenate(vectors))
    return [white(each) for each in vectors]


def main(config: Config) -> None:
    source, target = domains(config)
    move = move_users if config.study == "users" else move_items
    results = [
        kept(
            config.out / f"{config.study}-{recipe_hash(stated(config))}-{seed}.json",
            functools.partial(result, move, source, target, seed, config),
        )
        for seed in range(config.seeds)
    ]
    show(results)


def result(move: Callable, source: Domain, target: Domain, seed: int, config: Config) -> dict[str, Any]:
    """What one seed found, ready for JSON."""
    sizes = [f"{one.name}, {one.num_users:,} users, {one.items.num_items:,} items" for one in (source, target)]
    protocol = str(protocol_of(config))
    said = {"source": sizes[0], "target": sizes[1], "config": stated(config), "protocol": protocol, "seed": seed}
    return said | {"rows": move(source, target, seed, config)}


def show(results: list[dict[str, Any]]) -> None:
    """One table: ways by the share of the target's users."""
    first, rows = results[0], [row for each in results for row in each["rows"]]
    title = f"From {first['source']} to {first['target']}: NDCG@10 of the test items"
    table = Table(title=title, caption=first["protocol"], title_justify="left", caption_justify="left")
    shares = sorted({row["share"] for row in rows})
    for heading in ("", *(f"{share:.0%} of users" for share in shares)):
        table.add_column(heading, justify="right" if heading else "left")
    for way in dict.fromkeys(row["way"] for row in rows):
        found = [[row["ndcg@10"] for row in rows if (row["way"], row["share"]) == (way, share)] for share in shares]
        table.add_row(way, *(mean_and_spread(each) if each else "–" for each in found))
    Console(width=130).print(table)


if __name__ == "__main__":
    chosen = tyro.cli(Config, description=__doc__)
    for each in ("items", "texts", "users") if chosen.smoke else (chosen.study,):
        study = dataclasses.replace(chosen, study=each)
        run_study(main, study, shares=(0.5,), epochs=1, seeds=1, dim=8, history_length=8)
