"""What every registered environment owes to the loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.envs import environments
from recjax.testing import check_environment


def test_every_registered_environment_is_here(names):
    assert names == {name for name in environments if not name.startswith("probe_")}


def test_contract(env):
    check_environment(env)


def test_step_is_compiled_once(env):
    traces = []
    size = env.spec.action_size or env.spec.slate_size
    slate = jnp.zeros(size) if env.spec.action_size else jnp.arange(size)

    @jax.jit
    def visit(key, params):
        traces.append(None)
        world = env.world(key)
        _, state = env.reset(key, params, world)
        return env.step(key, state, slate, params, world)

    for seed in range(2):
        visit(jax.random.key(seed), env.params)
    assert len(traces) == 1
