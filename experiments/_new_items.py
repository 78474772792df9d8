"""What the studies of new items share: catalogues in another order, and a language model for smoke runs."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from recjax import data
from recjax.data import Dataset
from recjax.models import text


def reordered(dataset: Dataset, order: np.ndarray) -> Dataset:
    """The items in another order, with their titles and genres and without their numbers; ``order: i32[N]``."""
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order))
    log = dataset.interactions
    return dataclasses.replace(
        dataset,
        interactions=dataclasses.replace(log, item=number[log.item]),
        items=data.IdMap(tuple(np.array(dataset.items.names)[order].tolist())),
        titles=tuple(np.array(dataset.titles)[order].tolist()),
        multi_hot=dataset.multi_hot[order],
        numeric=None,
        numeric_names=(),
        item_extras={},
    )


def tiny(texts: list[str]) -> text.LanguageModel:
    """A random language model with a tokenizer of its own."""
    tokenizer = text.train_wordpiece(texts, vocab_size=80, max_length=16)
    shape = {"dim": 16, "num_layers": 3, "num_heads": 2, "feed_forward": 16}
    config = text.LanguageConfig("bert", vocab_size=80, max_length=16, **shape)
    return text.initialize(config, jax.random.key(0), tokenizer)
