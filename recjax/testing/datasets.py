"""What every data set owes to what is made of it."""

from __future__ import annotations

import numpy as np

from recjax.data import Dataset, IdMap
from recjax.types import Behaviour


def check_dataset(dataset: Dataset) -> None:
    """Checks a data set: ids are rows of the id maps, columns are of one length, numbers are numbers.

    Args:
      dataset: the data set.

    Raises:
      AssertionError: what is not so, with the row where there is one.
    """
    log = dataset.interactions
    assert len(log), f"{dataset.name} has no events."
    for name, ids, known in (("user", log.user, dataset.users), ("item", log.item, dataset.items)):
        _check_ids(name, ids, known)
    codes = np.isin(log.behaviour, [int(behaviour) for behaviour in Behaviour])
    assert codes.all(), (
        f"Row {np.argmin(codes)}: behaviour {log.behaviour[np.argmin(codes)]} is none of {list(Behaviour)}."
    )
    if log.rating is not None:
        finite = ~np.isinf(log.rating)
        assert finite.all(), f"Row {np.argmin(finite)}: the rating is {log.rating[np.argmin(finite)]}."
    sizes = {
        "titles": (dataset.titles, dataset.num_items),
        "multi_hot": (dataset.multi_hot, dataset.num_items),
        "numeric": (dataset.numeric, dataset.num_items),
        "context": (dataset.context, dataset.num_users),
    }
    for name, (values, size) in sizes.items():
        assert values is None or len(values) == size, f"{name} has {len(values or ())} rows; it must have {size}."
    if dataset.context is not None:
        assert np.isfinite(dataset.context).all(), "context holds infinite numbers or NaN."


def _check_ids(name: str, ids: np.ndarray, known: IdMap) -> None:
    # One more than there are names stands for what the id map has not seen.
    inside = (ids >= 0) & (ids <= len(known.names))
    assert inside.all(), f"Row {np.argmin(inside)}: {name} {ids[np.argmin(inside)]} is outside 0 .. {len(known.names)}."
    twice = len(known.names) - len(set(known.names))
    assert not twice, f"{twice} names of {name}s occur more than once."
    rows = np.asarray(known.encode(list(known.names)))
    assert (rows == np.arange(len(known.names))).all(), f"The id map of {name}s does not give each name its row."
