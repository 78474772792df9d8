"""Logs of what people did: RetailRocket, KuaiRand and the Amazon Beauty sequences."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data.encoders import MultiHot
from recjax.data.ids import IdMap
from recjax.data.readers import Columns, read
from recjax.data.schema import Dataset, Interactions
from recjax.types import Behaviour


def retailrocket(files: dict[str, Path]) -> Dataset:
    """Views, carts and purchases; ``test`` holds one later purchase a user, without a time.

    Users were chosen for having purchased, and a repeat of the same behaviour towards
    the same item left one row. 211 test items are not in the log and encode as
    out-of-vocabulary.
    """
    columns = Columns(user="user", item="item", time="timestamp", behaviour="behavior")
    dataset, _ = read(files["events.csv.gz"], columns, name="retailrocket", time_format="s")
    held_out = pl.read_csv(files["test.csv.gz"], infer_schema=False)
    test = Interactions(
        dataset.users.encode(held_out["user"]),
        dataset.items.encode(held_out["item"]),
        behaviour=np.full(held_out.height, Behaviour.PURCHASE),
    )
    return dataclasses.replace(dataset, test=test)


def kuairand(files: dict[str, Path]) -> Dataset:
    """Likes (rating 1) and dislikes (rating 0) of short videos.

    Rows were chosen for explicit feedback: sessions are not whole and there are no
    propensities. ``extras`` has ``is_click``, ``long_view`` (0 or 1), ``play_time_ms`` and ``duration_ms``.
    """
    columns = Columns(
        user="user_id",
        item="video_id",
        time="time_ms",
        rating="label",
        extras=("is_click", "long_view", "play_time_ms", "duration_ms"),
    )
    dataset, _ = read(
        files["processed_standard_kcore_15.csv.gz"], columns, name="kuairand", separator="\t", time_format="ms",
        behaviours=Behaviour.LIKE, allow={"duplicate"},
    )  # fmt: skip
    return dataset


def amazon_beauty(files: dict[str, Path]) -> Dataset:
    """Reviewed products in order, without times or ratings; users and products by Amazon's ids.

    Line by line ``Beauty.txt`` (numbers from 1) and ``user_sequence.txt`` (Amazon's ids)
    are the same users and products. Titles are short generated phrases, categories are numbers.
    """
    with gzip.open(files["user_sequence.txt.gz"], "rt", encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    with gzip.open(files["Beauty.txt.gz"], "rt", encoding="utf-8") as lines:
        numbers = [line.split() for line in lines]
    product_of = {
        number: name
        for row, line in zip(rows, numbers, strict=True)
        for name, number in zip(row[1:], line[1:], strict=True)
    }
    with gzip.open(files["item_generative_indexing_phase_0.txt.gz"], "rt", encoding="utf-8") as lines:
        phrases = dict(line.rstrip("\n").split(" ", 1) for line in lines if line.strip())
    with gzip.open(files["Beauty_item2attributes.json.gz"], "rt", encoding="utf-8") as content:
        attributes = {product_of[number]: list(map(str, found)) for number, found in json.load(content).items()}

    items = IdMap(tuple(product_of[number] for number in sorted(product_of, key=int)))
    users = IdMap(tuple(row[0] for row in rows))
    categories = [attributes.get(name, []) for name in items.names]
    encoder = MultiHot(tuple(sorted({c for found in categories for c in found}, key=int)))
    return Dataset(
        name="amazon-beauty",
        interactions=Interactions(
            np.repeat(np.arange(len(rows)), [len(row) - 1 for row in rows]),
            items.encode([name for row in rows for name in row[1:]]),
            behaviour=np.full(sum(map(len, rows)) - len(rows), Behaviour.RATING),
        ),
        users=users,
        items=items,
        titles=tuple(phrases.get(name, "").strip() for name in items.names),
        genres=encoder.categories,
        multi_hot=encoder.encode(categories),
    )
