"""Beyond-accuracy metrics against scikit-learn, SciPy, LensKit and RecTools, and by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics.pairwise import cosine_distances

from recjax import eval

N, PAD = 12, -1
# Reference numbers marked RecTools or LensKit below were computed with RecTools 0.19.0 and
# LensKit 2025.8.1 on these lists, this log (every user has one interaction) and these profiles.
LISTS = jnp.array(
    [[9, 2, 6, 10, 11], [1, 4, 9, 10, 7], [9, 3, 2, 7, 5], [1, 3, 10, 11, 7], [3, 4, 8, 5, 9], [6, 4, 2, 11, 8]]
)
POPULARITY = jnp.array([4, 6, 3, 6, 5, 1, 4, 2, 4, 1, 1, 3], jnp.float32)
PROFILES = jnp.array([[0, 1, 2], [3, PAD, PAD], [4, 5, 0], [1, 9, PAD], [7, 8, PAD], [0, 11, PAD]])


@pytest.fixture(scope="module")
def counts():
    return eval.exposure_counts(LISTS, N)


def test_exposure_counts(counts):
    np.testing.assert_array_equal(counts, np.bincount(np.ravel(LISTS), minlength=N))
    assert counts.dtype == jnp.int32
    odd = jnp.array([[0, PAD, N, N + 1, -2, 0]])
    np.testing.assert_array_equal(eval.exposure_counts(odd, N), [2] + [0] * (N - 1))


def test_coverage_agrees_with_rectools(counts):
    assert eval.coverage(counts) == pytest.approx(0.9166666666666666)
    assert eval.coverage(eval.exposure_counts(LISTS[:, :1], N)) == pytest.approx(0.3333333333333333)


def test_gini_agrees_with_lenskit(counts):
    assert eval.gini(counts) == pytest.approx(0.18888888888888888, rel=1e-5)


def test_gini_is_half_the_relative_mean_difference():
    exposure = np.random.default_rng(0).integers(0, 50, 40)
    differences = np.abs(exposure[:, None] - exposure[None, :]).mean()
    assert eval.gini(jnp.array(exposure)) == pytest.approx(differences / 2 / exposure.mean(), rel=1e-5)


@pytest.mark.parametrize(("exposure", "expected"), [([3, 3, 3, 3], 0.0), ([0, 0, 9, 0], 0.75), ([0, 0, 0, 0], np.nan)])
def test_gini_extremes(exposure, expected):
    assert eval.gini(jnp.array(exposure)) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_self_information_agrees_with_rectools(counts):
    # With one interaction a user, RecTools' MeanInvUserFreq is -log2 of the share of
    # interactions; taking one from every item undoes the smoothing.
    assert eval.novelty_information(counts, POPULARITY - 1) == pytest.approx(3.9752490351342025, rel=1e-6)


def test_self_information_is_of_a_distribution_and_finite():
    information = eval.self_information(jnp.array([0.0, 1.0, 6.0]))
    np.testing.assert_allclose(information, -np.log2(np.array([1, 2, 7]) / 10), rtol=1e-6)
    np.testing.assert_allclose(eval.self_information(jnp.zeros(8)), 3.0, rtol=1e-6)


def test_novelty_new_is_a_share_of_slots():
    is_new = jnp.arange(N) >= 10
    assert eval.novelty_new(eval.exposure_counts(LISTS, N), is_new) == pytest.approx(6 / 30)


def test_tail_is_all_but_the_most_popular_fifth():
    np.testing.assert_array_equal(eval.is_tail(POPULARITY), ~np.isin(np.arange(N), [1, 3]))
    np.testing.assert_array_equal(eval.is_tail(jnp.ones(5)), [False, True, True, True, True])
    np.testing.assert_array_equal(eval.is_tail(jnp.arange(4.0), head_share=0.5), [True, True, False, False])


def test_tail_coverage(counts):
    tail_items = set(range(N)) - {1, 3}
    shown = set(np.ravel(LISTS).tolist())
    assert eval.tail_coverage(counts, POPULARITY) == pytest.approx(len(tail_items & shown) / len(tail_items))


def test_popularity_lift_agrees_with_rectools():
    # Quotient of RecTools' AvgRecPopularity of the lists and of the profiles.
    expected = 3.1333333333333333 / 3.944444444444444 - 1
    assert eval.popularity_lift(LISTS, PROFILES, POPULARITY) == pytest.approx(expected, rel=1e-5)
    assert eval.popularity_lift(LISTS, PROFILES, POPULARITY / 40) == pytest.approx(expected, rel=1e-5)


def test_popularity_lift_leaves_out_users_without_items():
    with_empty = jnp.concatenate([PROFILES, jnp.full((1, 3), PAD)]), jnp.concatenate([LISTS, jnp.full((1, 5), PAD)])
    expected = eval.popularity_lift(LISTS, PROFILES, POPULARITY)
    assert eval.popularity_lift(with_empty[1], with_empty[0], POPULARITY) == pytest.approx(float(expected))


def test_exposure_popularity_lift(counts):
    popularity = np.asarray(POPULARITY, np.float64)
    log = np.repeat(popularity, popularity.astype(int))
    expected = popularity[np.ravel(LISTS)].mean() / log.mean() - 1
    assert eval.exposure_popularity_lift(counts, POPULARITY) == pytest.approx(expected, rel=1e-5)
    assert eval.exposure_popularity_lift(POPULARITY.astype(jnp.int32), POPULARITY) == pytest.approx(0, abs=1e-6)


def test_nothing_shown():
    nothing = jnp.zeros(N, jnp.int32)
    assert eval.coverage(nothing) == eval.tail_coverage(nothing, POPULARITY) == 0
    assert np.isnan(eval.novelty_information(nothing, POPULARITY))
    assert np.isnan(eval.novelty_new(nothing, jnp.ones(N, bool)))
    assert eval.new_coverage(nothing, jnp.ones(N, bool)) == 0
    assert np.isnan(eval.new_coverage(nothing, jnp.zeros(N, bool)))
    assert np.isnan(eval.exposure_popularity_lift(nothing, POPULARITY))


def test_catalogue_metrics_under_vmap():
    stacked = jax.vmap(lambda lists: eval.exposure_counts(lists, N))(LISTS[:, None, :])
    per_list = jax.jit(jax.vmap(lambda c: (eval.gini(c), eval.tail_coverage(c, POPULARITY))))(stacked)
    for i, row in enumerate(stacked):
        assert per_list[0][i] == pytest.approx(float(eval.gini(row)))
        assert per_list[1][i] == pytest.approx(float(eval.tail_coverage(row, POPULARITY)))


def test_intra_list_diversity_agrees_with_scikit_learn():
    content = np.random.default_rng(1).normal(size=(N, 6)).astype(np.float32)
    content[7] = 0  # An item without content.
    expected = []
    for row in np.asarray(LISTS):
        distance = cosine_distances(content[row])
        expected.append(distance[np.triu_indices(5, k=1)].mean())
    np.testing.assert_allclose(eval.intra_list_diversity(LISTS, jnp.array(content)), expected, rtol=1e-5)


def test_intra_list_diversity_of_short_lists():
    content = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    slates = jnp.array([[PAD, 0, 1], [PAD, PAD, 2], [PAD, PAD, PAD], [0, 2, 1]])
    cosine = 1 / np.sqrt(2)
    expected = [1, np.nan, np.nan, ((1 - cosine) * 2 + 1) / 3]
    np.testing.assert_allclose(eval.intra_list_diversity(slates, content), expected, rtol=1e-6)
    np.testing.assert_allclose(eval.intra_list_diversity(slates[0], content), 1.0)
    assert np.isnan(eval.intra_list_diversity(jnp.array([[2]]), content)[0])


def test_serendipity_by_sets():
    rng = np.random.default_rng(2)
    slates, relevant, expected = (rng.integers(-1, N, (30, width)) for width in (6, 4, 5))
    relevant[0], slates[1] = PAD, PAD
    relevant[1, 0] = 3
    got = eval.serendipity(*(jnp.array(x) for x in (slates, relevant, expected)))
    for user in range(30):
        useful, primitive = set(relevant[user]) - {PAD}, set(expected[user])
        slots = int((slates[user] != PAD).sum())
        share = len((set(slates[user]) - primitive - {PAD}) & useful) / max(slots, 1)
        assert got[user] == pytest.approx(share if useful else np.nan, nan_ok=True)
    assert got[1] == 0


def test_calibration_agrees_with_scipy():
    genres = (np.random.default_rng(3).random((N, 4)) < 0.4).astype(np.float32)
    genres[:, 0] = 1
    genres[5] = 0  # Passed over.

    def distribution(items):
        shares = [genres[i] / genres[i].sum() for i in items if i >= 0 and genres[i].sum()]
        return np.mean(shares, axis=0)

    got = eval.calibration(LISTS, PROFILES, jnp.array(genres))
    for slate, profile, value in zip(np.asarray(LISTS), np.asarray(PROFILES), got, strict=True):
        p, q = distribution(profile), distribution(slate)
        assert value == pytest.approx(entropy(p, 0.99 * q + 0.01 * p), rel=1e-4, abs=1e-6)


def test_calibration_extremes():
    genres = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    slates = jnp.array([[0, PAD], [1, PAD], [2, PAD], [PAD, PAD]])
    profiles = jnp.array([[0], [0], [0], [0]])
    got = eval.calibration(slates, profiles, genres, alpha=0.01)
    np.testing.assert_allclose(got, [0, -np.log(0.01), np.nan, np.nan], rtol=1e-5, atol=1e-7)
    assert np.isnan(eval.calibration(profiles, jnp.full((4, 1), PAD), genres)).all()
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="alpha"):
            eval.calibration(slates, profiles, genres, alpha=alpha)


@pytest.mark.parametrize("unknown", [PAD, -2, N, N + 1, 2**31 - 1])
def test_ids_outside_the_catalogue_are_no_items(unknown):
    """Whatever the last item is like, a list with an unknown item is the list without it."""
    rng = np.random.default_rng(5)
    genres = jnp.array((rng.random((N, 4)) < 0.5) | (np.arange(4) == 0), jnp.float32)
    popularity = POPULARITY.at[N - 1].set(1000.0)
    without, with_unknown = LISTS.at[:, 1].set(PAD), LISTS.at[:, 1].set(unknown)
    for content in (genres, genres.at[N - 1].set(100.0)):
        for metric in (
            lambda lists: eval.intra_list_diversity(lists, content),  # noqa: B023
            lambda lists: eval.genre_distribution(lists, content),  # noqa: B023
            lambda lists: eval.calibration(lists, PROFILES, content),  # noqa: B023
            lambda lists: eval.calibration(LISTS, lists, content),  # noqa: B023
        ):
            np.testing.assert_array_equal(metric(with_unknown), metric(without))
    for metric in (
        lambda lists: eval.popularity_lift(lists, PROFILES, popularity),
        lambda lists: eval.popularity_lift(LISTS, lists, popularity),
        lambda lists: eval.exposure_counts(lists, N),
        lambda lists: eval.serendipity(lists, LISTS[:, ::-1], LISTS[:, :1], num_items=N),
        lambda lists: eval.serendipity(LISTS[:, ::-1], lists, LISTS[:, :1], num_items=N),
        lambda lists: eval.serendipity(LISTS[:, ::-1], LISTS, lists, num_items=N),
    ):
        np.testing.assert_array_equal(metric(with_unknown), metric(without))
    jitted = jax.jit(eval.intra_list_diversity)(with_unknown, genres)
    np.testing.assert_allclose(jitted, eval.intra_list_diversity(without, genres), rtol=1e-6)


def test_one_unknown_item_is_not_another():
    lists, relevant, nothing = jnp.array([[N, 3]]), jnp.array([[N, 4]]), jnp.array([[PAD]])
    assert eval.serendipity(lists, relevant, nothing, num_items=N)[0] == 0
    # With unknown items alone to find, nothing can be found, which is not the same as nothing to find.
    assert eval.serendipity(lists, jnp.array([[N]]), nothing, num_items=N)[0] == 0
    assert np.isnan(eval.serendipity(lists, nothing, nothing, num_items=N)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eval.exposure_counts(jnp.ones(3), N), "ids must hold integer ids .* such as 1.0"),
        (lambda: eval.exposure_counts(np.array([2**32 + 1]), N), "ids holds the id 4294967297"),
        (lambda: eval.exposure_counts(LISTS, 0), "num_items is 0"),
        (lambda: eval.intra_list_diversity(LISTS * 1.0, jnp.ones((N, 2))), "slates must hold integer ids"),
        (lambda: eval.intra_list_diversity(LISTS, jnp.ones(N)), r"content has shape \(12,\); it must be \[N, F\]"),
        (lambda: eval.genre_distribution(LISTS, jnp.ones((0, 2))), r"multi_hot has shape \(0, 2\)"),
        (lambda: eval.popularity_lift(LISTS, PROFILES, jnp.ones((N, 1))), r"popularity has shape \(12, 1\)"),
        (lambda: eval.popularity_lift(LISTS, PROFILES[:2], POPULARITY), r"slates \(6, 5\), profiles \(2, 3\)"),
        (lambda: eval.calibration(LISTS, PROFILES[0], jnp.ones((N, 2))), r"slates \(6, 5\), profiles \(3,\)"),
        (lambda: eval.serendipity(LISTS, LISTS, LISTS[:1]), r"expected \(1, 5\)"),
        (lambda: eval.serendipity(LISTS, LISTS, LISTS > 0), "expected must hold integer ids"),
        (lambda: eval.gini(jnp.ones((2, N))), r"one number an item.*counts \(2, 12\)"),
        (lambda: eval.coverage(jnp.ones(())), r"counts \(\)"),
        (lambda: eval.is_tail(POPULARITY, head_share=20), "head_share is 20"),
        (lambda: eval.tail_coverage(jnp.ones(N), POPULARITY[:1]), r"counts \(12,\), popularity \(1,\)"),
        (lambda: eval.exposure_popularity_lift(jnp.ones(N), jnp.ones(1)), r"popularity \(1,\)"),
        (lambda: eval.novelty_information(jnp.ones(N), jnp.ones(N + 1)), r"popularity \(13,\)"),
        (lambda: eval.novelty_new(jnp.ones(N), jnp.ones(N)), "is_new has dtype float32"),
        (lambda: eval.new_coverage(jnp.ones(N), jnp.ones(1, bool)), r"is_new \(1,\)"),
    ],
)
def test_wrong_shapes_and_dtypes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
