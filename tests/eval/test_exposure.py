"""The accumulator of the loop against sums in float64 over the whole log of slates."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.eval import Exposure, Total, describe, gini, intra_list_diversity, novelty_information
from recjax.types import Feature, Items, Response

S, T, B, K, N, PAD = 2, 5, 4, 3, 10, -1


@pytest.fixture(scope="module")
def log():
    """Slates and answers of S seeds and T steps; some slots, and one whole slate a step, are empty."""
    rng = np.random.default_rng(0)
    slate = np.stack([rng.permutation(N)[:K] for _ in range(S * T * B)]).reshape(S, T, B, K)
    slate[rng.random(slate.shape) < 0.2] = PAD
    slate[:, :, 0] = PAD
    shape = slate.shape
    click = (rng.random(shape) < 0.5).astype(np.float32)  # Also on empty slots, where it must not count.
    conversion = click * (rng.random(shape) < 0.5)
    satisfaction = click * rng.random(shape)
    reward = rng.normal(size=shape)
    return tuple(np.asarray(x, np.int32 if x is slate else np.float32) for x in
                 (slate, click, conversion, satisfaction, reward))  # fmt: skip


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(1)
    return Items(
        popularity=jnp.array(rng.integers(0, 9, N), jnp.float32),
        is_new=jnp.arange(N) > 7,
        features={"genres": Feature(jnp.array(rng.random((N, 4)) < 0.5, jnp.float32), "multi_hot")},
    )


@jax.jit
def scan(items, slate, click, conversion, satisfaction, reward):
    def body(exposure, step):
        slate, click, conversion, satisfaction, reward = step
        response = Response(click=click, conversion=conversion, satisfaction=satisfaction)
        return exposure.update(slate, response, reward, items), None

    return jax.lax.scan(body, Exposure.empty(N), (slate, click, conversion, satisfaction, reward))[0]


@pytest.fixture(scope="module")
def exposures(items, log):
    """One exposure a seed, accumulated as a loop does: a scan under vmap."""
    return jax.vmap(partial(scan, items))(*log)


def test_summary_agrees_with_the_whole_log(exposures, items, log):
    got = jax.jit(jax.vmap(lambda exposure: exposure.summary(items)))(exposures)
    for seed in range(S):
        slate, click, conversion, satisfaction, reward = (x[seed].reshape(-1, K) for x in log)
        shown = slate != PAD
        click, conversion, satisfaction, reward = (
            np.where(shown, x, 0).astype(np.float64) for x in (click, conversion, satisfaction, reward)
        )
        slates = shown.any(-1).sum()
        counts = np.bincount(slate[shown], minlength=N)
        popularity = np.asarray(items.popularity, np.float64)
        tail = np.ones(N, bool)
        tail[np.argsort(-popularity, kind="stable")[:2]] = False
        expected = {
            "reward": reward.sum() / slates,
            "ctr": click.sum() / shown.sum(),
            "click_rate": (click.max(-1) > 0).sum() / slates,
            "conversion_rate": conversion.sum() / click.sum(),
            "satisfaction": satisfaction.sum() / click.sum(),
            "satisfaction_per_slate": satisfaction.sum() / slates,
            "coverage": (counts > 0).mean(),
            "tail_coverage": (counts > 0)[tail].mean(),
            "new_coverage": (counts > 0)[8:].mean(),
            "novelty_information": -np.log2((popularity + 1) / (popularity + 1).sum())[slate[shown]].mean(),
            "novelty_new": (slate[shown] > 7).mean(),
            "diversity": np.nanmean(intra_list_diversity(jnp.array(slate), items.content)),
            "gini": np.abs(counts[:, None] - counts[None, :]).mean() / 2 / counts.mean(),
            "popularity_lift": popularity[slate[shown]].mean() * popularity.sum() / (popularity**2).sum() - 1,
        }
        assert set(got) == set(expected)
        for name, value in expected.items():
            assert got[name][seed] == pytest.approx(value, rel=1e-5), name


def test_every_metric_is_defined(exposures, items):
    for name in jax.eval_shape(jax.vmap(lambda exposure: exposure.summary(items)), exposures):
        assert describe(name).definition


def test_merged_parts_are_the_whole(items, log):
    slate = log[0]
    parts = [scan(items, *(column[0, half] for column in log)) for half in (slice(0, 2), slice(2, T))]
    whole = scan(items, *(column[0] for column in log))
    merged = parts[0].merge(parts[1])
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_array_equal(merged.counts, np.bincount(slate[0][slate[0] >= 0], minlength=N))
    for name, value in whole.summary(items).items():
        assert merged.summary(items)[name] == pytest.approx(float(value), rel=1e-6), name


def test_missing_answers_and_content_are_nan():
    items = Items(popularity=jnp.ones(N), is_new=jnp.zeros(N, bool))
    ones = jnp.ones((1, 2))
    slate = jnp.array([[0, 1]])
    summary = Exposure.empty(N).update(slate, Response(click=ones), ones, items).summary(items)
    undefined = {name for name, value in summary.items() if np.isnan(value)}
    assert undefined == {"conversion_rate", "satisfaction", "satisfaction_per_slate", "diversity", "new_coverage"}
    content = jnp.eye(N)
    with_content = Exposure.empty(N).update(slate, Response(click=ones), ones, items, content)
    assert with_content.summary(items)["diversity"] == 1


def test_slates_of_one_item_have_no_diversity(items):
    slate, ones = jnp.array([[3], [4]]), jnp.ones((2, 1))
    summary = Exposure.empty(N).update(slate, Response(click=ones), ones, items).summary(items)
    assert np.isnan(summary["diversity"])
    assert summary["ctr"] == summary["click_rate"] == 1


def test_nothing_shown(items):
    slate = jnp.full((2, K), PAD)
    ones = jnp.ones((2, K))
    summary = Exposure.empty(N).update(slate, Response(click=ones), ones, items).summary(items)
    assert summary["coverage"] == summary["tail_coverage"] == 0
    assert all(np.isnan(value) for name, value in summary.items() if "coverage" not in name)


def test_counting_goes_on_where_float32_stops():
    start = 2.0**24
    count = jax.jit(lambda total: jax.lax.fori_loop(0, 1001, lambda _, t: t.add(jnp.float32(1)), total))
    total = count(Total(high=jnp.float32(start), low=jnp.float32(0)))
    assert int(total.high) + int(total.low) == int(start) + 1001
    both = jax.jit(lambda a, b: a + b)(total, total)
    assert int(both.high) + int(both.low) == 2 * (int(start) + 1001)


def test_sum_of_small_numbers_is_as_good_as_float64():
    values = np.random.default_rng(2).random(20_000).astype(np.float32)
    total = jax.jit(lambda xs: jax.lax.scan(lambda t, x: (t.add(x), None), Total.zero(), xs)[0])(values)
    assert float(total.high) + float(total.low) == pytest.approx(values.astype(np.float64).sum(), rel=1e-12)


def test_metrics_of_counts_at_scale():
    counts = jnp.full(100_000, 2**26, jnp.int32).at[0].set(2**30)
    exact = np.asarray(counts, np.float64)
    order = np.arange(1, len(exact) + 1)
    expected = ((2 * order - len(exact) - 1) * np.sort(exact)).sum() / (len(exact) * exact.sum())
    assert gini(counts) == pytest.approx(expected, abs=2e-6)
    assert novelty_information(counts, jnp.zeros(100_000)) == pytest.approx(np.log2(1e5), rel=1e-5)


def test_wrong_reward_shape_is_named(items):
    slate = jnp.zeros((2, 3), jnp.int32)
    with pytest.raises(ValueError, match=r"\(2,\).*\(2, 3\)"):
        Exposure.empty(N).update(slate, Response(click=jnp.zeros((2, 3))), jnp.zeros(2), items)
