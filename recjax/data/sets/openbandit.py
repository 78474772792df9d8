"""The sample of the Open Bandit Dataset: impressions of fashion items with clicks and true propensities."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data import times
from recjax.data.encoders import OneHot
from recjax.data.features import user_context
from recjax.data.ids import IdMap
from recjax.data.schema import Dataset, Interactions
from recjax.data.sources import Source
from recjax.types import Behaviour

POLICIES, CAMPAIGNS = ("random", "bts"), ("all", "men", "women")
_USER, _ITEM = [f"user_feature_{i}" for i in range(4)], [f"item_feature_{i}" for i in range(4)]


def parse(source: Source, path: Path, policy: str = "random", campaign: str = "all") -> Dataset:
    """One row for each impression; 10,000 of them.

    Users are nameless: what is called a user here is one of the combinations of the four
    hashed features, so there are no histories of persons. ``extras`` has ``click``,
    ``position`` (1, 2 or 3), ``propensity`` and ``affinity [E, N]`` (user-item affinity).

    Args:
      source: not used; there is one.
      path: of the wheel.
      policy: that logged: ``"random"`` or ``"bts"`` (Bernoulli Thompson sampling).
      campaign: ``"all"``, ``"men"`` or ``"women"``.
    """
    if policy not in POLICIES or campaign not in CAMPAIGNS:
        raise ValueError(
            f"open-bandit has policies {POLICIES} and campaigns {CAMPAIGNS}; got {policy!r} and {campaign!r}."
        )
    folder = f"obp/dataset/obd/{policy}/{campaign}"
    with zipfile.ZipFile(path) as archive:
        log = pl.read_csv(io.BytesIO(archive.read(f"{folder}/{campaign}.csv")), infer_schema=False)
        catalogue = pl.read_csv(io.BytesIO(archive.read(f"{folder}/item_context.csv")), infer_schema=False)

    items = IdMap(tuple(catalogue["item_id"]))
    combination = log.select(pl.concat_str(_USER, separator=" ")).to_series()
    users = IdMap.fit(combination)
    features = [name.split(" ") for name in users.names]
    names, context = user_context(
        {column: [row[i] for row in features] for i, column in enumerate(_USER)},
        (),
        np.zeros((len(users), 0), np.float32),
    )
    hashed = {column: OneHot.fit(catalogue[column]) for column in _ITEM[1:]}
    click = log["click"].cast(pl.Int8).to_numpy()
    return Dataset(
        name=f"open-bandit/{policy}/{campaign}",
        interactions=Interactions(
            users.encode(combination),
            items.encode(log["item_id"]),
            log.select(times.parse(pl.col("timestamp"), "iso") // 1_000_000).to_series().to_numpy(),
            behaviour=np.where(click, Behaviour.CLICK, Behaviour.VIEW),
        ),
        users=users,
        items=items,
        genres=tuple(f"{column}={category}" for column, encoder in hashed.items() for category in encoder.categories),
        multi_hot=np.concatenate([encoder.encode(catalogue[column]) for column, encoder in hashed.items()], axis=1),
        numeric_names=(_ITEM[0],),
        numeric=catalogue[_ITEM[0]].cast(pl.Float32).to_numpy()[:, None],
        context_names=names,
        context=context,
        extras={
            "click": click,
            "position": log["position"].cast(pl.Int8).to_numpy(),
            "propensity": log["propensity_score"].cast(pl.Float64).to_numpy(),
            "affinity": log.select([f"user-item_affinity_{item}" for item in items.names]).cast(pl.Float32).to_numpy(),
        },
    )
