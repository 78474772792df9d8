"""Advantages and losses of policy gradients against rlax, loops in NumPy, and derivatives."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import losses

rlax = pytest.importorskip("rlax")

RNG = np.random.default_rng(0)
ROWS, TIME = 6, 9


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def test_advantages_equal_rlax_where_nothing_is_truncated():
    r_t, values = normal(ROWS, TIME), normal(ROWS, TIME + 1)
    discount_t = jnp.asarray(RNG.choice([0.0, 0.9], (ROWS, TIME)), jnp.float32)
    expected = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(0, 0, None, 0))(
        r_t, discount_t, 0.7, values
    )
    found = losses.generalized_advantages(r_t, discount_t, 0.7, values[:, :-1], values[:, 1:])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_truncated_step_keeps_episodes_apart():
    """Two episodes in one window have the advantages that each has alone."""
    r_t, v_tm1, v_t = normal(5), normal(5), normal(5)
    goes_on = jnp.array([1.0, 0.0, 1.0, 1.0, 1.0])
    discount_t = jnp.full(5, 0.9)
    together = losses.generalized_advantages(r_t, discount_t, 0.8 * goes_on, v_tm1, v_t)
    parts = [
        losses.generalized_advantages(*(x[part] for x in (r_t, discount_t)), 0.8, v_tm1[part], v_t[part])
        for part in (slice(0, 2), slice(2, 5))
    ]
    np.testing.assert_allclose(together, jnp.concatenate(parts), rtol=1e-6)


def test_the_surrogate_and_its_gradient_equal_rlax():
    log_ratio, advantage = 0.5 * normal(64), normal(64)
    ours = lambda x: losses.clipped_surrogate(x, advantage, 0.2).mean()  # noqa: E731
    theirs = lambda x: rlax.clipped_surrogate_pg_loss(jnp.exp(x), advantage, 0.2)  # noqa: E731
    (value, gradient), (expected, slope) = jax.value_and_grad(ours)(log_ratio), jax.value_and_grad(theirs)(log_ratio)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-8)
    assert 0 < (np.asarray(gradient) == 0).mean() < 1, "some are clipped, and some are not"


def test_the_policy_gradient_and_its_gradient_equal_rlax():
    logits, a_t, advantage = normal(ROWS, 4), jnp.asarray(RNG.integers(0, 4, ROWS)), normal(ROWS)

    def ours(logits):
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), a_t[:, None], axis=1)[:, 0]
        return losses.policy_gradient_loss(log_prob, advantage).mean()

    theirs = lambda logits: rlax.policy_gradient_loss(logits, a_t, advantage, jnp.ones(ROWS))  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        expected = jax.grad(theirs)(logits)
    np.testing.assert_allclose(jax.grad(ours)(logits), expected, rtol=1e-5, atol=1e-7)


def test_leave_one_out_is_a_loop_over_the_others():
    returns, mask = np.asarray(normal(ROWS, 3)), RNG.random((ROWS, 3)) < 0.7
    mask[:, 2] = np.arange(ROWS) == 4
    found = losses.leave_one_out(jnp.asarray(returns), jnp.asarray(mask))
    for row, column in zip(*np.nonzero(mask), strict=True):
        others = [returns[i, column] for i in range(ROWS) if i != row and mask[i, column]]
        expected = returns[row, column] - (np.mean(others) if others else 0.0)
        np.testing.assert_allclose(found[row, column], expected, rtol=1e-5, atol=1e-6)


def test_normalized_has_the_moments_of_what_counts():
    advantage, mask = normal(50).at[3].set(1e6), jnp.ones(50, bool).at[3].set(False)
    found = np.asarray(losses.normalized(advantage, mask))[np.asarray(mask)]
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-5)
    assert np.isfinite(losses.normalized(jnp.ones(4), jnp.ones(4, bool))).all(), "all alike"


@pytest.mark.parametrize("k", [1, 4])
def test_the_correction_is_the_derivative_of_being_among_k_draws(k):
    share = jnp.array([0.01, 0.3, 0.9])
    expected = jax.vmap(jax.grad(lambda p: 1 - (1 - p) ** k))(share)
    np.testing.assert_allclose(losses.top_k_correction(jnp.log(share), k), expected, rtol=1e-5)


def test_weights_are_capped_and_constant():
    log_prob, behaviour = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.01]))
    np.testing.assert_allclose(losses.importance_weight(log_prob, behaviour, 10.0), [2, 10], rtol=1e-6)
    weighed = lambda x: losses.importance_weight(x, behaviour, 10.0).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(weighed)(log_prob), [0, 0])
