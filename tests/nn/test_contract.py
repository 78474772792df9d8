"""What every network must hold: every registered Q-network, and every registered history encoder in one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.nn import ItemTower, Recommendation, UserTower, catalogue_scores, history_encoders, q_networks
from recjax.types import PAD_ID, Observation

N, DIM = 11, 8
ACTIONS = jnp.array([[0, 10], [3, 3], [5, 1], [7, 2]], jnp.int32)
NETWORKS = {**{name: q_networks[name] for name in q_networks}, "recommendation": Recommendation}

# A bias of the attention keys shifts all logits of a query alike, so softmax does not see it; and
# the last bias of an advantage is subtracted again with its mean.
SILENT = {*(f"['user']['history']['block_{n}']['attention']['key']['bias']" for n in range(2)), "['bias_0']"}


class Case:
    """A network, its parameters, and its outputs from one compiled program."""

    def __init__(self, name, encoder, items, observation):
        self.name = name
        self.network = NETWORKS[name](item=ItemTower(N, DIM), user=UserTower(DIM, encoder))
        self.init = jax.jit(self.network.init)
        self.params = self.init(jax.random.key(0), observation, items)
        self.items, self.observation = items, observation
        self.outputs = jax.jit(self._outputs)
        self.result = self.outputs(self.params, observation, items)

    def _outputs(self, params, observation, items):
        scores = self.network.apply(params, observation, items)
        queries, index = catalogue_scores(self.network, params, observation, items)
        result = {
            "scores": scores,
            "score_at": catalogue.score_at(queries, index, ACTIONS),
            "top_k": catalogue.top_k(queries, index, 4, block_size=3),
        }
        if self.name != "recommendation":
            result["at"] = self.network.apply(params, observation, ACTIONS, items, method="at")
        return result


# Networks do not know their encoder, so each of the two lists is run through once.
CASES = [(name, "mean") for name in NETWORKS] + [("dot_product", name) for name in history_encoders if name != "mean"]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, items, observation):
    return Case(*request.param, items, observation)


def test_scores_are_finite_float32(case):
    scores = case.result["scores"]
    assert scores.shape == (4, N)
    assert scores.dtype == jnp.float32
    assert jnp.isfinite(scores).all()
    assert (scores.std(1) > 0).all()


def test_values_of_chosen_items_are_columns_of_all_values(case):
    columns = jnp.take_along_axis(case.result["scores"], ACTIONS, axis=1)
    np.testing.assert_allclose(case.result["score_at"], columns, atol=1e-5)
    np.testing.assert_allclose(case.result.get("at", columns), columns, atol=1e-5)


def test_blocked_top_k_equals_a_sort_of_all_values(case):
    scores, ids = case.result["top_k"]
    expected = np.argsort(-np.asarray(case.result["scores"], np.float64), axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(np.asarray(case.result["scores"]), expected, 1), atol=1e-5)


def test_more_padding_on_the_left_changes_nothing(case):
    pad = functools.partial(jnp.pad, pad_width=((0, 0), (2, 0)), constant_values=PAD_ID)
    longer = Observation(pad(case.observation.history), pad(case.observation.behaviour), case.observation.context)
    again = case.outputs(case.params, longer, case.items)
    np.testing.assert_allclose(again["scores"], case.result["scores"], atol=1e-5)


def test_a_user_is_scored_alike_in_any_place_of_the_batch(case):
    swapped = jax.tree.map(lambda leaf: leaf[::-1], case.observation)
    again = case.outputs(case.params, swapped, case.items)
    np.testing.assert_allclose(again["scores"], case.result["scores"][::-1], atol=1e-5)


def test_seeds_under_vmap_with_shared_items_equal_single_seeds(case):
    keys = jax.random.split(jax.random.key(1), 2)
    params = jax.vmap(case.init, in_axes=(0, None, None))(keys, case.observation, case.items)
    both = jax.jit(jax.vmap(case._outputs, in_axes=(0, None, None)))(params, case.observation, case.items)
    for seed in range(2):
        one = case.outputs(jax.tree.map(lambda leaf, seed=seed: leaf[seed], params), case.observation, case.items)
        np.testing.assert_allclose(both["scores"][seed], one["scores"], atol=1e-5)
        np.testing.assert_array_equal(both["top_k"][1][seed], one["top_k"][1])
    assert (both["scores"][0] != both["scores"][1]).any()


def test_gradients_are_finite_reach_every_parameter_and_spare_padding(case):
    def loss(params):
        result = case._outputs(params, case.observation, case.items)
        return (result.get("at", result["score_at"]) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(case.params)["params"]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    silent = {path for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if not leaf.any()}
    assert not {jax.tree_util.keystr(path) for path in silent} - SILENT
    assert not gradient["item"]["embedding"][N + 1].any()


def test_towers_have_the_names_that_networks_share(case):
    assert {"user", "item"} <= set(case.params["params"])


@pytest.mark.parametrize("name", ["dot_product", "dueling_mlp", "recommendation"])
def test_bfloat16_towers_give_close_float32_scores(name, items, observation):
    full, half = (
        NETWORKS[name](item=ItemTower(N, DIM, dtype=dtype), user=UserTower(DIM, dtype=dtype))
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    params = jax.jit(half.init)(jax.random.key(0), observation, items)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    scores, expected = (jax.jit(network.apply)(params, observation, items) for network in (half, full))
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, expected, atol=0.05 * float(jnp.abs(expected).max()))
