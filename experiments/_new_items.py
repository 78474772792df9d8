"""What the studies of new items share: draws of them, how they are ranked, and a language model for smoke runs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from recjax import data, nn
from recjax.data import Dataset, NextItems
from recjax.eval import Evaluation, Protocol, evaluate
from recjax.models import text
from recjax.types import PAD_ID, Items, PyTree

PARTS = ("cold", "warm")
"""Items that no training has seen, and the others."""
METRICS = {"HR@10": "hit_rate@10", "NDCG@10": "ndcg@10"}


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


def problem(dataset: Dataset, seed: int, cold_share: float, history_length: int) -> Problem:
    """Draws cold items and puts them behind the others."""
    num_warm = dataset.num_items - round(cold_share * dataset.num_items)
    dataset = reordered(dataset, np.random.default_rng(seed).permutation(dataset.num_items))
    split = data.leave_one_out(dataset.interactions)
    known = data.concatenate(split.train, split.validation)
    test = data.next_items(known, split.test, dataset.num_users, history_length)
    train = split.train.take(split.train.item < num_warm)
    items = data.item_features(dataset, train).without_features()
    return Problem(dataset, num_warm, train, items, test, history_length)


def sasrec(num_items: int, config: Any, **options: Any) -> nn.Recommendation:
    """Of the ``dim``, ``dropout``, ``item_dropout`` and ``temperature`` of a study, over items as ``options`` say."""
    encoder = functools.partial(
        nn.SelfAttentionEncoder, num_blocks=2, num_heads=1, norm="query", expansion=1, activation="relu",
        dropout=config.dropout,
    )  # fmt: skip
    return nn.Recommendation(
        num_items, dim=config.dim, encoder=encoder, temperature=config.temperature, project=False,
        item_dropout=config.item_dropout, use_behaviour=False, **options,
    )  # fmt: skip


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


def reordered(dataset: Dataset, order: np.ndarray) -> Dataset:
    """The items in another order, ``order: i32[N]``."""
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order))
    log = dataset.interactions
    return dataclasses.replace(
        dataset,
        interactions=dataclasses.replace(log, item=number[log.item]),
        items=data.IdMap(tuple(np.array(dataset.items.names)[order].tolist())),
        titles=tuple(np.array(dataset.titles)[order].tolist()),
        multi_hot=dataset.multi_hot[order],
        numeric=None if dataset.numeric is None else dataset.numeric[order],
        item_extras={},
    )


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


def tiny(texts: list[str]) -> text.LanguageModel:
    """A random language model with a tokenizer of its own."""
    tokenizer = text.train_wordpiece(texts, vocab_size=80, max_length=16)
    shape = {"dim": 16, "num_layers": 3, "num_heads": 2, "feed_forward": 16}
    config = text.LanguageConfig("bert", vocab_size=80, max_length=16, **shape)
    return text.initialize(config, jax.random.key(0), tokenizer)
