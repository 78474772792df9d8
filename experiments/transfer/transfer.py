"""What a model learned on one domain is worth on another, at 1 %, 10 % and 100 % of the target's data.

    python experiments/transfer/transfer.py --study items --data-dir PATH   # MovieLens-1M to MovieTweetings
    python experiments/transfer/transfer.py --study texts             # the same, by texts
    python experiments/transfer/transfer.py --study users             # half of MovieLens-1M's genres to the others
    python experiments/transfer/transfer.py --smoke                   # generated domains, seconds

``items``: no item and no user is shared. Items are what they are called and their genres and year; the model is
trained on the source and moved, whole, with its item tower frozen, by low-rank changes, by biases and norms
alone, or with a vector for each target item on top. ``texts``: the same, but items are vectors of their titles and
genres by a pretrained language model, brought to the width of the model by a mixture of experts, which alone may
be trained further (as in UniSRec). ``users``: all users are shared and no item is. Items are
ids; what the source's user tower makes of a user's past there is a context for the target's model.

The share is of the target's users whose training sequence is used; all users are ranked, by leave one out, with
the whole target catalogue and without items that they had. From scratch stands beside every row, so a
transfer that hurts shows. Prints one table, NDCG@10 as mean and half the range over seeds. Every training writes one
JSON file below ``--out``, and its checkpoints below ``--work``; a study that was killed and is started again goes on
from there.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _new_items import tiny
from _results import Result, config_hash
from runner import LongOptions, Study, mean_and_spread, run, stated

from recjax import catalogue, data, fit, language, nn
from recjax.data import Dataset, Interactions, NextItems
from recjax.eval import Protocol, evaluate
from recjax.fit import Checkpoints, EarlyStopping, Hooks
from recjax.models.sequence import SequenceConfig, Start, fit_sequences
from recjax.types import Feature, Items, PyTree

LANGUAGE = "minilm"
"""The language model of ``texts``."""
Learned = Callable[[int], PyTree]
"""The parameters that the source teaches, by seed."""


@dataclasses.dataclass(frozen=True)
class Config(LongOptions):
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
    learning_rate: float = 2e-3
    """Where all parameters are trained."""
    part_rate: float = 1e-2
    """Where a part of what was pretrained is trained."""
    dim: int = 64
    """Width of the vectors."""
    text_dim: int = 64
    """Directions of the vectors of texts that are kept, those of the largest variance."""
    history_length: int = 50
    """Events that the model sees."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """A log, split, and its items.

    Attributes:
      name: of the data.
      train: the training log.
      parts: what is known of every user and asked for, of the validation and of the test items.
      items: features.
      num_users: ``U``.
    """

    name: str
    train: Interactions
    parts: tuple[NextItems, NextItems]
    items: Items
    num_users: int

    def module(self, config: Config, *, use_id: bool) -> nn.Recommendation:
        """A SASRec over these items."""
        return nn.Recommendation(
            item=nn.ItemTower(self.items.num_items, config.dim, use_id=use_id, adaptor="moe"),
            user=nn.UserTower(
                config.dim,
                functools.partial(nn.SelfAttentionEncoder, num_blocks=2, num_heads=2, dropout=0.2, norm="query"),
                project=False,
                use_behaviour=False,
            ),
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
        items = items.with_features(vectors=Feature(jnp.asarray(vectors), "vectors"))
    known = data.concatenate(split.train, split.validation)
    parts = (
        data.next_items(split.train, split.validation, dataset.num_users, config.history_length),
        data.next_items(known, split.test, dataset.num_users, config.history_length),
    )
    return Domain(dataset.name, split.train, parts, items, dataset.num_users)


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
    rate = config.learning_rate if adaptation is None else config.part_rate
    training = SequenceConfig(
        epochs=config.epochs, batch_size=64, history_length=config.history_length, learning_rate=rate, loss="softmax",
        weight_decay=0.01, max_grad_norm=1.0, num_buckets=1 if config.smoke else 6,
    )  # fmt: skip
    return fit_sequences(
        module, data.sequences(log, on.num_users), on.items, training, key=jax.random.key(seed),
        start=Start(params, adaptation), context=context,
        hooks=Hooks(
            lambda epoch, params: {"ndcg@10": ndcg(module, params, on, 0, config, context)},
            EarlyStopping("ndcg@10", 5),
            checkpoints=Checkpoints(config.work / name, keep=1),
        ),
    ).params  # fmt: skip


def some_users(log: Interactions, num_users: int, share: float, seed: int) -> Interactions:
    """The events of a random share of the users, of one at least."""
    count = max(1, round(share * num_users))
    chosen = np.random.default_rng(seed).permutation(np.unique(log.user))[:count]
    return log.take(np.isin(log.user, chosen))


AS_IT_IS = "pretrained, as it is"
SCRATCH, WITH_IDS = "from scratch, described", "from scratch, described + ids"
NEW_IDS = "pretrained + new ids"


def in_tower(path: tuple[str, ...]) -> bool:
    return "item" in path


PARTS: dict[str, fit.Adaptation] = {
    "pretrained, item tower frozen": fit.only(lambda path: not in_tower(path)),
    "pretrained, low rank (8)": fit.lora(8, lambda path: path[-1] in ("kernel", "words")),
    "pretrained, biases and norms": fit.only(lambda path: path[-1] in ("bias", "scale")),
    "pretrained, adaptor alone": fit.only(lambda path: "adapt" in path),
}
"""What is trained of a pretrained model, in the rows where not all of it is."""


def ways(config: Config) -> tuple[str, ...]:
    """The rows of a study."""
    if config.study == "users":
        return ("told by the source",) if config.smoke else ("target alone", "told by the source")
    parts = tuple(PARTS)[: None if config.study == "texts" else -1]
    if config.smoke:
        return (parts[-1], AS_IT_IS) if config.study == "texts" else (NEW_IDS,)
    return AS_IT_IS, SCRATCH, WITH_IDS, "pretrained, all of it trained", *parts, NEW_IDS


def move_items(
    way: str, share: float, source: Domain, target: Domain, learned: Learned, seed: int, config: Config, name: str
) -> float:
    """NDCG@10 of the target by a model of described items, moved whole or in part."""
    module = target.module(config, use_id=way in (WITH_IDS, NEW_IDS))
    if way == AS_IT_IS:
        return ndcg(module, learned(seed), target, 1, config, None)
    params = None if way in (SCRATCH, WITH_IDS) else learned(seed)
    if way == NEW_IDS:
        shown = jax.tree.map(lambda x: x[:1], target.parts[0].observation)
        params = with_new_ids(params, jax.jit(module.init)(jax.random.key(seed), shown, target.items))
    log = some_users(target.train, target.num_users, share, seed)
    params = train(module, target, log, seed, config, name, params=params, adaptation=PARTS.get(way))
    return ndcg(module, params, target, 1, config, None)


def with_new_ids(learned: PyTree, fresh: PyTree) -> PyTree:
    """What was learned, with a small vector for each item of the new catalogue."""
    item = learned["params"]["item"] | {"embedding": 0.1 * fresh["params"]["item"]["embedding"]}
    return {"params": learned["params"] | {"item": item}}


def move_users(
    way: str, share: float, source: Domain, target: Domain, learned: Learned, seed: int, config: Config, name: str
) -> float:
    """NDCG@10 of the target by a model of ids, which may be told what another domain's tower makes of a user."""
    context = None
    if way == "told by the source":
        represent: Callable = jax.jit(functools.partial(source.module(config, use_id=True).apply, method="represent"))
        # Of the source, only what is in its training part: its later events may be later than the targets here.
        context = catalogue.normalize(represent(learned(seed), source.parts[0].observation, source.items))
    module = target.module(config, use_id=True)
    log = some_users(target.train, target.num_users, share, seed)
    params = train(module, target, log, seed, config, name, context=context)
    return ndcg(module, params, target, 1, config, context)


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
    model = tiny(texts[0]) if config.smoke else language.load(LANGUAGE)
    vectors = [language.encode(model, each, cache=config.work / "vectors") for each in texts]
    white = language.fit_whitening(np.concatenate(vectors), config.text_dim)
    return [white(each) for each in vectors]


def main(study: Study) -> None:
    chosen: Any = study.config
    for name in ("items", "texts", "users") if chosen.smoke else (chosen.study,):
        compare(study, dataclasses.replace(chosen, study=name))


def compare(study: Study, config: Config) -> None:
    """One of the studies: all ways and shares."""
    source, target = domains(config)
    without = ("shares", "part_rate", "data_dir", *(() if config.study == "texts" else ("text_dim",)))

    @functools.cache
    def learned(seed: int) -> PyTree:
        """What the source teaches; learned once, and only where a row is missing."""
        name = f"{config.study}-source-{config_hash({}, stated(config, *without))}-{seed}"
        module = source.module(config, use_id=config.study == "users")
        return train(module, source, source.train, seed, config, name)

    results = []
    for seed, way in itertools.product(range(config.seeds), ways(config)):
        others = tuple(name for name in without if name != "part_rate" or way not in PARTS)
        for share in (0.0,) if way == AS_IT_IS else config.shares:
            condition = {"study": config.study, "way": way, "share": share}
            compute = functools.partial(result, condition, source, target, learned, seed, config, others)
            results.append(study.result(compute, seed, condition, (*others, "study")))
    show(study, results)


def result(
    condition: dict[str, Any], source: Domain, target: Domain, learned: Learned, seed: int, config: Config,
    without: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """What one training found, ready for JSON."""
    short = "-".join(re.findall(r"\w+", condition["way"]))
    name = f"{config.study}-{condition['share']:g}-{short}-{config_hash(condition, stated(config, *without))}-{seed}"
    move = move_users if config.study == "users" else move_items
    sizes = [f"{one.name}, {one.num_users:,} users, {one.items.num_items:,} items" for one in (source, target)]
    score = move(condition["way"], condition["share"], source, target, learned, seed, config, name)
    return {"source": sizes[0], "target": sizes[1], "protocol": str(protocol_of(config)), "ndcg@10": score}


def show(study: Study, results: list[Result]) -> None:
    """One table: ways by the share of the target's users."""
    first = results[0].found
    shares = sorted({each.condition["share"] for each in results})
    lines = []
    for way in dict.fromkeys(each.condition["way"] for each in results):
        of_way = [each for each in results if each.condition["way"] == way]
        by_share = [[each.found["ndcg@10"] for each in of_way if each.condition["share"] == share] for share in shares]
        lines.append(([way, *(mean_and_spread(found) if found else "–" for found in by_share)], of_way))
    study.show(
        f"From {first['source']} to {first['target']}: NDCG@10 of the test items",
        ["", *(f"{share:.0%} of users" for share in shares)],
        lines,
        caption=f"{first['protocol']}; epochs are chosen by the validation items of all of the target's users",
    )


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, shares=(0.5,), epochs=1, dim=8, text_dim=4, history_length=8)
