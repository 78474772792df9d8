"""SARDINE against an implementation in float64 that is written from the definitions."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.sims import sardine_users
from recjax.envs.sims.sardine import SETTINGS
from recjax.types import PAD_ID, Behaviour, Revealed

USERS, STEPS = 6, 30
LIVELY = envs.SardineSetting(
    num_items=40, slate_size=4, episode_length=STEPS, offset=0.2, slope=6.0, omega=0.8, boredom_threshold=3
)
"""In a few steps, users click, are bored, recover and change."""


class Reference:
    """One user, with a list of clicks instead of arrays."""

    def __init__(self, vector, items, setting, faithful):
        self.u, self.items, self.setting, self.faithful = vector, items, setting, faithful
        self.t, self.log = 0, deque(maxlen=10)
        self.bored, self.timeout = np.zeros(10, bool), np.full(10, 5)
        self.shown = []

    def interest(self):
        if self.setting.boredom == "user_car":
            return self.u * (not self.bored.any())
        return self.u * ~self.bored

    def click_probabilities(self, slate):
        scores = self.items[slate] @ self.interest() / np.linalg.norm(self.items, axis=1).max()
        relevance = 1 / (1 + np.exp(-self.setting.slope * (scores - self.setting.offset)))
        return relevance * [self.setting.click_discount**j for j in range(len(slate))]

    def answer(self, uniform, slate):
        click = uniform < self.click_probabilities(slate)
        click &= slate != PAD_ID
        clicked = [item for item, was in zip(slate, click, strict=True) if was]
        for item, was in zip(slate, click, strict=True):
            if item != PAD_ID:
                self.shown.append((item, Behaviour.CLICK if was else Behaviour.IMPRESSION))
        self.log.extend((int(np.argmax(self.items[item])), self.t) for item in clicked)
        self.t += 1
        while self.log and self.log[0][1] < self.t - 5:
            self.log.popleft()
        self.timeout -= self.bored
        self.bored &= self.timeout != 0
        self.timeout[~self.bored] = 5
        self.counts = np.bincount([topic for topic, _ in self.log], minlength=10)
        self.bored |= self.counts >= self.setting.boredom_threshold
        if clicked:
            mean = np.mean(self.items[clicked]) if self.faithful else np.mean(self.items[clicked], axis=0)
            self.u = self.setting.omega * self.u + (1 - self.setting.omega) * mean
            self.u = self.u / np.linalg.norm(self.u)
        return click

    def check(self, state):
        np.testing.assert_allclose(state.vector, self.u, atol=2e-5)
        np.testing.assert_array_equal(state.bored_for, np.where(self.bored, self.timeout, 0))
        seen = state.observation
        np.testing.assert_allclose(seen.context, np.clip(self.counts / self.setting.boredom_threshold, 0, 1), rtol=1e-6)
        last = self.shown[-len(seen.history) :]
        pad = [(PAD_ID, PAD_ID)] * (len(seen.history) - len(last))
        items, behaviours = zip(*pad, *last, strict=True)
        np.testing.assert_array_equal(seen.history, items)
        np.testing.assert_array_equal(seen.behaviour, behaviours)


def arrive(uniform):
    """A user's vector by the definition, from a number for how many topics, ten for which and ten for how much."""
    share = np.array([120 * 0.4**3 * 0.6**7, 210 * 0.4**4 * 0.6**6, 252 * 0.4**5 * 0.6**5])
    liked = 3 + np.searchsorted(np.cumsum(share / share.sum()), uniform[0], side="right")
    vector = np.zeros(10)
    which = np.argsort(uniform[1:11])[:liked]
    vector[which] = uniform[11:][which]
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("setting", "faithful"),
    [
        (LIVELY, False),
        (LIVELY, True),
        (dataclasses.replace(LIVELY, boredom="user_tloi", slate_size=1, omega=1.0, boredom_threshold=2), False),
    ],
)
def test_every_step_is_that_of_the_definition(setting, faithful):
    env = envs.sardine(setting, faithful=faithful, history_length=9, item_vectors=1.7 * made_items())
    slots = setting.slate_size
    keys = jax.random.split(jax.random.key(0), (STEPS + 1, USERS))
    rng = np.random.default_rng(0)
    slates = rng.permuted(np.tile(np.arange(40), (STEPS, USERS, 1)), axis=-1)[..., :slots].astype(np.int32)
    slates = np.where(rng.random(slates.shape) < 0.1, PAD_ID, slates)

    def run(keys, slates):
        _, arrived = jax.vmap(env.reset, in_axes=(0, None, None))(keys[0], env.params, None)

        def visit(state, step):
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(step[0], state, step[1], env.params, None)
            return after.state, after

        uniform = jax.vmap(lambda key: jax.random.uniform(key, (slots,)))
        of_steps = jax.vmap(uniform)(keys[1:])
        of_arrival = jax.vmap(lambda key: jax.random.uniform(key, (21 + 2 * slots,)))(keys[0])
        return arrived, jax.lax.scan(visit, arrived, (keys[1:], slates))[1], of_arrival, of_steps

    arrived, after, of_arrival, of_steps = jax.tree.map(np.asarray, jax.jit(run)(keys, slates))
    was_bored, clicks = 0, 0
    for row in range(USERS):
        user = Reference(arrive(of_arrival[row, :21]), 1.7 * made_items(), setting, faithful)
        first = sardine_users.random_slate(jnp.asarray(of_arrival[row, 21:-slots]), 40, repeats=faithful)
        user.answer(of_arrival[row, -slots:], np.asarray(first))
        user.check(jax.tree.map(lambda x, row=row: x[row], arrived))
        for step in range(STEPS):
            was_bored += user.bored.any()
            click = user.answer(of_steps[step, row], slates[step, row])
            np.testing.assert_array_equal(after.response["click"][step, row], click)
            user.check(jax.tree.map(lambda x, at=(step, row): x[at], after.state))
            assert after.info["bored_topics"][step, row] == user.bored.sum()
            clicks += click.sum()
    assert was_bored > 10, "boredom comes"
    assert clicks > 30, "and goes"
    assert not after.terminated.any()
    np.testing.assert_array_equal(after.truncated.any(axis=1), np.arange(STEPS) == STEPS - 1)


def made_items():
    """Unit vectors ``f64[40, 10]``, for a test that does not draw them by our code."""
    rng = np.random.default_rng(7)
    vectors = rng.random((40, 10)) * (rng.random((40, 10)) < 0.4) + 1e-3
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_eight_settings():
    """Items, slots, steps, offset, slope, omega, threshold and discount; threshold 11 of a log of 10 never bores."""
    assert {name: dataclasses.astuple(setting)[:-1] for name, setting in SETTINGS.items()} == {
        "SingleItem-Static-v0": (1000, 1, 100, 0.65, 100.0, 1.0, 11, 0.85),
        "SingleItem-BoredInf-v0": (1000, 1, 100, 0.65, 100.0, 0.95, 5, 0.85),
        "SingleItem-Uncertain-v0": (1000, 1, 100, 0.65, 10.0, 1.0, 11, 0.85),
        "SlateTopK-Bored-v0": (1000, 10, 100, 0.65, 100.0, 1.0, 5, 0.85),
        "SlateTopK-BoredInf-v0": (1000, 10, 100, 0.65, 100.0, 0.95, 5, 0.85),
        "SlateTopK-Uncertain-v0": (1000, 10, 100, 0.65, 10.0, 0.95, 5, 0.85),
        "SlateRerank-Static-v0": (10, 10, 10, 0.3, 5.0, 1.0, 11, 0.7),
        "SlateRerank-Bored-v0": (10, 10, 10, 0.3, 5.0, 1.0, 4, 0.7),
    }
    assert {setting.boredom for setting in SETTINGS.values()} == {"user_car"}


def test_items_are_drawn_by_the_law_of_the_original():
    env = envs.sardine(envs.SardineSetting(num_items=4000))
    vectors = np.asarray(env.params.vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    width = (vectors > 0).sum(axis=1)
    assert set(width) == {2, 3}
    assert abs((width == 2).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    np.testing.assert_allclose((vectors > 0).mean(axis=0), 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 4000))
    np.testing.assert_array_equal(env.items.content.argmax(axis=1), vectors.argmax(axis=1))


def test_users_are_drawn_by_the_law_of_the_original():
    uniform = jax.random.uniform(jax.random.key(0), (6000, sardine_users.ARRIVAL_DRAWS))
    blank = envs.sardine(LIVELY).spec.empty_observation()
    vectors = np.asarray(jax.jit(jax.vmap(lambda u: sardine_users.arrive(u, blank).vector))(uniform))
    width = (vectors > 0).sum(axis=1)
    # By the original's own way: topics at .4 each, drawn again outside of three to five.
    rng = np.random.default_rng(0)
    drawn = (rng.random((60_000, 10)) < 0.4).sum(axis=1)
    drawn = drawn[(drawn >= 3) & (drawn <= 5)]
    for liked in (3, 4, 5):
        assert abs((width == liked).mean() - (drawn == liked).mean()) < 0.03
    np.testing.assert_allclose((vectors > 0).mean(axis=0), drawn.mean() / 10, atol=0.03)


def test_random_slates_are_fair():
    draw = jax.jit(jax.vmap(lambda u: sardine_users.random_slate(u, 4, repeats=False)))
    slates = np.asarray(draw(jax.random.uniform(jax.random.key(1), (4800, 3))))
    kinds, counts = np.unique(slates, axis=0, return_counts=True)
    assert kinds.tolist() == sorted(map(list, itertools.permutations(range(4), 3)))
    assert np.sum((counts - 200) ** 2 / 200) < 50, "chi-square with 23 degrees of freedom"
    repeated = np.asarray(sardine_users.random_slate(jnp.array([0.0, 0.24, 0.99999994]), 4, repeats=True))
    assert repeated.tolist() == [0, 0, 3]


def test_neither_arrivals_nor_steps_touch_the_catalogue():
    env = envs.sardine(envs.SardineSetting(num_items=100_000, slate_size=10))

    def visit(key, slate):
        observation, state = env.reset(key, env.params, None)
        return observation, env.step(key, state, slate, env.params, None)

    program = str(jax.make_jaxpr(jax.vmap(visit))(jax.random.split(jax.random.key(0), 3), jnp.zeros((3, 10), int)))
    shapes = {tuple(map(int, shape.split(","))) for shape in re.findall(r"\[([\d,]+)\]", program)}
    assert {shape for shape in shapes if 100_000 in shape} <= {(100_000,), (100_000, 10)}


@pytest.fixture(scope="module")
def tired():
    """Users of whom most remember some clicks; ``Revealed``, on a catalogue of twelve items."""
    setting = dataclasses.replace(LIVELY, num_items=12, slate_size=3, omega=1.0)
    env = envs.sardine(setting, item_vectors=made_items()[:12])

    def run(keys):
        _, state = jax.vmap(env.reset, in_axes=(0, None, None))(keys, env.params, None)

        def visit(state, keys):
            slates = jax.vmap(lambda key: jax.random.randint(key, (3,), 0, 12))(keys)
            return jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(keys, state, slates, env.params, None).state, None

        return jax.lax.scan(
            visit, state, jax.vmap(lambda i: jax.vmap(lambda k: jax.random.fold_in(k, i))(keys))(jnp.arange(9))
        )[0]

    state = jax.jit(run)(jax.random.split(jax.random.key(5), 24))
    return env, setting, Revealed(state.observation, state, env.params, None)


def of_row(users, row, setting):
    state = jax.tree.map(lambda x: np.asarray(x[row]), users.state)
    user = Reference(np.asarray(state.vector, float), made_items()[:12], setting, False)
    user.bored = state.bored_for > 0
    clicks = zip(state.log_topics.tolist(), state.log_steps.tolist(), strict=True)
    return user, [click for click in clicks if click[0] != PAD_ID], int(state.steps)


def test_the_myopic_oracle_shows_what_is_most_relevant(tired):
    env, setting, users = tired
    slates = np.asarray(jax.jit(env.oracles["myopic"].choose)(jax.random.key(0), users, None))
    for row, slate in enumerate(slates):
        user = of_row(users, row, setting)[0]
        values = [user.click_probabilities(np.array(other)).sum() for other in itertools.permutations(range(12), 3)]
        np.testing.assert_allclose(user.click_probabilities(slate).sum(), max(values), rtol=1e-5)


@pytest.mark.parametrize(("price", "forgotten"), [(0.8, 0), (4.0, 7)])
def test_the_look_ahead_oracle_weighs_clicks_against_boredom(tired, price, forgotten):
    """Slot by slot the item of the largest worth, where all outcomes of the slots above are gone through."""
    env, setting, users = tired
    oracle = env.oracles["look_ahead"]
    plan = oracle.settings.replace(price=jnp.float32(price), forgotten=jnp.int32(forgotten))
    slates = np.asarray(jax.jit(oracle.choose)(jax.random.key(0), users, plan))
    topics = made_items()[:12].argmax(axis=1)
    differs = 0
    for row, slate in enumerate(slates):
        user, log, steps = of_row(users, row, setting)
        pushed_out = max(forgotten - (10 - len(log)), 0)
        kept = [topic for topic, step in log[pushed_out:] if step >= steps + 1 - 5]
        relevance = user.click_probabilities(np.arange(12)) / 0.85 ** np.arange(12)
        for slot, item in enumerate(slate):
            worth = relevance.copy()
            for topic in set(topics):
                one_short = 0.0
                for clicked in itertools.product([0, 1], repeat=slot):
                    above = list(zip(slate[:slot], clicked, strict=True))
                    odds = [
                        relevance[i] * 0.85**j if was else 1 - relevance[i] * 0.85**j
                        for j, (i, was) in enumerate(above)
                    ]
                    count = kept.count(topic) + sum(was for i, was in above if topics[i] == topic)
                    one_short += np.prod(odds) * (count == setting.boredom_threshold - 1)
                worth[topics == topic] *= 1 - price * one_short
            worth[slate[:slot]] = -np.inf
            # Within a topic it offers the most relevant item, also where its worth is negative.
            offered = [
                max(np.flatnonzero((topics == t) & (worth > -np.inf)), key=lambda i: relevance[i])
                for t in set(topics)
                if np.any((topics == t) & (worth > -np.inf))
            ]
            np.testing.assert_allclose(worth[item], worth[offered].max(), rtol=1e-4, atol=1e-6)
        differs += slate.tolist() != np.argsort(-relevance)[:3].tolist()
    assert differs > 3


def test_without_boredom_there_is_nothing_to_look_ahead_to():
    assert set(envs.sardine("SingleItem-Static-v0").oracles) == {"myopic"}
    assert set(envs.sardine("SlateRerank-Bored-v0").oracles) == {"myopic", "look_ahead"}


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: envs.sardine("SlateTopK-Bored"), "'SlateTopK-Bored'.*SlateTopK-BoredInf-v0"),
        (lambda: envs.SardineSetting(omega=1.5), r"omega is 1.5; it must be in \[0, 1\]"),
        (lambda: envs.SardineSetting(boredom="car"), "boredom is 'car'; it must be one of user_car, user_tloi"),
        (lambda: envs.SardineSetting(slope=0.0), "slope is 0.0"),
        (lambda: envs.SardineSetting(boredom_threshold=0), "boredom_threshold is 0"),
        (lambda: envs.SardineSetting(click_discount=0.0), "click_discount is 0.0"),
        (lambda: envs.SardineSetting(episode_length=0), "episode_length is 0"),
        (lambda: envs.sardine("SlateRerank-Bored-v0", item_vectors=np.ones((9, 10))), r"shape \(9, 10\).*\(10, 10\)"),
        (lambda: envs.sardine("SlateRerank-Bored-v0", item_vectors=-np.ones((10, 10))), "item_vectors holds -1"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
