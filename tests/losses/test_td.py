"""TD errors against rlax; n-step returns against a loop in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.catalogue import argmax, dense_scorer, max_score, score_at
from recjax.losses import td

rlax = pytest.importorskip("rlax")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    q = [jnp.asarray(rng.normal(size=(16, 5)), jnp.float32) for _ in range(3)]
    a_tm1 = jnp.asarray(rng.integers(0, 5, 16), jnp.int32)
    r_t = jnp.asarray(rng.normal(size=16), jnp.float32)
    discount_t = jnp.asarray(rng.choice([0.0, 0.9], 16), jnp.float32)
    return q, a_tm1, r_t, discount_t


def test_errors_with_the_largest_value_are_those_of_q_learning(batch):
    (q_tm1, q_t, _), a_tm1, r_t, discount_t = batch
    expected = jax.vmap(rlax.q_learning)(q_tm1, a_tm1, r_t, discount_t, q_t)
    taken = score_at(*dense_scorer(q_tm1), a_tm1[:, None])[:, 0]
    got = td.td_error(taken, r_t, discount_t, max_score(*dense_scorer(q_t)))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_errors_with_the_value_of_the_others_choice_are_those_of_double_q_learning(batch):
    (q_tm1, value, selector), a_tm1, r_t, discount_t = batch
    expected = jax.vmap(rlax.double_q_learning)(q_tm1, a_tm1, r_t, discount_t, value, selector)
    taken = score_at(*dense_scorer(q_tm1), a_tm1[:, None])[:, 0]
    chosen = score_at(*dense_scorer(value), argmax(*dense_scorer(selector))[:, None])[:, 0]
    np.testing.assert_allclose(td.td_error(taken, r_t, discount_t, chosen), expected, rtol=1e-6)


def test_losses_of_errors_equal_rlax():
    error = jnp.linspace(-3, 3, 25)
    np.testing.assert_allclose(td.TD_LOSSES["mse"](error), rlax.l2_loss(error), rtol=1e-6)
    np.testing.assert_allclose(td.TD_LOSSES["huber"](error), rlax.huber_loss(error), rtol=1e-6)
    # Small errors are learned from alike, whichever it is.
    np.testing.assert_allclose(jax.vmap(jax.grad(td.TD_LOSSES["mse"]))(error), error, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(td.TD_LOSSES["huber"]))(error), jnp.clip(error, -1, 1), rtol=1e-6)


def test_n_step_equals_rlax_where_nothing_is_truncated():
    rng = np.random.default_rng(1)
    n, time, discount = 3, 12, 0.9
    r_t = jnp.asarray(rng.normal(size=time), jnp.float32)
    terminated = jnp.asarray(rng.random(time) < 0.25)
    v_t = jnp.asarray(rng.normal(size=time), jnp.float32)
    expected = rlax.n_step_bootstrapped_returns(r_t, jnp.where(terminated, 0.0, discount), v_t, n)
    windows = jnp.arange(time - n + 1)[:, None] + jnp.arange(n)[None]
    got = td.n_step_return(r_t[windows], terminated[windows], jnp.zeros(windows.shape, bool), discount)
    value = got.r_t + got.discount_t * v_t[windows[:, 0] + got.last]
    np.testing.assert_allclose(value, expected[: time - n + 1], rtol=1e-5, atol=1e-6)


def naive_n_step(r_t, terminated, truncated, discount):
    total, weight = 0.0, 1.0
    for last, reward in enumerate(r_t):
        total += weight * reward
        weight *= discount
        if terminated[last]:
            return total, 0.0, last
        if truncated[last]:
            break
    return total, weight, last


flags = st.lists(st.booleans(), min_size=4, max_size=4)


@given(
    rewards=st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4),
    terminated=flags,
    truncated=flags,
    discount=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_n_step_equals_a_loop(rewards, terminated, truncated, discount):
    got = td.n_step_return(jnp.array(rewards, jnp.float32), jnp.array(terminated), jnp.array(truncated), discount)
    np.testing.assert_allclose(
        tuple(map(float, got)), naive_n_step(rewards, terminated, truncated, discount), rtol=1e-5, atol=1e-5
    )


def test_shapes_must_agree():
    with pytest.raises(AssertionError):
        td.td_error(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), jnp.zeros(2))
