"""Our agents on environments of Gymnasium: what a step is, how often is learned, and that it is learned."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recjax import adapters, agents
from recjax.agents import Action, Agent, Update
from recjax.envs import environments
from recjax.nn import DenseNetwork
from recjax.replay import Batch, Buffer, Memory
from recjax.testing import q_values


def cart_poles(count: int, **options) -> gymnasium.vector.VectorEnv:
    arranged = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "SameStep"}}
    return gymnasium.make_vec("CartPole-v1", count, **arranged, **options)


def shown(*numbers: int) -> Action:
    return Action(np.array(numbers)[:, None], np.zeros(len(numbers), np.float32))


def test_steps_are_those_of_the_sub_environments():
    """Beside two single environments, of which one falls and one is cut off after 12 steps."""
    users, alone = adapters.GymnasiumUsers(cart_poles(2, max_episode_steps=12)), [cart_pole() for _ in range(2)]
    seen = users.reset(seed=3).context
    np.testing.assert_array_equal(seen, [one.reset(seed=3 + row)[0] for row, one in enumerate(alone)])
    ends = [0, 0]
    for number in range(12):
        step = users.step(shown(1, number % 2))
        assert step.observation.context is seen
        for row, action in enumerate((1, number % 2)):
            last, reward, terminated, truncated, _ = alone[row].step(action)
            done = terminated or truncated
            ends[row] += done
            np.testing.assert_array_equal(step.next_observation.context[row], last)
            assert (step.terminated[row], step.truncated[row]) == (terminated, truncated)
            assert step.reward[row] == step.response["reward"][row] == [reward]
            begins = alone[row].reset()[0] if done else last
            np.testing.assert_array_equal(users.observation.context[row], begins)
        seen = users.observation.context
    assert ends == [1, 1]
    assert (users.spec.num_items, users.spec.context_size, users.items.num_items) == (2, 4, 2)


def cart_pole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=12)


class Turns(NamedTuple):
    """A memory of nothing that counts what is done with it."""

    added: jax.Array
    changed: jax.Array


def counting_agent(period: int | None = None) -> Agent:
    """Pushes to the left; its state is how many updates it has done, and what the memory held at the last."""
    zero = lambda: jnp.zeros((), jnp.int32)  # noqa: E731

    def act(key, state, observation, *, explore=True):
        count = observation.history.shape[0]
        return Action(jnp.zeros((count, 1), jnp.int32), jnp.zeros(count))

    def sample(key, state, batch_size):
        nothing = jnp.zeros(batch_size)
        return Batch(state, nothing > 0, jnp.zeros(batch_size, jnp.int32), nothing)

    def learn(key, state, batch):
        return Update((state[0] + 1, batch.experience), {}, priorities=batch.probabilities)

    buffer = Buffer(
        init=lambda step: Turns(zero(), zero()),
        add=lambda state, step: state._replace(added=state.added + 1),
        sample=sample,
        update=lambda state, indices, priorities: state._replace(changed=state.changed + 1),
    )
    memory = Memory(lambda capacity: buffer, period=period)
    return Agent(
        lambda key, spec, items, hparams=None, params=None: (zero(), Turns(zero(), zero())), act, learn, memory=memory
    )


@pytest.mark.parametrize(
    ("period", "options", "updates", "last"),
    [
        (None, {"learn_start": 4, "learn_every": 3, "updates": 2}, 2 * 3, 12),  # after steps 6, 9 and 12
        (5, {"learn_start": 0, "learn_every": 3, "updates": 1}, 2, 10),  # a memory may say when
    ],
)
def test_updates_are_done_on_schedule(period, options, updates, last):
    config = adapters.GymnasiumConfig(steps=12, **options)
    run = adapters.train_on_gymnasium(counting_agent(period), cart_poles(2), config, key=jax.random.key(0))
    done, held = run.state
    assert int(done) == updates
    assert held._asdict() == {"added": last, "changed": updates - 1}


def test_episodes_are_counted():
    """The pole falls after 8 to 11 pushes to one side."""
    config = adapters.GymnasiumConfig(steps=30)
    run = adapters.train_on_gymnasium(counting_agent(), cart_poles(2), config, key=jax.random.key(0))
    assert 4 <= len(run.returns) == len(run.ends) <= 6
    assert set(run.lengths) <= {8, 9, 10, 11}
    np.testing.assert_array_equal(run.returns, run.lengths)
    assert run.ends.tolist() == sorted(run.ends)
    assert run.ends[0] == 2 * min(run.lengths[:2])
    found = adapters.evaluate_on_gymnasium(
        counting_agent(), run.state, cart_poles(3), episodes=2, key=jax.random.key(1)
    )
    assert found.shape == (3, 2)
    assert set(found.ravel()) <= {8, 9, 10, 11}


class ByContext(nn.Module):
    """Values that are linear in the context."""

    @nn.compact
    def __call__(self, observation, items):
        return nn.Dense(items.num_items)(observation.context)


@pytest.fixture(scope="module")
def asked():
    """Users who want the item that their context names, there and back through Gymnasium."""
    env = environments.make("probe_context")
    return adapters.gymnasium_vector_env(env, 8, observe=lambda seen: seen.context)


def test_dqn_learns_what_pays_and_repeats_itself(asked):
    policy = agents.SlatePolicy(exclude_history=False, epsilon=0.5)
    dqn = agents.dqn(DenseNetwork(ByContext()), optax.adam(0.05), policy=policy)
    config = adapters.GymnasiumConfig(steps=120, batch_size=32, replay_capacity=512, learn_start=10)
    run, again = (adapters.train_on_gymnasium(dqn, asked, config, key=jax.random.key(0)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, run.state.params, again.state.params)
    both, q = q_values("probe_context", 0.95)
    np.testing.assert_allclose(dqn.scores(run.state, both)[0], q, atol=0.1)
    found = adapters.evaluate_on_gymnasium(dqn, run.state, asked, episodes=3, key=jax.random.key(1))
    np.testing.assert_array_equal(found, np.ones((8, 3)))
    assert 0.6 < run.returns[-400:].mean() < 0.9  # half of the slates explore, and half of those find it


@pytest.mark.parametrize(
    ("venv", "message"),
    [
        (lambda: gymnasium.make_vec("CartPole-v1", 2, "sync"), r"NEXT_STEP; make it with .*SAME_STEP"),
        (lambda: same_step("FrozenLake-v1"), r"Observations are Discrete.*must be a Box. Flatten"),
        (lambda: same_step("Pendulum-v1"), r"Actions are Box.*must be Discrete"),
    ],
)
def test_environments_that_do_not_fit(venv, message):
    with pytest.raises(ValueError, match=message):
        adapters.GymnasiumUsers(venv())


def test_what_is_flattened_fits():
    flat = lambda: gymnasium.wrappers.FlattenObservation(gymnasium.make("FrozenLake-v1"))  # noqa: E731
    users = adapters.GymnasiumUsers(SyncVectorEnv([flat, flat], autoreset_mode=AutoresetMode.SAME_STEP))
    assert users.reset(seed=0).context.tolist() == [[1.0] + [0.0] * 15] * 2
    assert (users.spec.num_items, users.spec.context_size) == (4, 16)


class Fives(gymnasium.Env):
    """Shows the last action; actions are 5 and 6."""

    observation_space, action_space = gymnasium.spaces.Box(0, 9, (1,)), gymnasium.spaces.Discrete(2, start=5)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.full(1, action, np.float32), 0.0, False, False, {}


def test_items_are_numbered_from_zero():
    users = adapters.GymnasiumUsers(SyncVectorEnv([Fives, Fives], autoreset_mode=AutoresetMode.SAME_STEP))
    users.reset()
    assert users.step(shown(0, 1)).next_observation.context.tolist() == [[5], [6]]


def same_step(name: str) -> gymnasium.vector.VectorEnv:
    return SyncVectorEnv([lambda: gymnasium.make(name)], autoreset_mode=AutoresetMode.SAME_STEP)


def test_bad_input():
    with pytest.raises(ValueError, match="does not learn"):
        adapters.train_on_gymnasium(agents.random(), cart_poles(2), key=jax.random.key(0))
    with pytest.raises(ValueError, match="have not begun; call reset"):
        adapters.GymnasiumUsers(cart_poles(2)).step(shown(0, 0))
    with pytest.raises(ValueError, match=r"GymnasiumConfig.updates is 0; it must be an integer >= 1"):
        adapters.GymnasiumConfig(updates=0)
