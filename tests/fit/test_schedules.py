"""Schedules against the lines they draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.fit import learning_rates, linear_decay


def test_linear_decay_is_numpy_interp():
    steps = np.arange(20)
    expected = np.interp(steps, [0, 8], [0.9, 0.1])
    got = jax.vmap(linear_decay(0.9, 0.1, 8))(jnp.arange(20))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_linear_decay_takes_traced_endpoints_mapped_over_seeds():
    starts, ends, lengths = jnp.array([1.0, 0.5]), jnp.array([0.0, 0.1]), jnp.array([10, 0])
    epsilon = jax.jit(jax.vmap(lambda start, end, steps, step: linear_decay(start, end, steps)(step), (0, 0, 0, None)))
    np.testing.assert_allclose(epsilon(starts, ends, lengths, jnp.int32(5)), [0.5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(epsilon(starts, ends, lengths, jnp.int32(0)), [1.0, 0.1], rtol=1e-6)


@pytest.mark.parametrize("name", list(learning_rates))
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates_rise_to_the_peak_and_end_where_they_say(name, warmup):
    schedule = learning_rates.make(name, 0.1, 20, warmup)
    values = np.array([float(schedule(step)) for step in range(21)])
    rise = np.arange(warmup) / max(warmup, 1) * 0.1
    left = (20 - np.arange(warmup, 21)) / (20 - warmup)
    fall = {"constant": np.ones_like(left), "linear": left, "cosine": (1 + np.cos(np.pi * (1 - left))) / 2}[name]
    np.testing.assert_allclose(values, np.concatenate([rise, 0.1 * fall]), atol=1e-7)


@pytest.mark.parametrize("name", list(learning_rates))
def test_a_warm_up_as_long_as_training_is_refused(name):
    with pytest.raises(ValueError, match=r"warmup_steps=5 must lie in \[0, steps\) with steps=5"):
        learning_rates.make(name, 0.1, 5, 5)
