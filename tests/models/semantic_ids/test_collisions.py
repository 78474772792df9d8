"""One id, one item."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.models.semantic_ids import SemanticIds, append, codebook_use, with_extra_level, with_free_codes

CODEBOOKS = jnp.array([[0.0], [10.0], [20.0]]), jnp.array([[-2.0], [0.0], [2.0]])
lines = st.lists(st.integers(-3, 24), min_size=9, max_size=9)  # as many as there are ids


def ids_of(points):
    vectors = jnp.asarray(points, jnp.float32)[:, None]
    empty = SemanticIds(jnp.zeros((0, 2), jnp.int32), CODEBOOKS)
    return empty.replace(codes=empty.codes_of(vectors)), vectors


def rows(codes):
    return list(map(tuple, np.asarray(codes).tolist()))


@settings(max_examples=40, deadline=None)
@given(lines)
def test_no_two_items_share_an_id_and_what_was_alone_stays(points):
    ids, vectors = ids_of(points)
    before = rows(ids.codes)
    extra, free = with_extra_level(ids, size=9), with_free_codes(ids, vectors)
    for found in (extra, free):
        assert len(set(rows(found.codes))) == len(points)
        assert codebook_use(found).colliding == 0
        assert ((np.asarray(found.codes) >= 0) & (np.asarray(found.codes) < np.array(found.level_sizes))).all()
    assert [row[:2] for row in rows(extra.codes)] == before
    assert all(row[2] == before[:item].count(row[:2]) for item, row in enumerate(rows(extra.codes)))
    # Codes that someone wanted, someone has.
    assert set(before) <= set(rows(free.codes))


@settings(max_examples=40, deadline=None)
@given(lines, st.sampled_from([1, 6]))
def test_items_that_come_later_get_ids_of_their_own(points, known):
    ids, vectors = ids_of(points[:known])
    _, late = ids_of(points)
    for found in (with_extra_level(ids, size=9), with_free_codes(ids, vectors)):
        grown = append(found, late[known:])
        assert rows(grown.codes)[:known] == rows(found.codes)
        assert len(set(rows(grown.codes))) == len(points)
        assert grown.level_sizes == found.level_sizes


def test_the_nearest_keeps_its_codes_and_others_move_to_the_nearest_free():
    """Three items around 10 want (1, 1). 10.1 is the nearest; 9.7 would rather have 8 than 12, and so would 9.6."""
    ids, vectors = ids_of([9.6, 10.1, 9.7])
    assert rows(ids.codes) == [(1, 1)] * 3
    assert rows(with_free_codes(ids, vectors).codes) == [(1, 2), (1, 1), (1, 0)]


def test_where_the_last_level_is_full_the_level_before_gives_way():
    ids, vectors = ids_of([10.0] * 4)
    found = rows(with_free_codes(ids, vectors).codes)
    assert found[0] == (1, 1)
    assert set(found[1:3]) == {(1, 0), (1, 2)}
    assert found[3] == (0, 2)  # the nearest of those that begin with 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ids, v: with_extra_level(ids, size=3), r"4 items have the codes \[1, 1\].*the extra level has 3 codes"),
        (lambda ids, v: with_extra_level(with_extra_level(ids)), "extra level of 256 codes already"),
        (lambda ids, v: with_free_codes(with_extra_level(ids), v), "extra level of 256 codes already"),
        (lambda ids, v: with_free_codes(ids, v[:2]), "2 vectors, but ids of 4 items"),
        (lambda ids, v: append(ids, v), r"Items 0 and 1 have the same codes \[1, 1\]"),
        (lambda ids, v: append(with_extra_level(ids, 4), v[:1]), r"5 items have the codes \[1, 1\].*has 4 codes"),
        (
            lambda ids, v: append(with_free_codes(ids, v), jnp.repeat(v, 2, axis=0)),
            r"12 items need as many ids, but levels of \(3, 3\) codes make 9",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*ids_of([10.0] * 4))


def test_latents_decide_where_there_is_an_autoencoder():
    """The encoder doubles: 10 stands for 5."""
    from recjax.models.semantic_ids import Autoencoder

    ids, _ = ids_of([10.0, 10.0])
    double = Autoencoder(dim=1, latent=1, hidden=())
    params = jax.jit(double.init)(jax.random.key(0), jnp.zeros((1, 1)))
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, 2.0 if leaf.ndim == 2 else 0.0), params)
    ids = ids.replace(autoencoder=double, params=params)
    found = with_free_codes(ids, jnp.array([[5.0], [5.4]]))
    assert rows(found.codes) == [(1, 1), (1, 2)]
    assert rows(append(found, jnp.array([[4.6]])).codes)[2] == (1, 0)
