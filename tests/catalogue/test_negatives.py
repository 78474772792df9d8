"""Samplers of negatives: their law against tables enumerated by hand, frequencies and float64 NumPy."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from recjax.catalogue import accidental_hits, negatives
from recjax.losses import sampled_softmax
from recjax.types import PAD_ID

FULL = 2**32


def law(distribution):
    """Probability of every item, counted out of the table: every column, every toss."""
    threshold, alias = np.asarray(distribution.threshold), np.asarray(distribution.alias)
    columns = np.arange(len(alias))
    own = np.where(alias == columns, FULL, threshold.astype(np.int64))
    units = np.zeros(len(alias), np.int64)
    np.add.at(units, columns, own)
    np.add.at(units, alias, FULL - own)
    assert units.sum() == FULL * len(alias)
    assert not units[distribution.num_items :].any(), "columns that are no item are never drawn"
    return units[: distribution.num_items] / (FULL * len(alias))


def wanted(counts, exponent=1.0, smoothing=0.0):
    largest = max(counts) + smoothing
    weights = [((count + smoothing) / largest) ** exponent if count + smoothing > 0 else 0.0 for count in counts]
    return np.array(weights) / np.sum(weights)


def check_law(counts, **options):
    counts = np.asarray(counts, np.float64)
    distribution = negatives.popularity_distribution(counts, **options)
    drawn, q = law(distribution), wanted(counts, **{"smoothing": 1.0, **options})
    slots = FULL * len(distribution.alias)
    # Half a unit, one where a probability would vanish; the largest takes what the others leave.
    tolerance = np.where(q * slots < 1, 1.001, 0.501) / slots
    tolerance[q >= q.max() * (1 - 1e-12)] = len(q) / slots
    np.testing.assert_array_less(np.abs(drawn - q), tolerance + 1e-15 * q)
    np.testing.assert_array_equal(drawn > 0, q > 0)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(distribution.logq, np.log(drawn), rtol=2e-7)
    return distribution


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ([5.0], {}),
        ([0.0], {}),
        ([1.0, 1.0], {"smoothing": 0.0}),
        ([1.0, 1.0, 1.0, 1.0], {"smoothing": 0.0}),
        ([2.0, 1.0, 1.0, 0.0], {"smoothing": 0.0}),
        ([0.0, 0.0, 7.0, 0.0, 0.0], {"smoothing": 0.0}),
        ([0.0, 3.0, 0.0], {"smoothing": 0.5}),
        ([1e-30, 1e30, 1.0], {"smoothing": 0.0}),
        ([1e200, 1e190, 0.0], {"smoothing": 0.0, "exponent": 3.0}),
        ([9.0, 1.0, 0.0, 4.0], {"exponent": 0.75}),
        ([9.0, 1.0, 0.0, 4.0], {"smoothing": 0.0, "exponent": 0.0}),
    ],
)
def test_the_table_holds_the_distribution(counts, options):
    distribution = check_law(counts, **options)
    assert distribution.threshold.dtype == jnp.uint32
    assert distribution.alias.dtype == jnp.int32
    assert distribution.logq.dtype == jnp.float32


@hypothesis.settings(deadline=None, max_examples=200, derandomize=True, database=None)
@hypothesis.given(
    counts=st.lists(st.sampled_from([0.0, 0.25, 1.0, 1.0, 2.0, 3.0, 1e6]), min_size=1, max_size=70),
    exponent=st.sampled_from([0.0, 0.75, 1.0, 2.0]),
    smoothing=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_any_table_holds_its_distribution(counts, exponent, smoothing):
    hypothesis.assume(any(counts) or smoothing)
    check_law(counts, exponent=exponent, smoothing=smoothing)


@pytest.mark.parametrize("counts", [[1.0, 1.0, 0.0, 0.0], [0.0, 3.0, 1.0], [1.0, 2.0, 13.0, 0.0, 0.0, 16.0], [1.0] * 8])
def test_fractions_of_powers_of_two_are_drawn_exactly(counts):
    distribution = negatives.popularity_distribution(np.array(counts), smoothing=0.0)
    np.testing.assert_array_equal(law(distribution), np.array(counts) / np.sum(counts))


def test_every_column_and_toss_gives_the_item_of_the_table(monkeypatch, key):
    """The random bits are replaced by the two tosses on either side of each threshold, and the extremes."""
    distribution = negatives.popularity_distribution(np.array([3.0, 0.0, 1.0, 9.0, 2.0]), smoothing=0.0)
    threshold, alias = np.asarray(distribution.threshold), np.asarray(distribution.alias)
    column = np.repeat(np.arange(8, dtype=np.uint32), 4)
    below = (threshold - np.minimum(threshold, 1)).astype(np.uint32)
    toss = np.stack([np.zeros(8, np.uint32), below, threshold, np.full(8, FULL - 1, np.uint32)], axis=1).ravel()
    own = toss < threshold[column]
    for low_bits in (0, 2**29 - 1):
        bits = jnp.stack([jnp.asarray(column << 29 | low_bits), jnp.asarray(toss)])
        monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype, bits=bits: bits.reshape(shape))
        drawn = negatives.popularity(key, (32,), distribution)
        np.testing.assert_array_equal(drawn.ids, np.where(own, column, alias[column]))
        assert set(np.asarray(drawn.ids)) == {0, 2, 3, 4}


def test_a_million_items_keep_their_rare_ones():
    counts = 1e9 / np.arange(1.0, 1_000_001.0) ** 2
    distribution = check_law(np.random.default_rng(0).permutation(counts), smoothing=0.0)
    assert np.exp(np.asarray(distribution.logq, np.float64)).sum() == pytest.approx(1.0, abs=1e-6)
    assert distribution.logq.min() < np.log(1e-12)


def chi_square(ids, q):
    """P-value of the frequencies of ``ids``; items of probability 0 must not occur."""
    observed = np.bincount(np.ravel(ids), minlength=len(q))
    assert len(observed) == len(q)
    assert not observed[q == 0].any()
    return stats.chisquare(observed[q > 0], observed.sum() * q[q > 0] / q[q > 0].sum()).pvalue


@pytest.mark.parametrize("shape", [(60_000,), (600, 100)])
def test_frequencies_are_those_of_logq(key, shape):
    counts = np.array([0.0, 1.0, 5.0, 2.0, 0.0, 40.0, 11.0])
    for distribution in (
        negatives.popularity_distribution(counts, smoothing=0.0),
        negatives.popularity_distribution(counts, exponent=0.75),
    ):
        drawn = negatives.popularity(key, shape, distribution)
        q = np.exp(np.asarray(distribution.logq, np.float64))
        assert chi_square(drawn.ids, q) > 1e-3
        np.testing.assert_array_equal(drawn.logq, distribution.logq[drawn.ids])
    drawn = negatives.uniform(key, shape, 7)
    assert chi_square(drawn.ids, np.full(7, 1 / 7)) > 1e-3
    np.testing.assert_allclose(drawn.logq, np.full(shape, -np.log(7)), rtol=1e-7)
    assert (drawn.ids.shape, drawn.ids.dtype, drawn.logq.dtype) == (shape, jnp.int32, jnp.float32)


def test_draws_of_a_row_are_independent(key):
    distribution = negatives.popularity_distribution(np.array([1.0, 2.0, 13.0]), smoothing=0.0)
    pairs = np.asarray(negatives.popularity(key, (40_000, 2), distribution).ids)
    q = np.array([1.0, 2.0, 13.0]) / 16
    observed = np.bincount(3 * pairs[:, 0] + pairs[:, 1], minlength=9)
    assert stats.chisquare(observed, 40_000 * np.outer(q, q).ravel()).pvalue > 1e-3


BATCH = jnp.array([3, 1, PAD_ID, 3, 6, 0, 9], jnp.int32)
COUNTS = np.array([0.0, 2.0, 5.0, 4.0, 1.0, 0.0, 8.0])  # 0 was never seen, 9 is outside: 4 positives are known


@pytest.mark.parametrize("as_array", [False, True])
def test_in_batch_by_hand(as_array):
    distribution = negatives.popularity_distribution(COUNTS, smoothing=0.0)
    drawn = negatives.in_batch(BATCH, distribution.logq if as_array else distribution)
    assert drawn.ids.tolist() == [3, 1, PAD_ID, 3, 6, PAD_ID, PAD_ID]
    assert (drawn.ids.dtype, drawn.logq.dtype) == (jnp.int32, jnp.float32)
    expected = np.log(np.array([4, 2, 4, 8]) / 20 * 3 / 7)
    np.testing.assert_allclose(drawn.logq[np.array([0, 1, 3, 4])], expected, rtol=1e-6)
    assert np.isfinite(drawn.logq).all()


def test_mixed_by_hand(key):
    distribution = negatives.popularity_distribution(COUNTS, smoothing=0.0)
    drawn = negatives.mixed(key, BATCH, 500, distribution)
    assert drawn.ids[:7].tolist() == [3, 1, PAD_ID, 3, 6, PAD_ID, PAD_ID]
    assert chi_square(drawn.ids[7:], np.full(7, 1 / 7)) > 1e-3
    real = np.asarray(drawn.ids) >= 0
    expected = np.log((3 * COUNTS / 20 + 500 / 7) / 507)[np.asarray(drawn.ids)[real]]
    np.testing.assert_allclose(np.asarray(drawn.logq)[real], expected, rtol=1e-5)
    assert np.isfinite(drawn.logq).all()


@pytest.mark.parametrize("known", [0, 1])
def test_batches_without_others_stay_finite(key, known):
    batch = jnp.where(jnp.arange(4) < known, 2, PAD_ID)
    logq = jnp.log(jnp.asarray(COUNTS, jnp.float32) / 20)
    assert np.isfinite(negatives.in_batch(batch, logq).logq).all()
    drawn = negatives.mixed(key, batch, 5, logq)
    np.testing.assert_allclose(drawn.logq[4:], np.full(5, np.log(5 / 7 / 9)), rtol=1e-6)
    assert np.isfinite(drawn.logq).all()


SAMPLERS = {
    "uniform": lambda key, distribution: negatives.uniform(key, (4, 3), distribution.num_items),
    "popularity": lambda key, distribution: negatives.popularity(key, (4, 3), distribution),
    "in_batch": lambda key, distribution: negatives.in_batch(BATCH, distribution),
    "mixed": lambda key, distribution: negatives.mixed(key, BATCH, 3, distribution),
}


@pytest.mark.parametrize("num_items", [6, 40])
def test_merged_draws_give_the_same_loss_and_gradient(key, num_items):
    """In float64 NumPy, over every draw; where items are many there is nothing to spare, but nothing wrong either."""
    positives = jnp.array([3, 0, 0, 5, PAD_ID, 3, 3, 1, 99])
    drawn = negatives.in_batch(positives, negatives.popularity_distribution(np.arange(1.0, num_items + 1), smoothing=0))
    once = negatives.merged(drawn, num_items)
    assert len(once.ids) == min(len(positives), num_items + 1)
    assert sorted(set(once.ids.tolist()) - {PAD_ID}) == [0, 1, 3, 5]
    scores = jax.random.normal(key, (len(positives), num_items))

    def losses(scores, drawn):
        own = jnp.take_along_axis(scores, jnp.clip(positives, 0, num_items - 1)[:, None], axis=1)[:, 0]
        hits = accidental_hits(positives, drawn.ids)
        return sampled_softmax(own, scores[:, jnp.maximum(drawn.ids, 0)], logq=drawn.logq, hits=hits)

    for user, positive in enumerate(np.asarray(positives)):
        s = np.asarray(scores[user], np.float64)
        ids = [i for i in np.asarray(drawn.ids) if i not in (PAD_ID, positive)]
        q = dict(zip(np.asarray(drawn.ids).tolist(), np.exp(np.asarray(drawn.logq, np.float64)), strict=True))
        own = s[np.clip(positive, 0, num_items - 1)]
        wanted = np.log(1 + sum(np.exp(s[i] - own) / (len(positives) * q[i]) for i in ids))
        np.testing.assert_allclose(losses(scores, once)[user], wanted, rtol=1e-5)
    slopes = [jax.grad(lambda scores, drawn: losses(scores, drawn).sum())(scores, each) for each in (drawn, once)]
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_draws_of_each_example_are_not_merged(key):
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        negatives.merged(negatives.uniform(key, (2, 3), 9), 9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_functions_of_the_key_under_every_transformation(key, name):
    distribution = negatives.popularity_distribution(COUNTS)
    draw = functools.partial(SAMPLERS[name], distribution=distribution)
    keys = jax.random.split(key, 3)
    one_by_one = [draw(one) for one in keys]
    together = [
        jax.vmap(draw)(keys),
        jax.jit(jax.vmap(SAMPLERS[name], in_axes=(0, None)))(keys, distribution),
        lax.scan(lambda carry, one: (carry, draw(one)), 0, keys)[1],
    ]
    for drawn in together:
        for i, expected in enumerate(one_by_one):
            np.testing.assert_array_equal(drawn.ids[i], expected.ids)
            np.testing.assert_allclose(drawn.logq[i], expected.logq, rtol=1e-6)
    if name != "in_batch":
        assert (one_by_one[0].ids != one_by_one[1].ids).any()


@pytest.mark.parametrize("name", ["uniform", "popularity", "mixed"])
def test_a_draw_costs_the_same_whatever_the_catalogue(name):
    def cost(num_items):
        distribution = negatives.PopularityDistribution(
            jax.ShapeDtypeStruct((num_items,), jnp.uint32),
            jax.ShapeDtypeStruct((num_items,), jnp.int32),
            jax.ShapeDtypeStruct((num_items,), jnp.float32),
        )
        compiled = jax.jit(SAMPLERS[name]).lower(jax.random.key(0), distribution).compile()
        return compiled.memory_analysis().temp_size_in_bytes, compiled.cost_analysis()["flops"]

    assert cost(2**20) == cost(2**5)


def test_bad_arguments_are_named(key):
    build = negatives.popularity_distribution
    with pytest.raises(ValueError, match=r"counts must have shape \[N\] with N >= 1; got \(2, 1\)"):
        build(np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"got \(0,\)"):
        build(np.ones(0))
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"counts\[1\] is {wrong}"):
            build(np.array([1.0, wrong]))
    with pytest.raises(ValueError, match="All counts are 0"):
        build(np.zeros(3), smoothing=0.0)
    with pytest.raises(ValueError, match="smoothing is -1"):
        build(np.ones(3), smoothing=-1)
    with pytest.raises(ValueError, match="exponent is nan"):
        build(np.ones(3), exponent=np.nan)
    distribution = build(np.ones(3))
    for shape in ((), (0,), (2, 0), (1, 2, 3)):
        with pytest.raises(ValueError, match="it must be"):
            negatives.popularity(key, shape, distribution)
        with pytest.raises(ValueError, match="it must be"):
            negatives.uniform(key, shape, 3)
    with pytest.raises(ValueError, match="num_items is 0"):
        negatives.uniform(key, (1,), 0)
    with pytest.raises(ValueError, match="B >= 2"):
        negatives.in_batch(jnp.array([1]), distribution)
    with pytest.raises(ValueError, match=r"must be integers.*float32"):
        negatives.in_batch(jnp.array([1.0, 2.0]), distribution)
    with pytest.raises(ValueError, match=r"must be floating of shape \[N\]; got int32"):
        negatives.in_batch(jnp.array([1, 2]), jnp.arange(3))
    with pytest.raises(ValueError, match="num_uniform is 0"):
        negatives.mixed(key, jnp.array([1, 2]), 0, distribution)
