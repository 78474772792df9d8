"""Whitening against its definition and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from recjax import language


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)


@pytest.mark.parametrize("dim", [None, 3, 1])
def test_it_is_principal_components_of_one_size(vectors, dim):
    found = language.fit_whitening(vectors, dim)(vectors)
    expected = PCA(dim, whiten=True).fit_transform(vectors) / np.sqrt(found.shape[1])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    assert np.mean((found**2).sum(1)) == pytest.approx(1, rel=0.01)


def test_directions_in_which_vectors_do_not_differ_are_left_out(vectors):
    flat = np.concatenate([vectors, vectors[:, :2], np.ones((300, 1))], axis=1)
    white = language.fit_whitening(flat)
    assert white.kernel.shape == (9, 6)
    assert np.isfinite(white(flat)).all()
    # New items go through the same map.
    np.testing.assert_allclose(white(flat[:1]), white(flat)[:1], atol=1e-6)


def test_bad_input_is_named(vectors):
    with pytest.raises(ValueError, match="dim is 7; 300 vectors that differ in 6 directions allow 1 to 6"):
        language.fit_whitening(vectors, 7)
    with pytest.raises(ValueError, match="dim is 1; 4 vectors that differ in 0 directions"):
        language.fit_whitening(np.ones((4, 3)), 1)
    with pytest.raises(ValueError, match="50 vectors that differ in 0 directions"):
        language.fit_whitening(np.full((50, 3), 0.1, np.float32))
    vectors[5, 2] = np.nan
    with pytest.raises(ValueError, match="Vector 5 is not finite"):
        language.fit_whitening(vectors)
