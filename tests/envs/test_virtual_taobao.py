"""VirtualTaobao against its definition in float64 NumPy."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data, envs
from recjax.envs.sims.taobao_networks import read_networks
from recjax.types import Revealed

GROUPS = (8, 8, 11, 11, 11, 11, 2, 2, 3, 18, 3)
USERS, STEPS = 16, 7


@pytest.fixture(scope="module", params=["untrained", "trained"])
def networks(request, untrained):
    if request.param == "untrained":
        return untrained
    try:
        return read_networks()
    except data.UnavailableError as error:
        pytest.skip(str(error).splitlines()[0])


def output(networks, name, x):
    layers = sorted({int(key.split(".")[1]) for key in networks if key.startswith(f"{name}.")})
    for layer in layers:
        weight, bias = (networks[f"{name}.{layer}.{part}"].astype(float) for part in ("weight", "bias"))
        x = weight @ x + bias
        if layer != layers[-1]:
            x = np.where(x > 0, x, 0.01 * x)
    return x


def softmax(logits):
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def drawn(logits, uniform):
    """The class whose share of the distribution function holds ``uniform``."""
    return int(np.searchsorted(np.cumsum(softmax(logits)), uniform, side="right"))


def user_of(networks, uniform):
    logits, one_hot, start = output(networks, "generator", uniform[:128]), [], 0
    for width, u in zip(GROUPS, uniform[128:139], strict=True):
        one_hot += np.eye(width)[drawn(logits[start : start + width], u)].tolist()
        start += width
    return np.array(one_hot)


def played(env, actions):
    """Observations and states of arrival, and all transitions, of users who are shown ``actions: [U, STEPS, 27]``."""

    @jax.jit
    def run(keys, actions):
        def of_one(key, actions):
            arrived = env.reset(key, env.params, None)
            keys = jax.random.split(key, STEPS)

            def step(user, given):
                after = env.step(*(given[0], user, given[1]), env.params, None)
                return after.state, after

            return arrived, jax.lax.scan(step, arrived[1], (keys, actions))[1]

        return jax.vmap(of_one)(keys, actions)

    keys = jax.random.split(jax.random.key(0), USERS)
    arrived, steps = run(keys, jnp.asarray(actions, jnp.float32))
    # The numbers that chance is made of, drawn as the environment draws them.
    own = jax.vmap(lambda key: jax.random.uniform(key, (140,)))(keys)
    each = jax.vmap(lambda key: jax.vmap(lambda k: jax.random.uniform(k, (2,)))(jax.random.split(key, STEPS)))(keys)
    return jax.tree.map(np.asarray, (arrived, steps)), np.asarray(own, float), np.asarray(each, float)


def vectors(seed=0):
    """Some close to each other, some far, and some outside the box."""
    rng = np.random.default_rng(seed)
    near = 0.3 * rng.normal(size=(USERS, STEPS, 27))
    return np.where(rng.random((USERS, STEPS, 1)) < 0.5, near, 1.5 * np.sign(near)).astype(np.float32)


@pytest.mark.parametrize(
    ("leaving", "faithful", "window", "threshold"),
    [("cirs", True, 3, 2.5), ("cirs", False, 5, 6.5), ("session", False, 5, 3.0)],
)
def test_sessions_are_those_of_the_definition(networks, leaving, faithful, window, threshold):
    options = {"window": window, "threshold": threshold, "max_steps": STEPS - 1, "faithful": faithful}
    env = envs.virtual_taobao(networks, leaving=leaving, **options)
    actions = vectors()
    ((observation, _), steps), own, each = played(env, actions)
    ends = np.zeros((USERS, STEPS), bool)
    for row, shown in enumerate(np.clip(actions.astype(float), -1, 1)):
        user = user_of(networks, own[row])
        np.testing.assert_array_equal(observation.context[row], [*user, 0, 0, 0])
        stay = drawn(output(networks, "leave", user), own[row][139])
        for turn, action in enumerate(shown):
            logits = output(networks, "action", np.concatenate([user, [turn], action]))
            clicks, page = drawn(logits[:11], each[row, turn, 0]), drawn(logits[11:], each[row, turn, 1])
            recent = shown[max(turn - window + 1, 0) : turn]
            near = any(np.linalg.norm(action - other) <= threshold for other in recent)
            left = near if leaving == "cirs" else turn + 1 >= stay
            at = jax.tree.map(lambda x, row=row, turn=turn: x[row, turn], steps)
            assert at.response["clicks"].tolist() == [clicks]
            assert (at.terminated, at.truncated) == (left, turn + 1 >= STEPS - 1 and not left)
            first = [*action, *[0] * 61] if faithful else user
            np.testing.assert_allclose(at.observation.context, [*first, clicks, page, turn + 1], rtol=1e-6)
            ends[row, turn] = left
    assert 0 < ends.mean() < 1


def test_vector_at_the_threshold_drives_away(untrained):
    actions = np.zeros((USERS, STEPS, 27))
    actions[:, ::2, 0] = 1.0
    for threshold, leaves in ((1.0, True), (0.99, False)):
        env = envs.virtual_taobao(untrained, window=2, threshold=threshold)
        steps = played(env, actions)[0][1]
        assert (steps.terminated == ([False] + [leaves] * (STEPS - 1))).all()


def clicks_of(networks, user, turn, actions):
    each = [output(networks, "action", np.concatenate([user, [turn], action]))[:11] for action in actions]
    return np.array([softmax(logits) @ np.arange(11) for logits in each])


def test_oracles_choose_by_their_definition(networks):
    env = envs.virtual_taobao(networks)
    actions = vectors()
    (_, steps), _, _ = played(env, actions)
    users = jax.tree.map(lambda x: jnp.asarray(x[:, 3]), (steps.observation, steps.state))
    shown = {}
    for name, oracle in env.oracles.items():
        setting = None if oracle.settings is None else oracle.settings[0]
        choose = jax.jit(oracle.choose)
        shown[name] = np.asarray(choose(jax.random.key(0), Revealed(*users, env.params, None), setting))
    best = np.asarray(env.oracles["constant"].settings)
    np.testing.assert_array_equal(shown["constant"], np.tile(best[0], (USERS, 1)))
    # Three flipped signs are as many as are farther than 3 from the vector itself.
    assert np.isin(np.sum(shown["look_ahead"] != best[0], axis=1), (0, 3)).all()
    for row, user in enumerate(np.asarray(users[1].features, float)):
        myopic, constant = clicks_of(networks, user, 4, [shown["myopic"][row], best[0]])
        assert myopic >= constant - 1e-4
        recent = np.clip(actions[row, :4].astype(float), -1, 1)
        assert (np.linalg.norm(shown["look_ahead"][row] - recent, axis=1) > 3.0).all()


def test_look_ahead_keeps_users_to_the_end_and_the_constant_does_not(untrained):
    env = envs.virtual_taobao(untrained, max_steps=STEPS)
    lengths = {name: lengths_of(env, env.oracles[name]) for name in ("look_ahead", "constant")}
    assert (lengths["look_ahead"] == STEPS).all()
    assert (lengths["constant"] == 2).all()


def lengths_of(env, oracle):
    """Turns until each of the users has left or was cut off."""

    @jax.jit
    def run(keys):
        each = partial(jax.vmap, in_axes=(0, None, None))
        observation, users = each(env.reset)(keys, env.params, None)

        def step(carry, key):
            observation, users, staying = carry
            action = oracle.choose(key, Revealed(observation, users, env.params, None), oracle.settings[0])
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, users, action, env.params, None)
            return (after.observation, after.state, staying & ~after.terminated & ~after.truncated), staying

        return jax.lax.scan(step, (observation, users, jnp.ones(USERS, bool)), jax.random.split(keys[0], 2 * STEPS))[1]

    return np.asarray(run(jax.random.split(jax.random.key(1), USERS))).sum(axis=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leaving": "never"}, "leaving is 'never'; choose one of cirs, session"),
        ({"window": 0}, "window is 0; it must be >= 1"),
        ({"threshold": -1.0}, "threshold is -1.0"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_bad_options_are_refused(untrained, options, message):
    with pytest.raises(ValueError, match=message):
        envs.virtual_taobao(untrained, **options)


def test_networks_that_do_not_fit_are_refused(untrained):
    with pytest.raises(ValueError, match=r"The network 'leave' has widths \[\]; it needs"):
        envs.virtual_taobao({key: value for key, value in untrained.items() if not key.startswith("leave")})
    with pytest.raises(ValueError, match=r"'action' has widths \[116, 2, 2, 21\]"):
        envs.virtual_taobao(untrained | {"action.2.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="lacks nowhere"):
        envs.virtual_taobao(data_dir="nowhere")
