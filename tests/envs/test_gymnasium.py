"""Every registered environment has spaces of Gymnasium, and traces behind it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from recjax import adapters


def test_what_is_seen_has_a_space(env):
    pytest.importorskip("gymnasium")
    users = adapters.gymnasium_vector_env(env, 2, reward=lambda response: jnp.zeros((2, 1)))
    seen = users.observation_space.sample()
    shapes = {name: (part.shape, part.dtype.name) for name, part in seen.items()}
    made = jax.tree.map(lambda x: (x.shape, x.dtype.name), dict(users._outside.seen))
    assert shapes == made
    assert {"history", "behaviour"} <= set(shapes)
    actions = users.single_action_space
    if env.spec.action_size:
        assert actions.shape == (env.spec.action_size,)
    elif env.spec.slate_size == 1:
        assert actions.n == (env.spec.num_candidates or env.spec.num_items)
    else:
        assert actions.nvec.tolist() == [env.spec.num_candidates or env.spec.num_items] * env.spec.slate_size
