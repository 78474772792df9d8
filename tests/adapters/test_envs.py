"""Our users behind the interfaces of Gymnasium: spaces, steps by hand, chance, and Gymnasium's own checks."""

from __future__ import annotations

import sys

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recjax import adapters, envs
from recjax.envs import environments
from recjax.testing import PROBES
from recjax.types import Response

CATEGORIES = {"history": gymnasium.spaces.MultiDiscrete([8, 8], dtype=np.int32)}
CATEGORIES |= {"behaviour": gymnasium.spaces.MultiDiscrete([9, 9], dtype=np.int32)}
UNBOUNDED = gymnasium.spaces.Box(-np.inf, np.inf, (2,))


def shown(response: Response):
    return response["shown"]


def steps_done(observation):
    return observation.context[:1]


@pytest.fixture(scope="module")
def one(made):
    """``one(kind)``: one user at a time."""
    return lambda kind: adapters.gymnasium_env(made[kind], reward="click" if kind == "synthetic" else shown)


@pytest.fixture(scope="module")
def two(made):
    """Two users of whom only the number of steps is seen."""
    return adapters.gymnasium_vector_env(made["catalogue"], 2, reward=shown, observe=steps_done)


@pytest.mark.parametrize("kind", ["catalogue", "candidates", "vector", "synthetic"])
@pytest.mark.filterwarnings("ignore:.*Box .* space m.*imum value:UserWarning", "ignore:.*alternative render modes")
def test_gymnasium_finds_nothing_wrong(one, kind):
    check_env(one(kind))


def test_spaces(one):
    times = gymnasium.spaces.Box(-(2**31), 2**31 - 1, (2,), np.int32)
    seen = CATEGORIES | {"context": UNBOUNDED, "time": times}
    catalogue, candidates, vector = (one(kind) for kind in ("catalogue", "candidates", "vector"))
    assert catalogue.observation_space == gymnasium.spaces.Dict(seen)
    assert catalogue.action_space == gymnasium.spaces.MultiDiscrete([6, 6, 6])
    documents = {"candidates": gymnasium.spaces.MultiDiscrete([7] * 4, dtype=np.int32)}
    documents |= {"features.price": gymnasium.spaces.Box(-np.inf, np.inf, (4, 1))}
    assert candidates.observation_space == gymnasium.spaces.Dict(seen | documents)
    assert candidates.action_space == gymnasium.spaces.MultiDiscrete([4, 4, 4])
    assert vector.action_space == gymnasium.spaces.Box(-1, 1, (3,))
    single = adapters.gymnasium_env(environments.make("probe_choice"))
    assert single.action_space == gymnasium.spaces.Discrete(3)


def test_ids_begin_with_padding(one):
    seen, info = one("candidates").reset(seed=0)
    assert seen["candidates"].tolist() == [6, 5, 3, 0]
    assert (seen["history"].tolist(), seen["behaviour"].tolist(), info) == ([0, 0], [0, 0], {})


@pytest.mark.parametrize(
    ("kind", "action", "slots"),
    [
        ("catalogue", [4, 1, 5], [4, 1, 5]),
        ("catalogue", [4, 4, 4], [4, -1, -1]),  # a repeat shows nothing
        ("candidates", [2, 3, 2], [2, -1, -1]),  # and neither does a position without a candidate
        ("vector", [0.5, -0.25, 1.0], [1.25]),
    ],
)
def test_a_step_by_hand(one, kind, action, slots):
    env = one(kind)
    env.reset(seed=0)
    seen, reward, terminated, truncated, info = env.step(action)
    assert seen["context"].tolist() == [1, 0]
    assert (reward, terminated, truncated) == (sum(slots), False, False)
    assert info["shown"].tolist() == slots
    assert info["total"] == sum(slots)


def test_episodes_end_and_need_a_reset(one):
    env = one("catalogue")
    env.reset(seed=0)
    assert env.step([3, 0, 1])[2:4] == (True, False)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before step"):
        env.step([1, 2, 3])
    env.reset()
    flags = [env.step([1, 2, 3])[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


def test_many_users_do_what_each_would_do_alone(two, made):
    """A vector environment of Gymnasium over single users is the oracle, the layout of infos included."""
    alone = lambda: adapters.gymnasium_env(made["catalogue"], reward=shown, observe=steps_done)  # noqa: E731
    oracle = SyncVectorEnv([alone, alone], autoreset_mode=AutoresetMode.SAME_STEP)
    assert two.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(two, name) == getattr(oracle, name)
    both = two.reset(seed=0), oracle.reset(seed=0)
    slates = [[[1, 2, 3], [4, 4, 5]], [[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [5, 4, 3]], [[2, 0, 1], [0, 1, 2]]]
    for slate in [None, *slates]:
        if slate is not None:
            both = two.step(np.array(slate)), oracle.step(np.array(slate))
        assert_same(*both)
    assert set(both[0][4]) == {"final_obs", "_final_obs", "final_info", "_final_info"}


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        ours, theirs = ([tree[name] for name in sorted(tree)] for tree in (ours, theirs))
    if isinstance(ours, tuple | list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
        return
    assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    if np.asarray(ours).dtype == object and np.ndim(ours):
        assert_same(list(ours), list(theirs))
    else:
        np.testing.assert_array_equal(ours, theirs)


def test_episodes_are_recorded_by_gymnasium(two):
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(two)
    env.reset(seed=0)
    for slates in ([[1, 2, 3], [1, 2, 3]], [[5, 4, 3], [0, 1, 2]]):
        *_, infos = env.step(np.array(slates))
    assert infos["_episode"].tolist() == [False, True]
    assert (infos["episode"]["r"][1], infos["episode"]["l"][1]) == (6 + 3, 2)


def test_users_share_a_world_that_goes_on(made):
    env = adapters.gymnasium_vector_env(made["catalogue"], 3, reward=shown, observe=lambda seen: seen.context)
    env.reset(seed=0)
    leaves_at_first = np.array([[0, 1, 2], [1, 2, 3], [1, 2, 3]])
    assert env.step(leaves_at_first)[0].tolist() == [[0, 0], [1, 0], [1, 0]]
    assert env.step(leaves_at_first)[0].tolist() == [[0, 1], [2, 1], [2, 1]]
    seen, _, _, truncated, infos = env.step(leaves_at_first)
    assert seen.tolist() == [[0, 2], [0, 2], [0, 2]]
    assert truncated.tolist() == [False, True, True]
    assert [last.tolist() for last in infos["final_obs"]] == [[1, 2], [3, 2], [3, 2]]
    assert env.reset()[0].tolist() == [[0, 0]] * 3


def test_the_same_seed_repeats_everything(made):
    env = adapters.gymnasium_vector_env(made["synthetic"], 4)
    env.action_space.seed(0)
    slates = [env.action_space.sample() for _ in range(6)]

    def run(seed):
        return [env.reset(seed=seed)[0], *(env.step(slate) for slate in slates), env.reset()[0]]

    assert_same(run(1), run(1))
    with pytest.raises(AssertionError):
        assert_same(run(1), run(2))


def test_what_is_given_may_be_written_to(one, two):
    seen, _ = two.reset(seed=0)
    seen += 1
    again = two.step(np.array([[1, 2, 3]] * 2))
    again[0][:] = 7
    assert two.step(np.array([[1, 2, 3]] * 2))[0].tolist() == [[2], [2]]
    env = one("catalogue")
    env.reset(seed=0)[0]["context"][:] = 9
    assert env.step([1, 2, 3])[0]["context"].tolist() == [1, 0]


def test_steps_are_compiled_once(made):
    traced = []

    def observe(observation):
        traced.append(None)
        return observation.context

    env = adapters.gymnasium_vector_env(made["catalogue"], 2, reward=shown, observe=observe)
    counts = []
    for seed in range(2):
        env.reset(seed=seed)
        env.step(np.array([[0, 2, 3], [1, 2, 3]]))
        counts.append(len(traced))
    assert counts[0] == counts[1]
    # Another one of the same parts finds it compiled.
    adapters.gymnasium_vector_env(made["catalogue"], 2, reward=shown, observe=observe).reset(seed=0)
    assert len(traced) == counts[0]


def test_names_of_gymnasium():
    names = adapters.register_gymnasium()
    assert set(names) == {f"recjax/{name}-v0" for name in environments}
    assert adapters.register_gymnasium() == names
    assert {f"recjax/{name}-v0" for name in PROBES} <= set(gymnasium.registry)
    env = gymnasium.make("recjax/probe_choice-v0", reward="click=2")
    env.reset(seed=0)
    assert env.step(1)[1:4] == (2.0, True, False)
    many = gymnasium.make_vec("recjax/synthetic-v0", num_envs=2, num_items=20, slate_size=2)
    assert many.single_action_space == gymnasium.spaces.MultiDiscrete([20, 20])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([[1, 2, 6], [1, 2, 3]], r"must hold integers in 0 \.\. 5"),
        ([[1, 2, -1], [1, 2, 3]], r"must hold integers in 0 \.\. 5"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "must hold integers"),
        ([[1, 2], [1, 2]], r"shape \(2, 2\); for 2 users it must hold 3 numbers each"),
    ],
)
def test_bad_actions_are_shown(two, action, message):
    two.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        two.step(np.array(action))


def test_bad_input(made, one):
    env = one("vector")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action \[ *0\. +nan +0\. *\] is infinite or NaN"):
        env.step([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="num_envs is 0"):
        adapters.gymnasium_vector_env(made["synthetic"], 0)
    with pytest.raises(ValueError, match=r"no signal 'click'.*it has: shown, total"):
        adapters.gymnasium_env(made["catalogue"])
    with pytest.raises(ValueError, match=r"reward of 1 users has shape \(1,\)"):
        adapters.gymnasium_env(made["catalogue"], reward=lambda response: response["total"])
    with pytest.raises(ValueError, match=r"observe returned .*bool.*float32 or int32"):
        adapters.gymnasium_env(made["synthetic"], observe=lambda seen: jnp.any(seen.history > 0))


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    wanted = r"needs the package 'gymnasium'.*pip install 'recjax\[gymnasium\]'"
    for call in (
        lambda: adapters.gymnasium_env(envs.synthetic(num_items=30)),
        lambda: adapters.gymnasium_vector_env(envs.synthetic(num_items=30), 2),
        adapters.register_gymnasium,
        lambda: adapters.GymnasiumUsers(None),
    ):
        with pytest.raises(ImportError, match=wanted):
            call()
