"""The loss of attributes against float64 NumPy and PyTorch, and gaps against their probabilities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.models.sequence.cloze import masked_positions
from recjax.models.sequence.contrastive import attribute_loss
from recjax.types import PAD_ID


def test_gaps_have_their_probabilities():
    rows, length, share, last = 20_000, 4, 0.3, 0.25
    history = jnp.tile(jnp.array([[PAD_ID, PAD_ID, 5, 5, 7, 9]]), (rows, 1))
    gaps = np.asarray(masked_positions(jax.random.key(0), history, share, last_only_share=last))
    assert gaps.dtype == bool
    assert not gaps[:, :2].any()
    expected = np.full(length, (1 - last) * (share + (1 - share) ** length / length))
    expected[-1] += last
    np.testing.assert_allclose(gaps[:, 2:].mean(0), expected, atol=5 * math.sqrt(0.25 / rows))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 6), min_size=5, max_size=5), st.sampled_from([0.0, 0.3, 1.0]))
def test_gaps_are_events_and_there_is_one(seed, lengths, share):
    history = jnp.array([[PAD_ID] * (6 - n) + list(range(n)) for n in lengths])
    key = jax.random.key(seed)
    gaps = np.asarray(masked_positions(key, history, share))
    present = np.asarray(history != PAD_ID)
    assert not (gaps & ~present).any()
    np.testing.assert_array_equal(gaps.any(-1), present.any(-1))
    only = np.asarray(masked_positions(key, history, share, last_only_share=1.0))
    np.testing.assert_array_equal(only, present & (np.arange(6) == 5))


def numpy_attribute_loss(hidden, vectors, attributes, valid):
    logits = hidden @ vectors.T
    each = np.logaddexp(0, logits) - attributes * logits
    return each.sum(-1)[valid].mean() if valid.any() else 0.0


def attribute_case():
    rng = np.random.default_rng(2)
    hidden, vectors = rng.normal(size=(3, 4, 5)), 3 * rng.normal(size=(6, 5))
    return hidden, vectors, rng.random((3, 4, 6)) < 0.4, rng.random((3, 4)) < 0.6


@pytest.mark.parametrize("dtype", [bool, jnp.int32, jnp.float32])
def test_attribute_loss_is_the_formula(dtype):
    hidden, vectors, attributes, valid = attribute_case()
    arguments = jnp.float32(hidden), jnp.float32(vectors), jnp.asarray(attributes, dtype)
    everywhere = np.ones_like(valid)
    for counts in (valid, everywhere, ~everywhere):
        loss = jax.jit(attribute_loss)(*arguments, jnp.asarray(counts))
        assert loss.shape == ()
        np.testing.assert_allclose(loss, numpy_attribute_loss(hidden, vectors, attributes, counts), rtol=1e-5)
    np.testing.assert_allclose(attribute_loss(*arguments), attribute_loss(*arguments, jnp.asarray(everywhere)))
    one = attribute_loss(arguments[0][0, 0], arguments[1], arguments[2][0, 0])  # no leading axes
    expected = numpy_attribute_loss(hidden[0, :1], vectors, attributes[0, :1], np.ones(1, bool))
    np.testing.assert_allclose(one, expected, rtol=1e-5)


def test_attribute_loss_and_gradient_are_those_of_torch():
    torch = pytest.importorskip("torch")
    hidden, vectors, attributes, valid = attribute_case()
    h, e = (torch.tensor(x, requires_grad=True) for x in (hidden, vectors))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        h @ e.T, torch.tensor(attributes).double(), reduction="none"
    )
    loss = each.sum(-1)[torch.tensor(valid)].mean()
    loss.backward()
    ours, (d_h, d_e) = jax.value_and_grad(attribute_loss, argnums=(0, 1))(
        jnp.float32(hidden), jnp.float32(vectors), jnp.asarray(attributes), jnp.asarray(valid)
    )
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(d_h, h.grad.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d_e, e.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_positions_that_do_not_count_may_hold_anything():
    hidden, vectors, attributes, valid = attribute_case()
    poisoned = jnp.where(valid[..., None], jnp.float32(hidden), jnp.nan)
    poisoned_attributes = jnp.where(valid[..., None], jnp.float32(attributes), jnp.inf)
    loss, gradients = jax.value_and_grad(attribute_loss, argnums=(0, 1))(
        poisoned, jnp.float32(vectors), poisoned_attributes, jnp.asarray(valid)
    )
    np.testing.assert_allclose(loss, numpy_attribute_loss(hidden, vectors, attributes, valid), rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not np.asarray(gradients[0])[~valid].any()


def test_attribute_loss_is_finite_at_huge_logits():
    loss = attribute_loss(jnp.array([[200.0]]), jnp.array([[1.0], [-1.0]]), jnp.array([[0, 1]]))
    assert loss == 400


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: attribute_loss(x, x[:, 1:], x), r"attribute_vectors \[A, D\]; got \(3, 4\) and \(3, 3\)"),
        (lambda x: attribute_loss(x, x, x), r"attributes must have shape \(3, 3\); got \(3, 4\)"),
        (lambda x: attribute_loss(x, x, x @ x.T, x > 0), r"valid must have shape \(3,\)"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((3, 4)))
