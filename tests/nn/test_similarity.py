from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from recjax.nn import Similarity, cosine_similarity, normalize


def _pairs(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(6, 5)) * scale, dtype) for scale in (1e3, 1e-4))


def test_cosine_similarity_equals_sklearn():
    x, y = _pairs()
    expected = sklearn_cosine(np.asarray(x, np.float64), np.asarray(y, np.float64))
    np.testing.assert_allclose(cosine_similarity(x, y), np.diag(expected), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(normalize(x) @ normalize(y).T, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalize(x.T, axis=0), normalize(x).T, rtol=1e-6)


def test_similarity_module_divides_by_its_temperature(key):
    x, y = _pairs()
    expected = sklearn_cosine(np.asarray(x, np.float64), np.asarray(y, np.float64)) / 0.25
    fixed, learned = Similarity(0.25), Similarity(0.25, learned=True)
    np.testing.assert_allclose(fixed.apply({}, x, y), expected, rtol=1e-5, atol=1e-6)
    params = jax.jit(learned.init)(key, x, y)
    np.testing.assert_allclose(learned.apply(params, x, y), expected, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda params: learned.apply(params, x, y).sum())(params)
    np.testing.assert_allclose(gradient["params"]["log_scale"], expected.sum(), rtol=1e-4)


def test_similarity_refuses_a_temperature_of_zero(key):
    with pytest.raises(ValueError, match="temperature is 0"):
        Similarity(0.0).init(key, jnp.ones((1, 2)), jnp.ones((1, 2)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_zero_vectors_give_zero_and_no_gradient(dtype):
    x = jnp.zeros((2, 4), dtype).at[1].set(2.0)
    y = jnp.ones((2, 4), dtype)
    similarity, gradients = jax.value_and_grad(lambda x, y: cosine_similarity(x, y).sum(), argnums=(0, 1))(x, y)
    assert similarity == 1.0
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)
    assert not gradients[0][0].any()
    assert normalize(x).dtype == dtype


def test_norms_of_bfloat16_are_computed_in_float32():
    # 4096 ones: a bfloat16 sum stops growing at 256, because 256 + 1 rounds to 256.
    assert cosine_similarity(jnp.ones(4096, jnp.bfloat16), jnp.ones(4096, jnp.bfloat16)) == 1.0
    x, y = _pairs(jnp.bfloat16)
    expected = np.diag(sklearn_cosine(np.asarray(x, np.float64), np.asarray(y, np.float64)))
    assert cosine_similarity(x, y).dtype == jnp.float32
    np.testing.assert_allclose(cosine_similarity(x, y), expected, rtol=1e-5, atol=1e-6)
    # The square of 300 overflows float16.
    assert normalize(jnp.full((4,), 300.0, jnp.float16)).tolist() == [0.5] * 4


def test_gradient_of_normalize_is_the_projection():
    x = jnp.array([3.0, 4.0])
    expected = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 5
    np.testing.assert_allclose(jax.jacobian(normalize)(x), expected, rtol=1e-6)
