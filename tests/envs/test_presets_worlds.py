"""Who arrives in the domains, what lies there, what time does to it, and what all of it costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.presets.ecommerce import Warehouse
from recjax.envs.presets.parts import standardised
from recjax.rewards import parse
from recjax.types import PAD_ID, Behaviour, Response, Spec, Step

MANY, SHAPE = 3000, {"num_items": 400, "history_length": 4}


def arrivals(env):
    keys = jax.random.split(jax.random.key(3), MANY)
    world = env.world(jax.random.key(4))
    return jax.jit(jax.vmap(env.reset, in_axes=(0, None, None)))(keys, env.params, world)


def logarithms_are_normal(values, median, spread):
    deviation = np.log(np.asarray(values, float) / median)
    count = deviation.size
    assert abs(deviation.mean()) < 4.5 * spread / np.sqrt(count)
    assert deviation.std() == pytest.approx(spread, abs=4.5 * spread / np.sqrt(2 * count))


# The shop.


@pytest.fixture(scope="module")
def shop():
    return envs.ecommerce(**SHAPE, shop=envs.Shop(stock=100.0, restock_steps=7.0))


def test_prices_and_sensitivities_are_as_declared(shop):
    logarithms_are_normal(shop.params.price, 30.0, 0.6)
    logarithms_are_normal(arrivals(shop)[1].sensitivity, 1.5, 0.5)
    price = np.log(np.asarray(shop.params.price, float))
    known = np.asarray(shop.items.features["price"].values)[:, 0]
    np.testing.assert_allclose(known, (price - price.mean()) / price.std(), rtol=1e-4, atol=1e-5)


def test_stock_falls_with_purchases_and_is_filled_up(shop):
    rng, visitors = np.random.default_rng(0), 20
    tick = jax.jit(shop.tick)
    world, expected = shop.world(jax.random.key(0)), np.full(400, 100.0)
    for number in range(9):
        slate = rng.integers(12, size=(visitors, 5))
        slate[rng.random(slate.shape) < 0.2] = PAD_ID
        bought = (rng.random(slate.shape) < 0.5) & (slate != PAD_ID)
        answer = Response(conversion=jnp.asarray(bought, jnp.float32))
        step = Step(None, jnp.asarray(slate, jnp.int32), None, None, answer, None, None, None)  # type: ignore[arg-type]
        world = tick(jax.random.key(0), world, step, shop.params)
        for item in slate[bought]:
            expected[item] -= 1000 / visitors
        expected = np.maximum(expected, 0.0)
        expected[number % 7 :: 7] = 100.0
        np.testing.assert_allclose(world.stock, expected, rtol=1e-5)
        assert int(world.step) == number + 1
    assert (expected[:12] == 0).any(), "something was sold out"


def test_reward_of_the_shop_is_its_revenue():
    revenue = jnp.array([0.0, 12.5])
    assert parse("revenue")(Response(click=jnp.ones(2), revenue=revenue)).tolist() == [0.0, 12.5]


# The newspaper.


@pytest.fixture(scope="module")
def paper():
    return envs.news(**(SHAPE | {"num_items": 41}), num_candidates=6, per_step=2, slate_size=2)


@pytest.fixture(scope="module")
def arrive(paper):
    return jax.jit(paper.reset)


@pytest.mark.parametrize("clock", [0, 3, 19, 20, 41 * 7 + 5])
def test_editions_follow_the_clock_and_the_archive_begins_again(paper, arrive, clock):
    observation, _ = arrive(jax.random.key(0), paper.params, jnp.int32(clock))
    assert observation.candidates.ids.tolist() == [(2 * clock + place) % 41 for place in range(6)]
    np.testing.assert_allclose(observation.candidates.features[:, 0], np.array([2, 2, 1, 1, 0, 0]) / 3, rtol=1e-6)
    assert int(paper.tick(None, jnp.int32(clock), None, paper.params)) == clock + 1


def test_readers_are_unknown_and_so_is_what_will_be_published(paper):
    assert (np.asarray(arrivals(paper)[0].history) == PAD_ID).all()
    assert np.asarray(paper.items.is_new).tolist() == [False] * 6 + [True] * 35
    popularity = np.asarray(paper.items.popularity)
    assert (popularity[:6] > 0).all()
    assert (popularity[6:] == 0).all()


def test_kinds_of_articles_have_the_declared_shares():
    params = envs.news(num_items=4000, newsroom=envs.Newsroom(breaking_share=0.2)).params
    for found, share in ((params.breaking.mean(), 0.2), (params.perishable.mean(), 0.75)):
        assert abs(float(found) - share) < 4.5 * np.sqrt(share * (1 - share) / 4000)


# The radio, videos, and who is unknown.


def test_tracks_have_artists_of_neighbouring_genres():
    env = envs.music(num_items=95, tracks_per_artist=10)
    artist = np.asarray(env.params.artist)
    by_genre = np.argsort(np.argmax(np.asarray(env.items.content), axis=1), kind="stable")
    assert artist[by_genre].tolist() == [place // 10 for place in range(95)]
    words = env.items.features["artist"]
    assert (words.kind, words.size, words.values[:, 0].tolist()) == ("words", 10, artist.tolist())


def test_listeners_arrive_with_what_they_played():
    observation, listener = arrivals(envs.music(**SHAPE))
    padded = np.asarray(observation.history) == PAD_ID
    np.testing.assert_array_equal(observation.behaviour, np.where(padded, PAD_ID, int(Behaviour.PLAY)))
    assert (~padded).any()
    assert (np.asarray(listener.position) == 0).all()
    assert (np.asarray(observation.context) == 0).all()


def test_lengths_of_videos_are_as_declared():
    env = envs.video(num_items=3000, videos=envs.Videos(median_length=100.0, length_spread=0.5))
    logarithms_are_normal(env.params.length, 100.0, 0.5)


def test_unknown_visitors_have_strong_tastes_and_no_history():
    observation, user = arrivals(envs.session(**SHAPE, taste_scale=2.5))
    assert (np.asarray(observation.history) == PAD_ID).all()
    vectors = np.asarray(user.vector)
    assert vectors.std() == pytest.approx(2.5, abs=4.5 * 2.5 / np.sqrt(2 * vectors.size))


def test_a_number_that_all_items_share_tells_nothing():
    assert standardised(jnp.full(4, 2.5)).values.tolist() == [[0.0]] * 4


# All of them.

NAMES = ("conversational", "ecommerce", "music", "news", "session", "video")


def shapes_within(jaxpr):
    """Shapes of whatever a program computes."""
    for equation in jaxpr.eqns:
        yield from (tuple(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from shapes_within(inner)


def widest(function, *arguments):
    """The longest axis of whatever a program computes."""
    return max(max(shape, default=0) for shape in shapes_within(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize("name", NAMES)
def test_arrivals_and_steps_gather_rows_and_never_touch_the_whole_catalogue(name):
    env = envs.environments.make(name, num_items=1009)
    world, key, slate = env.world(jax.random.key(0)), jax.random.key(1), jnp.arange(env.spec.slate_size)

    def visit(key, params, world):
        _, state = env.reset(key, params, world)
        return env.step(key, state, slate, params, world)

    assert widest(visit, key, env.params, world) < 1009


def test_what_touches_the_whole_catalogue_is_seen():
    env = envs.video(num_items=1009)
    assert widest(lambda params: jnp.argmax(params.factors.bias * 2.0), env.params) == 1009


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("video", {"videos": envs.Videos(median_length=0.0)}, r"Videos.median_length is 0.0; it must lie in \[0.001"),
        ("video", {"slate_size": 0}, "Spec.slate_size is 0"),
        ("ecommerce", {"shop": envs.Shop(cart_rate=2.0)}, r"Shop.cart_rate is 2.0; it must lie in \[0, 1\]"),
        ("music", {"tracks_per_artist": 0}, "tracks_per_artist=0"),
        ("music", {"listening": envs.Listening(comfort=-1.0)}, r"Listening.comfort is -1.0"),
        ("news", {"per_step": 0}, "per_step=0, num_candidates=40 and num_items=10000"),
        ("news", {"num_items": 40}, "num_items=40; it needs 1 <= per_step <= num_candidates < num_items"),
        ("news", {"newsroom": envs.Newsroom(surge_steps=0.0)}, r"Newsroom.surge_steps is 0.0"),
        ("session", {"taste_scale": 0.0}, "taste_scale=0.0"),
    ],
)
def test_bad_input(name, bad, message):
    with pytest.raises(ValueError, match=message):
        envs.environments.make(name, **bad)


def test_declared_parameters_of_domains_are_described():
    for declared in (envs.Dialogue(), envs.Listening(), envs.Newsroom(), envs.Shop(), envs.Videos()):
        assert all(len(row.doc) > 20 for row in envs.describe(declared))


def test_worlds_begin_with_full_shelves_and_at_step_0(shop, paper):
    world = shop.world(jax.random.key(0))
    assert isinstance(world, Warehouse)
    assert (np.asarray(world.stock) == 100).all()
    assert int(world.step) == int(paper.world(jax.random.key(0))) == 0
    assert isinstance(paper.spec, Spec)
