"""The cart and pole against Gymnasium's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.testing import cart_pole, check_environment
from recjax.testing.cart_pole import State


def test_contract():
    check_environment(cart_pole(max_steps=4))


def test_every_step_is_gymnasiums():
    """From motions all over the track, beyond its limits too."""
    gymnasium = pytest.importorskip("gymnasium")
    theirs, rng = gymnasium.make("CartPole-v1").unwrapped, np.random.default_rng(0)
    theirs.reset(seed=0)
    env, count = cart_pole(), 200
    motions = rng.uniform(-1, 1, (count, 4)) * [2.6, 3.0, 0.25, 3.0]
    actions = rng.integers(2, size=count)
    state = State(jnp.asarray(motions, jnp.float32), jnp.zeros(count, jnp.int32))
    step = jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0, None, None)))
    after = step(jax.random.key(0), state, jnp.asarray(actions[:, None]), env.params, None)
    fell = 0
    for row in range(count):
        theirs.state, theirs.steps_beyond_terminated = motions[row], None
        seen, reward, terminated, _, _ = theirs.step(actions[row])
        np.testing.assert_allclose(after.observation.context[row], seen, rtol=1e-5, atol=1e-5)
        assert bool(after.terminated[row]) == terminated
        assert after.response["reward"][row, 0] == reward
        fell += terminated
    assert 20 < fell < 180


def test_episodes_begin_near_the_middle_and_are_cut_off():
    env = cart_pole(max_steps=3)
    observation, state = jax.vmap(env.reset, in_axes=(0, None, None))(
        jax.random.split(jax.random.key(0), 500), env.params, None
    )
    low, high = observation.context.min(0), observation.context.max(0)
    np.testing.assert_allclose(jnp.stack([low, high]), [[-0.05] * 4, [0.05] * 4], atol=0.002)
    state, cut = jax.tree.map(lambda x: x[0], state), []
    for push in (0, 1, 0):
        after = env.step(jax.random.key(0), state, jnp.array([push]), env.params, None)
        state, cut = after.state, [*cut, (bool(after.terminated), bool(after.truncated))]
    assert cut == [(False, False), (False, False), (False, True)]


def test_bad_input():
    with pytest.raises(ValueError, match="max_steps is 0"):
        cart_pole(max_steps=0)
