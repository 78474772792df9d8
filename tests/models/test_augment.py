"""Augmentations against what each promises, checked event by event in plain Python, and views drawn by row."""

import functools
import math
from collections import Counter
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.models.sequence.augment import (
    NamedAugmentation,
    augmentations,
    crop,
    insert,
    mask,
    reorder,
    substitute,
    two_views,
)
from recjax.types import PAD_ID

B, L, N = 6, 9, 12
SHARES = (0.0, 0.2, 0.34, 0.5, 1.0)
# Items 0, 5 and 10 have nothing like them; others have one to three, which differ from themselves, with gaps.
SIMILAR = np.full((N, 4), PAD_ID, np.int32)
for _item in range(N):
    for _column in range(_item % 5 and 1 + _item % 3):
        SIMILAR[_item, (_item + _column) % 4] = (_item + 1 + _column) % N

histories = st.lists(st.lists(st.integers(0, N), max_size=L), min_size=B, max_size=B)  # N is the unknown item
seeds = st.integers(0, 2**31 - 1)
shares = st.sampled_from(SHARES)
many = settings(max_examples=40, deadline=None)


@functools.cache
def compiled(name, share, **options):
    if name in ("insert", "substitute"):
        options["similar"] = SIMILAR
    return jax.jit(lambda key, history: augmentations[name](key, history, share, **options))


def padded(rows, length=L):
    return jnp.array([[PAD_ID] * (length - len(row)) + row for row in rows], jnp.int32)


def unpadded(history):
    """Rows without padding, which must all be on the left."""
    rows = np.asarray(history).tolist()
    for row in rows:
        items = [item for item in row if item != PAD_ID]
        assert row == [PAD_ID] * (len(row) - len(items)) + items
    return [[item for item in row if item != PAD_ID] for row in rows]


def views(name, seed, rows, share, **options):
    view = compiled(name, share, **options)(jax.random.key(seed), padded(rows))
    assert view.shape == (B, L)
    assert view.dtype == jnp.int32
    return unpadded(view)


def count(share, row):
    return math.ceil(Fraction(str(share)) * len(row))


def alike(item):
    return [other for other in SIMILAR[item].tolist() if other != PAD_ID] if item < N else []


@many
@given(seeds, histories, shares)
def test_crop_is_a_contiguous_part(seed, rows, share):
    for row, view in zip(rows, views("crop", seed, rows, share), strict=True):
        assert len(view) == max(count(share, row), min(len(row), 1))
        assert any(row[start : start + len(view)] == view for start in range(len(row) + 1))


@many
@given(seeds, histories, shares)
def test_mask_takes_so_many_and_leaves_the_others(seed, rows, share):
    for row, view in zip(rows, views("mask", seed, rows, share, mask_id=N + 1), strict=True):
        assert view.count(N + 1) == count(share, row)
        assert all(new in (old, N + 1) for old, new in zip(row, view, strict=True))


@many
@given(seeds, histories, shares)
def test_reorder_keeps_the_items_and_all_but_a_part_in_place(seed, rows, share):
    for row, view in zip(rows, views("reorder", seed, rows, share), strict=True):
        assert Counter(view) == Counter(row)
        moved = [place for place, (old, new) in enumerate(zip(row, view, strict=True)) if old != new]
        if moved:
            assert moved[-1] - moved[0] < count(share, row)


@many
@given(seeds, histories, shares)
def test_substitutes_are_alike(seed, rows, share):
    for row, view in zip(rows, views("substitute", seed, rows, share), strict=True):
        changed = [(old, new) for old, new in zip(row, view, strict=True) if old != new]
        assert all(new in alike(old) for old, new in changed)
        # Those drawn that have nothing like them stay; nothing is like itself here.
        without = sum(not alike(item) for item in row)
        assert count(share, row) - without <= len(changed) <= min(count(share, row), len(row) - without)


def possible_insertion(row, view, most):
    """Whether ``view`` is the end of ``row`` with at most ``most`` items put in, one before an item it is like."""
    # All ways to read the view from its end: the event of the row last read, whether it has one before it, how many.
    ways = {(len(row), True, 0)}
    for new in reversed(view):
        ways = {
            *((at - 1, False, number) for at, _, number in ways if at > 0 and row[at - 1] == new),
            *((at, True, number + 1) for at, taken, number in ways if not taken and new in alike(row[at])),
        }
    return any(number <= most for _, _, number in ways)


@many
@given(seeds, histories, shares)
def test_insertions_stand_before_what_they_are_like(seed, rows, share):
    for row, view in zip(rows, views("insert", seed, rows, share), strict=True):
        assert len(view) >= len(row)
        assert possible_insertion(row, view, count(share, row))
        assert view[-1:] == row[-1:]
        room = L - len(row)
        without = sum(not alike(item) for item in row)
        added = len(view) - len(row)
        assert min(room, max(0, count(share, row) - without)) <= added
        assert added <= min(room, count(share, row), len(row) - without)


def test_insertion_by_hand():
    similar = jnp.array([1, PAD_ID, 0, 2, N])  # N is not in the catalogue of 5
    history = padded([[3, 1, 4, 0], [3, 0, 2, 0, 3, 2], []], 6)
    expected = padded([[2, 3, 1, 4, 1, 0], [1, 0, 2, 3, 0, 2], []], 6)
    np.testing.assert_array_equal(insert(jax.random.key(0), history, 1.0, similar=similar), expected)
    np.testing.assert_array_equal(insert(jax.random.key(0), history, 1.0, similar=similar[:, None]), expected)


def test_substitution_by_hand():
    similar = np.array([1, PAD_ID, 0, 2, N])
    history = padded([[3, 1, 4, 0, 5], [0], []], 6)
    expected = padded([[2, 1, 4, 1, 5], [1], []], 6)
    np.testing.assert_array_equal(substitute(jax.random.key(0), history, 1.0, similar=similar), expected)


@pytest.mark.parametrize("share", [0.1, 0.29, 0.35, 0.55, 0.57, 0.6, 0.7])
def test_counts_are_those_of_decimal_numbers(share):
    """In floating point 0.55 · 100 is above 55, and 0.29 · 100 below 29."""
    rows = [[1] * length for length in range(101)]
    masked = mask(jax.random.key(0), padded(rows, 100), share, mask_id=0)
    assert ((masked == 0).sum(-1)).tolist() == [count(share, row) for row in rows]


def shares_of(draws, number):
    return np.bincount(np.asarray(draws).ravel(), minlength=number) / np.size(draws)


def test_every_choice_is_equally_likely():
    """Five standard errors of 20,000 draws, for parts, masks, orders and correlated items."""
    rows, key = 20_000, jax.random.key(1)
    history = jnp.tile(jnp.array([[PAD_ID, 0, 1, 2, 3, 4]]), (rows, 1))
    tolerance = lambda p: 5 * math.sqrt(p * (1 - p) / rows)  # noqa: E731
    starts = crop(key, history, 0.6)[:, -3]
    np.testing.assert_allclose(shares_of(starts, 3), 1 / 3, atol=tolerance(1 / 3))
    masked = (mask(key, history, 0.4, mask_id=9) == 9)[:, 1:]
    np.testing.assert_allclose(masked.mean(0), 0.4, atol=tolerance(0.4))
    pairs = masked @ (2 ** jnp.arange(5))
    np.testing.assert_allclose(shares_of(pairs, 32)[[3, 5, 6, 17, 24]], 0.1, atol=tolerance(0.1))
    orders = reorder(key, history[:, -3:], 1.0) - 2
    codes = orders @ jnp.array([9, 3, 1])
    found = shares_of(codes, 27)
    np.testing.assert_allclose(found[found > 0], np.full(6, 1 / 6), atol=tolerance(1 / 6))
    similar = jnp.array([[PAD_ID, 3, PAD_ID, 1, 2, PAD_ID]] * 5)
    others = substitute(key, history[:, -1:], 1.0, similar=similar)
    np.testing.assert_allclose(shares_of(others, 4)[1:], 1 / 3, atol=tolerance(1 / 3))


def test_rows_draw_for_themselves():
    history = jnp.tile(jnp.arange(L, dtype=jnp.int32), (50, 1))
    similar = jnp.roll(jnp.arange(L), 1)
    for name in augmentations:
        options = {"mask": {"mask_id": L}, "insert": {"similar": similar}, "substitute": {"similar": similar}}
        view = augmentations[name](jax.random.key(0), history, 0.5, **options.get(name, {}))
        assert len(np.unique(view, axis=0)) > 1


def test_the_same_key_gives_the_same_view_and_padding_does_not_matter():
    history = padded([[1, 2, 3, 4]], 4)
    one, other = (crop(jax.random.key(2), rows, 0.5) for rows in (history, padded([[1, 2, 3, 4]], 7)))
    assert unpadded(one) == unpadded(other)
    assert unpadded(one) == unpadded(crop(jax.random.key(2), history, 0.5))


def test_maps_over_batches():
    keys = jax.random.split(jax.random.key(0), 3)
    history = jnp.tile(padded([[1, 2, 3, 4], [5]]), (3, 1, 1))
    views = functools.partial(two_views, choices=list(augmentations), mask_id=N, similar=SIMILAR)
    one, mapped = jax.jit(views), jax.jit(jax.vmap(views))(keys, history)
    for index, each in enumerate(keys):
        np.testing.assert_array_equal([view[index] for view in mapped], one(each, history[index]))


def oldest(key, history):
    return jnp.where(history == PAD_ID, PAD_ID, 0)


def test_two_views_take_one_augmentation_a_row_and_view():
    rows = 4000
    history = jnp.tile(padded([[1, 2, 3, 4]]), (rows, 1))
    two = functools.partial(two_views, choices=["mask", oldest, functools.partial(crop, share=0.25)], mask_id=N)
    pair = jax.jit(two)(jax.random.key(0), history)
    # Masking half of four leaves two items, the function of one's own makes zeros, a quarter is one item.
    kind = [np.where((v == N).sum(-1) == 2, 0, np.where((v == 0).sum(-1) == 4, 1, 2)) for v in pair]
    for view, kinds in zip(pair, kind, strict=True):
        assert {len(row) for row, k in zip(unpadded(view), kinds, strict=True) if k == 2} == {1}
    joint = shares_of(kind[0] * 3 + kind[1], 9)
    np.testing.assert_allclose(joint, 1 / 9, atol=5 * math.sqrt(8 / 81 / rows))


def test_one_augmentation_twice_draws_anew():
    history = jnp.tile(padded([[1, 2, 3, 4, 5]]), (40, 1))
    first, second = two_views(jax.random.key(0), history, ["reorder"], share=1.0)
    assert (np.asarray(first) != np.asarray(second)).any()
    assert [sorted(row) for row in unpadded(second)] == [[1, 2, 3, 4, 5]] * 40


def test_empty_histories_stay_empty():
    history = padded([[], [7]])
    options = {"mask_id": N, "similar": SIMILAR}
    for seed in range(5):
        for view in two_views(jax.random.key(seed), history, list(augmentations), **options):
            assert [len(row) > 0 for row in unpadded(view)] == [False, True]


def test_one_of_ones_own_by_name():
    augmentations.register("oldest", NamedAugmentation(oldest))
    try:
        first, second = two_views(jax.random.key(0), padded([[4, 5]]), ["oldest"])
        assert unpadded(first) == unpadded(second) == [[0, 0]]
    finally:
        del augmentations._factories["oldest"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key, h: crop(key, h, 1.5), r"share is 1.5; it must lie in \[0, 1\]"),
        (lambda key, h: reorder(key, h, float("nan")), "share is nan"),
        (lambda key, h: mask(key, h, 0.5, mask_id=PAD_ID), "mask_id is -1"),
        (lambda key, h: crop(key, h[0]), r"history must be integers of shape \[B, L\]; got int32\[9\]"),
        (lambda key, h: crop(key, h.astype(jnp.float32)), "got float32"),
        (lambda key, h: insert(key, h, similar=jnp.zeros(3)), r"similar must be integers .* got float32\[3\]"),
        (lambda key, h: insert(key, h, similar=jnp.zeros((3, 0), jnp.int32)), r"got int32\[3, 0\]"),
        (lambda key, h: two_views(key, h, []), "at least one of crop, mask, reorder, substitute, insert"),
        (lambda key, h: two_views(key, h, "crop"), "give a list"),
        (lambda key, h: two_views(key, h, ["corp"]), "Did you mean 'crop'"),
        (lambda key, h: two_views(key, h, ["crop", "mask"]), "'mask' needs mask_id"),
        (lambda key, h: two_views(key, h, ["crop", reorder], mask_id=3), "has the option mask_id"),
        (lambda key, h: two_views(key, h, [lambda key, h: h[:, 1:]]), r"made \(1, 8\) of \(1, 9\)"),
    ],
)
def test_wrong_input(call, message, key):
    with pytest.raises(ValueError, match=message):
        call(key, padded([[1, 2, 3]]))
