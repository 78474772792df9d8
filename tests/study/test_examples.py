"""The cohort that a page shows: the same users for every policy, and sums that are those of the slates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, loop
from recjax.data import Dataset, IdMap, Interactions
from recjax.loop.run import run_program
from recjax.rewards import click
from recjax.study import examples
from recjax.types import PAD_ID

ITEMS = 12
CONFIG = loop.LoopConfig(steps=2, chunk=2, eval_every=2, users=4, eval_users=4, eval_steps=2, seeds=2)


@pytest.fixture(scope="module")
def env():
    return envs.synthetic(num_items=ITEMS, slate_size=3, history_length=4)


@pytest.fixture(scope="module")
def states(env):
    policies = {"random": agents.random(), "popularity": agents.popularity()}
    key = jax.random.key(1)
    return {name: (a, run_program(loop.Program(env, a, CONFIG, click), key).state) for name, a in policies.items()}


@pytest.fixture(scope="module")
def followed(env, states):
    onlooker = examples.Onlooker(env, click, jax.random.key(5))
    return {name: onlooker(agent, state) for name, (agent, state) in states.items()}


def test_every_policy_meets_the_same_users(followed):
    np.testing.assert_array_equal(followed["random"].history, followed["popularity"].history)
    assert len(np.unique(followed["random"].history, axis=0)) > examples.USERS // 4


def test_the_same_key_shows_the_same(env, states, followed):
    again = examples.Onlooker(env, click, jax.random.key(5))(*states["random"])
    for one, other in zip(again, followed["random"], strict=True):
        np.testing.assert_array_equal(one, other)
    other = examples.Onlooker(env, click, jax.random.key(6))(*states["random"])
    assert not np.array_equal(other.slate, again.slate)


def test_seeds_may_lie_on_several_devices(env, states, followed):
    agent, _ = states["popularity"]
    state = run_program(loop.Program(env, agent, CONFIG, click), jax.random.key(1), devices=2).state
    spread = examples.Onlooker(env, click, jax.random.key(5))(agent, state)
    np.testing.assert_array_equal(spread.slate, followed["popularity"].slate)


def test_users_who_left_see_and_do_nothing(followed):
    for each in followed.values():
        shown = np.any(each.slate != PAD_ID, axis=-1)
        assert not np.any(~shown[:-1] & shown[1:])
        assert not np.any(each.click[~shown])
        np.testing.assert_array_equal(each.reward, each.click.sum(axis=-1))
        assert np.all(each.click.sum(axis=-1) <= 1)


def test_policies_do_not_explore(env, states, followed):
    agent, state = states["popularity"]
    first = examples.first_seed(state.agent)
    seen = env.spec.empty_observation((examples.USERS,)).replace(history=jnp.asarray(followed["popularity"].history))
    slate = agent.act(jax.random.key(0), first, seen, explore=False).slate
    np.testing.assert_array_equal(slate, followed["popularity"].slate[0])


def test_the_summary_adds_up(followed):
    log = Interactions(np.zeros(ITEMS, int), np.arange(ITEMS))
    titles = tuple(f"Item {i}" for i in range(ITEMS))
    dataset = Dataset("made", log, IdMap(("u",)), IdMap(tuple(map(str, range(ITEMS)))), titles=titles)
    summary = examples.summarise(followed, dataset)
    stays = sum((each.slate[:, :, 0] != PAD_ID).sum(axis=0) for each in followed.values())
    for name, each in followed.items():
        counts = [int((each.slate == item).sum()) for item in range(ITEMS)]
        shown = summary["policies"][name]["exposure"]
        assert shown["slots"] == sum(counts)
        assert sum(items for _, items in shown["items_by_slots"]) == ITEMS
        assert sorted(counts) == [slots for slots, items in shown["items_by_slots"] for _ in range(items)]
        assert [slots for _, slots in shown["most_shown"]] == sorted(filter(None, counts), reverse=True)[:10]
        assert all(counts[item] == slots for item, slots in shown["most_shown"])
        journey = summary["policies"][name]["journey"]
        (user,) = {
            u for u in range(examples.USERS)
            if each.slate[0, u].tolist() == journey["slates"][0] and stays[u] == np.sort(stays)[examples.USERS // 2]
            and each.slate[: len(journey["slates"]), u].tolist() == journey["slates"]
        }  # fmt: skip
        assert journey["stay"] == (each.slate[:, user, 0] != PAD_ID).sum()
        clicks = each.click[: len(journey["slates"]), user]
        assert journey["clicked"] == [np.flatnonzero(c).tolist() for c in clicks]
        assert summary["histories"][0] == [int(i) for i in each.history[user][::-1] if i != PAD_ID]
    assert summary["titles"]["3"] == "Item 3"
