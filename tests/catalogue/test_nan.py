"""NaN counts as greater than every number in every reduction, in programs as they are compiled for use.

XLA's maximum of floats drops NaN on CPUs where it is vectorised: from some sizes on, and with optimisation only. So
everything here is compiled with it, whatever flags the tests run under.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.catalogue import ItemIndex, dense_scorer, kernels
from recjax.catalogue.search import best
from recjax.eval import target_ranks

OPTIMISED: dict[str, int | bool] = {"xla_backend_optimization_level": 3}
if jax.__version_info__ < (0, 11):
    # The flags that tests run under turn these emitters off. Newer releases always use them, and know no such option.
    OPTIMISED["xla_cpu_use_fusion_emitters"] = True
SIZES = [1, 7, 33, 1024, 4095, 4096, 4097, 20_000]


def optimised(function):
    return jax.jit(function, compiler_options=OPTIMISED)


def with_nan(rows, num_items, place, sign):
    """Scores of which each row has one NaN, of either sign."""
    scores = np.random.default_rng(num_items).normal(size=(rows, num_items)).astype(np.float32)
    scores[:, place] = np.copysign(np.float32(np.nan), sign)
    return scores


def cases(num_items):
    """``(place, sign)`` of a NaN."""
    return [(place, sign) for place in sorted({0, num_items // 2, num_items - 1}) for sign in (1, -1)]


def everything(scores, index_scores, target):
    """All reductions: of dense scores, and of an index that goes by blocks and by groups."""
    queries, items = dense_scorer(scores)
    ones, index = jnp.ones((len(scores), 1)), ItemIndex(jnp.zeros((scores.shape[1], 1)), bias=index_scores)
    found = {}
    for name, (q, catalogue_items) in {"dense": (queries, items), "index": (ones, index)}.items():
        values, ids = catalogue.top_k(q, catalogue_items, 1)
        found[name] = {
            "max": catalogue.max_score(q, catalogue_items),
            "top_k": values[:, 0],
            "logsumexp": catalogue.logsumexp(q, catalogue_items),
            "mean": catalogue.mean_score(q, catalogue_items),
            "ids": jnp.stack([ids[:, 0], catalogue.argmax(q, catalogue_items)]),
            "ranks": target_ranks(q, catalogue_items, jnp.full(len(scores), target))[:, 0],
        }
    return found


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("num_items", SIZES)
def test_no_reduction_loses_nan(num_items, rows):
    run = optimised(everything)
    for place, sign in cases(num_items):
        scores, other = with_nan(rows, num_items, place, sign), (place + 1) % num_items
        found = jax.device_get(run(jnp.asarray(scores), jnp.asarray(scores[0]), jnp.int32(other)))
        for name, kind in (("dense", scores), ("index", np.tile(scores[:1], (rows, 1)))):
            for reduction in ("max", "top_k", "logsumexp", "mean"):
                assert np.isnan(found[name][reduction]).all(), (name, reduction, place, sign)
            assert (found[name]["ids"] == place).all(), (name, place, sign)
            if num_items > 1:
                own = kind[:, other]
                np.testing.assert_array_equal(found[name]["ranks"], 2 + (kind > own[:, None]).sum(1))


@pytest.mark.parametrize("group", [8, 16, 32, 64])
def test_maxima_of_groups_and_blocks_equal_numpy(group):
    rng = np.random.default_rng(0)
    awkward = np.array([-np.inf, -1, -0.0, 0.0, 1, np.inf, 1e-45, -1e-45, 3e38, -3e38], np.float32)
    for num_items in (group, 20 * group, 4096, 20_032):
        for rows in (1, 3):
            scores = rng.choice(awkward, (rows, num_items))
            scores[rng.random(scores.shape) < 0.5 / group] = np.nan
            scores[rng.random(scores.shape) < 0.5 / group] = -np.nan
            expected = scores.reshape(rows, -1, group).max(-1)  # NumPy's maximum gives NaN.
            found = optimised(functools.partial(kernels.group_max, group=group))(scores)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(optimised(kernels.block_max)(scores[:, 1:]), scores[:, 1:].max(-1))


@pytest.mark.parametrize("num_items", [127, 130, 4095, 4096, 20_000])
def test_rankings_of_blocks_begin_with_nan(num_items):
    run = optimised(functools.partial(best, k=1))
    for place, sign in cases(num_items):
        values, positions = run(with_nan(8, num_items, place, sign))
        assert np.isnan(values).all()
        assert (positions == place).all()


def test_samples_of_a_network_that_diverged_are_its_nan():
    for place, sign in cases(20_000):
        queries, items = dense_scorer(jnp.asarray(with_nan(4, 20_000, place, sign)))
        drawn = optimised(lambda key, q: catalogue.sample(key, q, items, 2))(jax.random.key(0), queries)  # noqa: B023
        assert (np.asarray(drawn)[:, 0] == place).all()


def test_xla_still_drops_nan():
    """Once it does not, ``group_max`` and ``block_max`` can be the maximum of floats."""
    lost = optimised(lambda x: x.max(-1))(with_nan(8, 8192, 5, 1))
    assert not np.isnan(lost).any()


@pytest.mark.parametrize("group", [48, 33])
def test_groups_that_are_no_runs_are_named(group):
    with pytest.raises(ValueError, match=f"group is {group}; it must be at most 32, or a multiple of it"):
        kernels.group_max(jnp.zeros((1, 2 * group)), group)
