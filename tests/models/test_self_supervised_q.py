"""The Q-loss of SQN and SNQN against its definition in NumPy, and beside the next item in training."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data, nn
from recjax.data import Interactions
from recjax.models.sequence import SequenceConfig, behaviour_rewards, fit_sequences, self_supervised_q
from recjax.types import Behaviour, Items, Observation

N, DIM, GAMMA = 7, 3, 0.6
REWARDS = {Behaviour.VIEW: 0.2, Behaviour.PURCHASE: 1.0}


@pytest.fixture(scope="module")
def case():
    """A module with parameters far from the start, items, and windows of six events, one of an unknown item."""
    module = nn.QRecommendation(
        item=nn.ItemTower(N, DIM), user=nn.UserTower(DIM, use_behaviour=False), normalized=False, temperature=1.0
    )
    items = Items(popularity=jnp.ones(N), is_new=jnp.zeros(N, bool))
    history = np.array([[-1, -1, 3, 0, 3, 5], [6, 1, 2, N, 4, 4], [-1, -1, -1, -1, -1, 2]])
    behaviour = np.where(history < 0, -1, np.array([0, 3, 0, 3, 2, 0]))
    window = Observation(jnp.asarray(history, jnp.int32), jnp.asarray(behaviour, jnp.int32))
    params = jax.jit(module.init)(jax.random.key(0), window, items)
    drawn = jax.random.normal(jax.random.key(1), (N, 2, DIM + 1))
    return module, items, window, {"params": {**params["params"], "q_vectors": drawn}}


def by_definition(case, first, drawn=None):
    """The mean loss of events, by loops; head ``first`` learns."""
    module, items, window, params = case
    seen = dataclasses.replace(window, history=window.history[:, :-1], behaviour=window.behaviour[:, :-1])
    states = module.apply(params, seen, items, every_position=True, method="represent")
    states = np.concatenate([np.asarray(states, np.float64), np.ones((3, 5, 1))], axis=-1)
    heads = np.asarray(params["params"]["q_vectors"], np.float64)
    learner, other = heads[:, first], heads[:, 1 - first]
    value = lambda state: other[(learner @ state).argmax()] @ state  # noqa: E731
    history, behaviour = np.asarray(window.history), np.asarray(window.behaviour)
    losses = []
    for user in range(3):
        for t in range(5):
            action, done = history[user, t + 1], t == 4
            if not 0 <= action < N:
                continue
            reward = {0: 0.2, 3: 1.0}.get(behaviour[user, t + 1], 0.0)
            target = reward + (0 if done else GAMMA * value(states[user, t + 1]))
            loss = (target - learner[action] @ states[user, t]) ** 2 / 2
            for negative in () if drawn is None else drawn[user, t]:
                if negative != action:
                    loss += (GAMMA * value(states[user, t]) - learner[negative] @ states[user, t]) ** 2 / 2
            losses.append(loss)
    return np.mean(losses)


@pytest.mark.parametrize("negatives", [0, 4])
def test_the_loss_equals_its_definition(case, negatives):
    module, items, window, params = case
    loss = self_supervised_q(module, behaviour_rewards(REWARDS), discount=GAMMA, negatives=negatives).loss
    run, heads = jax.jit(loss), set()
    for seed in range(6):
        key = jax.random.key(seed)
        drawn = np.asarray(jax.random.randint(jax.random.split(key, 4)[2], (3, 5, negatives), 0, N))
        found = float(run(params, window, items, key))
        wanted = [by_definition(case, first, drawn) for first in (0, 1)]
        heads.add(int(np.argmin(np.abs(np.subtract(wanted, found)))))
        assert min(abs(np.array(wanted) / found - 1)) < 1e-5
    assert heads == {0, 1}, "Both heads learn by turns."


def test_the_gradient_reaches_the_encoder_and_one_head(case):
    module, items, window, params = case
    loss = self_supervised_q(module, behaviour_rewards(REWARDS), discount=GAMMA).loss
    slope = jax.jit(jax.grad(loss))(params, window, items, jax.random.key(0))["params"]
    of_heads = np.abs(slope["q_vectors"]).max((0, 2)) > 0
    assert of_heads.sum() == 1, "No gradient flows into the head that values what comes next."
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope["user"])) > 0


def test_sequences_are_fitted_with_it_beside(case):
    module, items, *_ = case
    users = np.repeat(np.arange(8), 6)
    log = Interactions(
        users, (np.arange(48) + users) % N, time=np.arange(48), behaviour=np.tile([0, 0, 3], 16).astype(np.int8)
    )
    config = SequenceConfig(epochs=15, batch_size=8, history_length=6, learning_rate=0.03, accumulate=1, num_buckets=1)
    loss = self_supervised_q(module, behaviour_rewards(REWARDS), discount=GAMMA, negatives=2)
    fitted = fit_sequences(module, data.sequences(log, 8), items, config, key=jax.random.key(0), auxiliary=(loss,))
    first, last = fitted.history[0], fitted.history[-1]
    assert last["q_loss"] < 0.7 * first["q_loss"]
    assert last["loss"] < first["loss"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discount": 1.5}, "discount is 1.5"),
        ({"negatives": -1}, "negatives is -1"),
        ({"weight": -0.5}, "weight is -0.5"),
    ],
)
def test_bad_options_are_named(case, options, message):
    with pytest.raises(ValueError, match=message):
        self_supervised_q(case[0], behaviour_rewards(REWARDS), **options)


def test_a_module_without_heads_is_refused():
    with pytest.raises(ValueError, match=r"Recommendation has no heads of values; use nn\.QRecommendation"):
        self_supervised_q(nn.Recommendation.of(N, DIM), behaviour_rewards(REWARDS))
