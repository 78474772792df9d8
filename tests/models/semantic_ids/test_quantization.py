"""Residual codes, k-means and the RQ-VAE beside NumPy and scikit-learn."""

from __future__ import annotations

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.fit import Checkpoints, EarlyStopping, Hooks
from recjax.models.semantic_ids import (
    Autoencoder,
    RQVAEConfig,
    SemanticIds,
    codebook_use,
    fit_rq_vae,
    residual_kmeans,
)
from recjax.models.semantic_ids.kmeans import lloyd, plus_plus
from recjax.models.semantic_ids.quantize import nearest, residual_codes
from recjax.models.semantic_ids.rq_vae import _moved, rq_vae_loss, straight_through

N, D, K = 200, 5, 8


def vectors(seed=0, n=N, d=D):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)), jnp.float32)


def square_error(ids, data):
    return float(jnp.mean(jnp.sum((ids.reconstruct(ids.codes) - data) ** 2, axis=-1)))


@pytest.mark.parametrize("scores", [1, 3 * K, 2**21])
def test_nearest_is_that_of_a_loop_whatever_the_block(monkeypatch, scores):
    monkeypatch.setattr(
        importlib.import_module("recjax.models.semantic_ids.quantize"), "scores_at_once", lambda: scores
    )
    data, codebook = np.asarray(vectors()), np.asarray(vectors(1, K))
    wanted = [int(np.argmin([((v - c) ** 2).sum() for c in codebook.astype(np.float64)])) for v in data]
    assert nearest(jnp.asarray(data), jnp.asarray(codebook)).tolist() == wanted


def test_what_vectors_have_in_common_costs_no_digits():
    far = 3000 + np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    wanted = ((far[:, None] - far[None, :20]) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(nearest(jnp.asarray(far), jnp.asarray(far[:20])), wanted)


def test_equally_near_codes_give_the_lowest():
    assert nearest(jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).tolist() == [1]


def test_residual_codes_and_reconstruction_are_those_of_a_loop():
    codebooks = tuple(vectors(seed, size) for seed, size in ((1, 8), (2, 5), (3, 3)))
    data = vectors()
    ids = SemanticIds(codes=residual_codes(data, codebooks), codebooks=codebooks)
    for item, vector in enumerate(np.asarray(data)):
        residual, codes, total = vector.astype(np.float64), [], 0.0
        for codebook in np.asarray(codebooks[0]), np.asarray(codebooks[1]), np.asarray(codebooks[2]):
            code = int(np.argmin(((residual - codebook) ** 2).sum(-1)))
            codes.append(code)
            residual, total = residual - codebook[code], total + codebook[code]
        assert ids.codes[item].tolist() == codes
        np.testing.assert_allclose(ids.reconstruct(ids.codes[item : item + 1])[0], total, atol=1e-5)
    np.testing.assert_array_equal(ids.codes_of(data), ids.codes)
    assert ids.level_sizes == (8, 5, 3)


def numpy_lloyd(data, centroids, iterations):
    for _ in range(iterations):
        square = ((data[:, None] - centroids[None]) ** 2).sum(-1)
        codes = square.argmin(-1)
        centroids = np.stack([data[codes == k].mean(0) for k in range(len(centroids))])
    return centroids


def test_lloyd_is_that_of_numpy_and_of_scikit_learn():
    from sklearn.cluster import KMeans

    data = vectors()
    start = plus_plus(jax.random.key(3), data, K)
    np.testing.assert_allclose(lloyd(data, start, 4), numpy_lloyd(np.float64(data), np.float64(start), 4), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its thread pools
        theirs = KMeans(K, init=np.asarray(start), n_init=1, tol=0, algorithm="lloyd").fit(np.asarray(data))
    np.testing.assert_allclose(lloyd(data, start), theirs.cluster_centers_, atol=1e-4)


def test_a_centroid_without_vectors_starts_again_at_the_furthest():
    data = jnp.array([[0.0], [1.0], [10.0], [11.0], [50.0]])
    start = jnp.array([[0.0], [10.0], [-900.0]])
    np.testing.assert_allclose(jnp.sort(lloyd(data, start), axis=0), [[0.5], [10.5], [50.0]])


def test_starts_are_vectors_and_lie_apart():
    """Three far clumps: k-means++ takes one start of each, as draws alike would not."""
    clumps = jnp.repeat(jnp.array([[0.0, 0.0], [1e3, 0.0], [0.0, 1e3]]), jnp.array([96, 2, 2]), axis=0)
    data = clumps + 1e-3 * vectors(d=2)[:100]
    for seed in range(5):
        start = np.asarray(plus_plus(jax.random.key(seed), data, 3))
        assert {tuple(np.round(row, -2)) for row in start} == {(0, 0), (1000, 0), (0, 1000)}
        assert all((np.asarray(data) == row).all(-1).any() for row in start)


def test_fewer_kinds_of_vectors_than_codes():
    same = jnp.repeat(jnp.array([[1.0, 2.0], [3.0, 4.0]]), 5, axis=0)
    ids = residual_kmeans(same, levels=2, codebook_size=4, key=jax.random.key(0))
    np.testing.assert_allclose(ids.reconstruct(ids.codes), same, atol=1e-6)
    assert codebook_use(ids).colliding == 1.0


def test_every_level_lowers_the_error_and_the_key_decides():
    data = vectors()
    errors = [
        square_error(residual_kmeans(data, levels=levels, codebook_size=K, key=jax.random.key(0)), data)
        for levels in (1, 2, 3)
    ]
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]
    first, again, other = (
        residual_kmeans(data, levels=2, codebook_size=K, key=jax.random.key(seed)).codes for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()


def test_the_use_of_codes_by_hand():
    ids = SemanticIds(jnp.array([[0, 1], [0, 1], [1, 1], [2, 0]]), (jnp.zeros((4, 1)), jnp.zeros((2, 1))))
    use = codebook_use(ids)
    assert use.used == (0.75, 1.0)
    entropy = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(use.perplexity, np.exp(entropy))
    assert use.colliding == 0.5


def test_gradients_go_straight_through():
    """By hand: f(z) = sum(w q(z)²) has the derivative 2 w q at z, whatever q does."""
    weight, quantized = jnp.array([[1.0, 3.0]]), jnp.array([[2.0, -1.0]])
    value, grad = jax.value_and_grad(lambda z: jnp.sum(weight * straight_through(z, quantized) ** 2))(
        jnp.array([[1.7, -1.2]])
    )
    assert float(value) == pytest.approx(7.0)
    np.testing.assert_allclose(grad, [[4.0, -6.0]], rtol=1e-6)


SMALL = RQVAEConfig(levels=2, codebook_size=4, latent=3, hidden=(8,), epochs=4, batch_size=50)


def test_the_loss_by_hand():
    """The parts in NumPy; the gradient of what moves is the difference from the moving average."""
    autoencoder, data = Autoencoder(D, SMALL.latent, SMALL.hidden), vectors(n=40)
    variables = jax.jit(autoencoder.init)(jax.random.key(0), data)
    moving = {"total": 10.0 * vectors(5, 2 * 4, 3).reshape(2, 4, 3), "use": jnp.full((2, 4), 10.0)}
    params = {"autoencoder": variables, "moving": moving}
    loss_fn = rq_vae_loss(autoencoder, SMALL)
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, data, jax.random.key(1))
    residual = latent = np.asarray(autoencoder.apply(variables, data, method="encode"), np.float64)
    commitment, chosen_sum = 0.0, 0.0
    for level, codebook in enumerate(np.asarray(moving["total"]) / 10):
        codes = ((residual[:, None] - codebook[None]) ** 2).sum(-1).argmin(-1)
        counts = np.bincount(codes, minlength=4)
        assert (0.99 * 10 + 0.01 * counts > 1).all()  # none is dead
        np.testing.assert_allclose(grads["moving"]["use"][level], 0.01 * (10 - counts), atol=1e-4)
        sums = np.stack([residual[codes == k].sum(0) for k in range(4)])
        np.testing.assert_allclose(
            grads["moving"]["total"][level], 0.01 * (np.asarray(moving["total"][level]) - sums), atol=1e-4
        )
        commitment += ((residual - codebook[codes]) ** 2).sum(-1).mean()
        chosen_sum = chosen_sum + codebook[codes]
        residual = residual - codebook[codes]
    decoded = autoencoder.apply(variables, jnp.asarray(chosen_sum, jnp.float32), method="decode")
    reconstruction = ((np.asarray(data) - np.asarray(decoded)) ** 2).sum(-1).mean()
    assert float(metrics["commitment"]) == pytest.approx(commitment, rel=1e-4)
    assert float(metrics["reconstruction"]) == pytest.approx(reconstruction, rel=1e-4)
    assert float(loss) == pytest.approx(reconstruction + 0.25 * commitment, rel=1e-4)
    assert latent.shape == (40, 3)


def test_a_code_out_of_use_starts_again_at_a_vector_of_the_batch():
    now = {"total": jnp.full((4, 3), 5.0), "use": jnp.array([10.0, 10.0, 10.0, 1.0])}
    residual, codes = vectors(7, 40, 3), jnp.zeros(40, jnp.int32)
    after, is_dead = _moved(SMALL, now, residual, codes, jax.random.key(0))
    assert is_dead.tolist() == [False, False, False, True]  # below a tenth of 40 / 4
    np.testing.assert_allclose(after["use"], [0.99 * 10 + 0.01 * 40, 9.9, 9.9, 10.0], rtol=1e-6)
    fresh = np.asarray(after["total"][3] / after["use"][3])
    assert np.isclose(np.asarray(residual), fresh, atol=1e-6).all(-1).any()


def test_an_rq_vae_learns_and_goes_on_where_it_was_stopped(tmp_path):
    data = jnp.repeat(3 * vectors(8, 4), 25, axis=0) + 0.1 * vectors(9, 100)
    start = fit_rq_vae(data, RQVAEConfig(**vars(SMALL) | {"epochs": 1}), key=jax.random.key(0))
    config = RQVAEConfig(**vars(SMALL) | {"epochs": 30, "learning_rate": 1e-2})
    whole = fit_rq_vae(data, config, key=jax.random.key(0))
    assert square_error(whole, data) < 0.5 * square_error(start, data)
    assert whole.codes_of(data[:3]).tolist() == whole.codes[:3].tolist()

    def stop(epoch, params):
        if epoch == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_rq_vae(data, config, key=jax.random.key(0), hooks=Hooks(stop, checkpoints=Checkpoints(tmp_path)))
    resumed = fit_rq_vae(data, config, key=jax.random.key(0), hooks=Hooks(checkpoints=Checkpoints(tmp_path)))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_training_of_an_rq_vae_can_stop_early():
    epochs = []
    config = RQVAEConfig(**vars(SMALL) | {"epochs": 9})
    fit_rq_vae(
        vectors(n=50),
        config,
        key=jax.random.key(0),
        hooks=Hooks(
            lambda epoch, params: epochs.append(epoch) or {"worse": float(epoch)},
            EarlyStopping("worse", patience=2, maximise=False),
        ),
    )
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residual_kmeans(jnp.zeros(3), key=jax.random.key(0)), r"shape \[N, D\].*got \(3,\)"),
        (
            lambda: residual_kmeans(jnp.array([[0.0], [jnp.nan]]), codebook_size=2, key=jax.random.key(0)),
            "row 1 has NaN",
        ),
        (lambda: residual_kmeans(vectors(), levels=0, key=jax.random.key(0)), "levels is 0; it must be at least 1"),
        (
            lambda: residual_kmeans(vectors(), codebook_size=201, key=jax.random.key(0)),
            "codebook_size is 201; it must lie in 2 .. 200",
        ),
        (
            lambda: residual_kmeans(vectors(), codebook_size=4, iterations=0, key=jax.random.key(0)),
            "iterations is 0; it must be at least 1",
        ),
        (
            lambda: fit_rq_vae(vectors(), RQVAEConfig(codebook_size=32, batch_size=16), key=jax.random.key(0)),
            "codebook_size is 32; it must lie in 2 .. 16",
        ),
        (lambda: RQVAEConfig(latent=0), "latent is 0; it must be at least 1"),
        (lambda: RQVAEConfig(decay=1.0), r"decay is 1.0; it must lie in \(0, 1\)"),
        (lambda: RQVAEConfig(commitment=-1.0), "commitment is -1.0; it must be at least 0"),
        (
            lambda: SemanticIds(jnp.zeros((1, 1), int), (jnp.zeros((2, 3)),)).codes_of(jnp.zeros((1, 2))),
            "The vectors have 2 numbers, but these ids were made of 3",
        ),
    ],
)
def test_bad_values_are_shown_with_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
