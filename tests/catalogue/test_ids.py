"""Distinct ids against NumPy's sets."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.catalogue import distinct_ids

ROWS = st.lists(st.lists(st.integers(-3, 12), min_size=6, max_size=6), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, fill=st.sampled_from([None, 10, 17, -1]))
def test_each_known_item_is_there_once_in_order(rows, fill):
    found = np.asarray(distinct_ids(jnp.asarray(rows, jnp.int32), 10, fill))
    filled = 10 if fill is None else fill
    for row, ids in zip(rows, found, strict=True):
        items = ids[ids != filled].tolist()
        assert items == sorted({i for i in row if 0 <= i < 10})
    assert found.shape == (len(rows), 6)
    assert found.dtype == np.int32


def test_any_number_of_leading_axes():
    ids = jnp.array([3, 3, -1, 0])
    assert distinct_ids(ids, 5).tolist() == [0, 3, 5, 5]
    assert distinct_ids(ids[None, None], 5).shape == (1, 1, 4)
    assert distinct_ids(jnp.zeros((2, 0), jnp.int32), 5).shape == (2, 0)
