"""Masked means against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses import masked_mean


def test_it_is_the_mean_of_what_the_mask_leaves():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(5, 7)).astype(np.float32), rng.random((5, 7)) < 0.4
    np.testing.assert_allclose(masked_mean(jnp.asarray(values), jnp.asarray(mask)), values[mask].mean(), rtol=1e-6)


def test_values_outside_the_mask_may_be_anything():
    values, mask = jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), jnp.array([True, False, True, False])
    value, gradient = jax.value_and_grad(masked_mean)(values, mask)
    assert value == 2
    assert gradient.tolist() == [0.5, 0, 0.5, 0]
    assert jnp.isnan(masked_mean(values, mask.at[1].set(True)))


def test_nothing_is_zero_with_a_zero_gradient():
    value, gradient = jax.value_and_grad(masked_mean)(jnp.array([1.0, jnp.nan]), jnp.zeros(2, bool))
    assert value == 0
    assert gradient.tolist() == [0, 0]


def test_wrong_masks_are_named():
    with pytest.raises(ValueError, match=r"mask must be bool\(3,\), one a value; got float32\(3,\)"):
        masked_mean(jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match=r"got bool\(2,\)"):
        masked_mean(jnp.ones(3), jnp.ones(2, bool))
