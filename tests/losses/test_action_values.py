"""TD errors and λ-returns under the field's names, against rlax; what rlax has not, against float64 NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import losses

rlax = pytest.importorskip("rlax")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    value = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    action = lambda: jnp.asarray(rng.integers(0, 5, 16), jnp.int32)  # noqa: E731
    return {
        "q_tm1": value(16, 5),
        "a_tm1": action(),
        "r_t": value(16),
        "discount_t": jnp.asarray(rng.choice([0.0, 0.9], 16), jnp.float32),
        "q_t": value(16, 5),
        "a_t": action(),
        "other": value(16, 5),
        "probs": jax.nn.softmax(value(16, 5)),
    }


ERRORS = {
    "q_learning": ("q_t",),
    "double_q_learning": ("q_t", "other"),
    "sarsa": ("q_t", "a_t"),
    "expected_sarsa": ("q_t", "probs"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_and_gradients_equal_rlax(name, batch):
    arguments = [batch[x] for x in ("q_tm1", "a_tm1", "r_t", "discount_t", *ERRORS[name])]
    check(getattr(losses, name), jax.vmap(getattr(rlax, name)), arguments)


def test_persistent_q_learning_equals_rlax(batch):
    arguments = [batch[x] for x in ("q_tm1", "a_tm1", "r_t", "discount_t", "q_t")]
    check(
        lambda *x: losses.persistent_q_learning(*x, 0.3),
        jax.vmap(lambda *x: rlax.persistent_q_learning(*x, 0.3)),
        arguments,
    )


def check(ours, theirs, arguments):
    """Errors, and gradients by all values, of which those of the targets are 0."""
    np.testing.assert_allclose(ours(*arguments), theirs(*arguments), rtol=1e-5, atol=1e-6)
    by = [i for i, x in enumerate(arguments) if x.dtype == jnp.float32]
    found, wanted = (jax.grad(lambda *x, f=f: jnp.sum(f(*x) ** 2), argnums=by)(*arguments) for f in (ours, theirs))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_munchausen_q_learning_is_its_definition(batch):
    numbers = {name: np.asarray(x, np.float64 if x.dtype == jnp.float32 else int) for name, x in batch.items()}
    tau, scale, floor, rows = 0.5, 0.8, -0.7, np.arange(16)
    policy = np.exp(numbers["other"] / tau) / np.exp(numbers["other"] / tau).sum(-1, keepdims=True)
    bonus = scale * np.clip(tau * np.log(policy[rows, numbers["a_tm1"]]), floor, 0)
    next_policy = np.exp(numbers["q_t"] / tau) / np.exp(numbers["q_t"] / tau).sum(-1, keepdims=True)
    v_t = (next_policy * (numbers["q_t"] - tau * np.log(next_policy))).sum(-1)
    expected = numbers["r_t"] + bonus + numbers["discount_t"] * v_t - numbers["q_tm1"][rows, numbers["a_tm1"]]
    found = losses.munchausen_q_learning(
        *(batch[x] for x in ("q_tm1", "a_tm1", "r_t", "discount_t", "q_t", "other")),
        temperature=tau, scale=scale, floor=floor,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (bonus == scale * floor).any()
    assert (bonus > scale * floor).any()


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_lambda_returns_equal_rlax(lambda_):
    rng = np.random.default_rng(1)
    r_t, v_t = (jnp.asarray(rng.normal(size=(3, 6)), jnp.float32) for _ in range(2))
    discount_t = jnp.asarray(rng.choice([0.0, 0.9], (3, 6)), jnp.float32)
    expected = jax.vmap(lambda *x: rlax.lambda_returns(*x, lambda_))(r_t, discount_t, v_t)
    np.testing.assert_allclose(losses.lambda_returns(r_t, discount_t, v_t, lambda_), expected, rtol=1e-5, atol=1e-6)
