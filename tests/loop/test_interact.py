"""Who leaves makes room for somebody new, and nobody else is touched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.loop.interact import Interaction

USERS = 37


@pytest.fixture(scope="module")
def interaction():
    env = envs.synthetic(num_items=50, slate_size=3, history_length=4)
    return Interaction(env, agent=None, reward=None)


@pytest.fixture(scope="module")
def replaced(interaction):
    env = interaction.env

    @jax.jit
    def run(key, done):
        arrive_key, leave_key = jax.random.split(key)
        before = interaction.arrive(arrive_key, env.params, None, USERS)
        return before, interaction.replace(leave_key, before, done, env.params, None)

    return run


@pytest.mark.parametrize("leavers", [0, 1, 3, 4, 20, USERS])
def test_rows_of_leavers_and_no_others_hold_new_users(leavers, replaced, key):
    done = np.zeros(USERS, bool)
    done[np.random.default_rng(leavers).permutation(USERS)[:leavers]] = True
    before, after = replaced(key, done)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(np.asarray(old)[~done], np.asarray(new)[~done])
    tastes = np.asarray(after.state.vector)
    assert (tastes[done] != np.asarray(before.state.vector)[done]).any(axis=1).all()
    assert len(np.unique(tastes, axis=0)) == USERS


def test_seeds_side_by_side_are_those_one_by_one(replaced, key):
    keys, done = jax.random.split(key, 3), np.zeros((3, USERS), bool)
    done[0, :9], done[2] = True, True
    together = jax.jit(jax.vmap(replaced))(keys, done)[1]
    for seed in range(3):
        alone = replaced(keys[seed], done[seed])[1]
        jax.tree.map(lambda x, y, seed=seed: np.testing.assert_allclose(x[seed], y, atol=1e-6), together, alone)


def test_new_users_are_drawn_as_those_who_arrive(interaction):
    """The tastes of those who replace everybody are standard normal, as those of the first cohort."""
    env, count = interaction.env, 4000
    before = interaction.arrive(jax.random.key(0), env.params, None, count)
    after = jax.jit(
        lambda users: interaction.replace(jax.random.key(1), users, jnp.ones(count, bool), env.params, None)
    )(before)
    for users in (before, after):
        tastes = np.asarray(users.state.vector)
        assert abs(tastes.mean()) < 5 / np.sqrt(tastes.size)
        assert abs(tastes.std() - 1) < 5 / np.sqrt(2 * tastes.size)
    lengths = [(np.asarray(users.observation.history) >= 0).sum(1).mean() for users in (before, after)]
    assert abs(lengths[0] - lengths[1]) < 5 * np.sqrt(2 * 2 / count)
