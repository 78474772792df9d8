"""Who leaves makes room for somebody new, and nobody else is touched."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, envs, nn
from recjax.loop import interact
from recjax.loop.interact import Interaction
from recjax.rewards import click

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


@pytest.mark.parametrize("at_once", [10, 37, 1000])
def test_blocks_of_users_do_what_all_do_at_once(at_once, key, monkeypatch):
    """Greedy slates are the same, every user answers once, and no two blocks meet the same chance."""
    env = envs.synthetic(num_items=50, slate_size=3, history_length=4)
    agent = agents.dqn(nn.DotProductQ.of(num_items=50, dim=4), optax.sgd(1e-2))
    interaction, state = Interaction(env, agent, click), agent.init(key, env.spec, env.items)
    step = lambda users: interaction.step(key, users, state, env.params, None, explore=False)  # noqa: E731
    users = interaction.arrive(key, env.params, None, USERS)
    _, whole = step(users)
    monkeypatch.setattr(interact, "USERS_AT_ONCE", at_once)
    _, steps = step(users)
    np.testing.assert_array_equal(steps.slate, whole.slate)
    np.testing.assert_array_equal(steps.response["click"], whole.response["click"])
    np.testing.assert_array_equal(steps.observation.history, users.observation.history)
    clicked = np.asarray(steps.response["click"]).any(axis=1)
    moved = (np.asarray(steps.next_observation.history) != np.asarray(users.observation.history)).any(axis=1)
    assert (moved <= clicked).all()
    assert moved.any()
    arrived = interaction.arrive(key, env.params, None, USERS)
    tastes = np.asarray(arrived.state.vector)
    assert len(np.unique(tastes, axis=0)) == USERS
    np.testing.assert_array_equal(tastes == np.asarray(users.state.vector), at_once >= USERS)


@pytest.mark.parametrize("seeds", [1, 2])
def test_those_who_stay_are_served_as_if_all_were(seeds, key):
    """Who has left stays as it was and has an empty step, whatever the number of blocks in which somebody stays."""
    env, count = envs.synthetic(num_items=50, slate_size=3, history_length=4), 150
    interaction = Interaction(env, agents.popularity(), click)
    state = interaction.agent.init(key, env.spec, env.items)

    def both(key, staying):
        keys, users = jax.random.split(key), interaction.arrive(key, env.params, None, count)
        serve = lambda **options: interaction.serve(keys, users, state, env.params, None, explore=False, **options)  # noqa: E731
        return users, serve(), serve(staying=staying)

    run = jax.jit(jax.vmap(both))
    for share in (0.0, 0.2, 1.0):
        staying = np.random.default_rng(7).random((seeds, count)) < share
        users, everybody, some = run(jax.random.split(key, seeds), staying)
        for left, old, new in zip(*map(jax.tree.leaves, (users, everybody[0], some[0])), strict=True):
            np.testing.assert_allclose(np.asarray(new)[staying], np.asarray(old)[staying], atol=1e-6)
            np.testing.assert_array_equal(np.asarray(new)[~staying], np.asarray(left)[~staying])
        for name in ("slate", "reward", "terminated"):
            old, new = (np.asarray(getattr(step, name)) for step in (everybody[1], some[1]))
            np.testing.assert_array_equal(new[staying], old[staying])
            assert not new[~staying].any()


def test_answers_in_blocks_have_the_same_distribution(key, monkeypatch):
    """Clicks of users who are shown the same are as likely in every block; 5 standard errors."""
    env, count = envs.synthetic(num_items=50, slate_size=3, history_length=4), 6000
    interaction, clicks = Interaction(env, agents.random(), click), []
    state = interaction.agent.init(key, env.spec, env.items)
    for at_once in (count, 1700):
        monkeypatch.setattr(interact, "USERS_AT_ONCE", at_once)
        users = interaction.arrive(key, env.params, None, count)
        _, step = interaction.step(key, users, state, env.params, None, explore=True)
        clicks.append(np.asarray(step.response["click"]).any(axis=1))
    rates = [each.mean() for each in clicks]
    error = np.sqrt(sum(rate * (1 - rate) for rate in rates) / count)
    assert abs(rates[0] - rates[1]) < 5 * error
    of_blocks = clicks[1][:6000].reshape(4, 1500).mean(axis=1)
    assert (abs(of_blocks - rates[1]) < 5 * np.sqrt(rates[1] * (1 - rates[1]) / 1500)).all()
    assert len({tuple(row) for row in clicks[1].reshape(4, 1500)}) == 4


def test_memory_between_the_parts_of_a_step_does_not_grow_with_users(monkeypatch):
    monkeypatch.setattr(interact, "USERS_AT_ONCE", 512)
    env = envs.synthetic(num_items=50, slate_size=3, history_length=20)
    agent = agents.dqn(nn.DotProductQ.of(num_items=50, dim=32), optax.sgd(1e-2))
    interaction = Interaction(env, agent, click)

    def run(key, users, state):
        return interaction.step(key, users, state, env.params, None, explore=True)[0]

    def temporary(count):
        shapes = jax.eval_shape(
            lambda key: (key, interaction.arrive(key, env.params, None, count), agent.init(key, env.spec, env.items)),
            jax.random.key(0),
        )
        compiled = jax.jit(run, donate_argnums=1).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    of_user = sum(leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(jax.eval_shape(
        lambda: interaction.arrive(jax.random.key(0), env.params, None, 1))))  # fmt: skip
    # Two copies of the users and a step; the history's vectors alone would be 4 * 20 * 32 bytes a user more.
    assert (temporary(16_384) - temporary(4096)) / (16_384 - 4096) < 2 * of_user + 200 < 4 * 20 * 32
