"""What every registered environment owes to the loop."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.envs import Environment, environments
from recjax.types import Items, Observation, Response

USERS, STEPS = 16, 6
SMALL = {
    "synthetic": {"num_items": 30, "slate_size": 4, "history_length": 5},
    "logged": {"slate_size": 3, "history_length": 4},
}


def rollout(env: Environment, key: jax.Array, params, users: int = USERS, steps: int = STEPS):
    """Random slates without resets; everything stacked over ``[steps, users]``."""
    reset = jax.vmap(env.reset, in_axes=(0, None, None))
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))

    def body(carry, key):
        observation, state = carry
        slate_key, step_key = jax.random.split(key)
        slate_keys = jax.random.split(slate_key, users)
        slate = jax.vmap(lambda k: jax.random.permutation(k, env.spec.num_items)[: env.spec.slate_size])(slate_keys)
        after, state, *answer = step(jax.random.split(step_key, users), state, slate, params, None)
        return (after, state), (observation, slate, after, *answer)

    reset_key, scan_key = jax.random.split(key)
    start = reset(jax.random.split(reset_key, users), params, None)
    return start, jax.lax.scan(body, start, jax.random.split(scan_key, steps))[1]


class Played(NamedTuple):
    env: Environment
    first: tuple
    again: tuple
    other: tuple
    traces: int


@pytest.fixture(params=list(environments), scope="module")
def played(request, dataset) -> Played:
    args = (dataset,) if request.param == "logged" else ()
    env = environments.make(request.param, *args, **SMALL.get(request.param, {}))
    traces = []

    @jax.jit
    def run(key, params):
        traces.append(None)
        return rollout(env, key, params)

    keys = (0, 0, 1)
    return Played(env, *(run(jax.random.key(key), env.params) for key in keys), len(traces))


def test_shapes_and_ranges(played):
    env = played.env
    (observation, _), (_, _, after, response, terminated, truncated, info) = played.first
    spec = env.spec
    empty = spec.empty_observation((USERS,))
    chex.assert_trees_all_equal_shapes_and_dtypes(observation, empty)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, spec.empty_observation((STEPS, USERS)))
    assert isinstance(env.items, Items)
    assert env.items.num_items == spec.num_items

    assert isinstance(response, Response)
    assert list(response) == sorted(signal.name for signal in spec.signals)
    for field in response.values():
        chex.assert_shape(field, (STEPS, USERS, spec.slate_size))
        assert field.dtype == jnp.float32
        assert ((field >= 0) & (field <= 1)).all()
        assert (field[response["click"] == 0] == 0).all()
    assert set(np.unique(response["click"])) <= {0.0, 1.0}
    assert (response["click"].sum(-1) <= 1).all()
    assert response["click"].sum() > 0

    for flag in (terminated, truncated):
        chex.assert_shape(flag, (STEPS, USERS))
        assert flag.dtype == bool
    assert not (terminated & truncated).any()
    for value in info.values():
        chex.assert_shape(value, (STEPS, USERS))
        chex.assert_tree_all_finite(value)

    assert ((after.history >= -1) & (after.history < spec.num_items)).all()
    np.testing.assert_array_equal(after.history == -1, after.behaviour == -1)


def test_hidden_state_does_not_leak(played):
    """Observations have the fields that a platform logs, and no others."""
    (observation, _), (_, _, after, *_) = played.first
    for seen in (observation, after):
        assert type(seen) is Observation
        assert len(jax.tree.leaves(seen)) == 2 + (played.env.spec.context_size > 0)


def test_same_key_same_result_and_no_recompilation(played):
    chex.assert_trees_all_equal(played.first, played.again)
    chex.assert_trees_all_equal_shapes_and_dtypes(played.first, played.other)
    assert played.traces == 1


def test_batch_equals_one_user_at_a_time(played, key):
    env = played.env
    keys = jax.random.split(key, 3)
    slate = jnp.arange(env.spec.slate_size)

    def visit(key, params):
        observation, state = env.reset(key, params, None)
        return observation, env.step(key, state, slate, params, None)

    batched = jax.jit(jax.vmap(visit, in_axes=(0, None)))(keys, env.params)
    alone = jax.jit(visit)
    for row in range(3):
        expected = jax.tree.map(lambda leaf, row=row: leaf[row], batched)
        chex.assert_trees_all_close(alone(keys[row], env.params), expected, rtol=1e-5, atol=1e-6)
