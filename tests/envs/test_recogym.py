"""RecoGym against an implementation in float64 that is written from the definitions."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.sims import recogym_browsing
from recjax.envs.sims.recogym import link
from recjax.types import PAD_ID, Behaviour, Revealed

ITEMS, USERS, STEPS = 23, 4096, 3
LIVELY = envs.RecogymSetting(
    factors=3, flips=4, drift=0.5, organic_to_bandit=0.3, leave_organic=0.1, bandit_to_organic=0.4, leave_bandit=0.5
)


@pytest.fixture(scope="module")
def env():
    return envs.recogym(num_items=ITEMS, history_length=40, setting=LIVELY)


@pytest.fixture(scope="module")
def followed(env):
    """Users at arrival, and what three random products each did to them; leaves ``[STEPS, USERS, ...]``."""

    def run(keys, slates):
        arrived = jax.vmap(env.reset, in_axes=(0, None, None))(keys[0], env.params, None)

        def visit(state, step):
            after = jax.vmap(env.step, in_axes=(0, 0, 0, None, None))(step[0], state, step[1], env.params, None)
            return after.state, (state, after)

        return arrived, *jax.lax.scan(visit, arrived[1], (keys[1:], slates))[1]

    slates = np.random.default_rng(0).integers(ITEMS, size=(STEPS, USERS, 1)).astype(np.int32)
    keys = jax.random.split(jax.random.key(0), (STEPS + 1, USERS))
    return slates, *jax.tree.map(np.asarray, jax.jit(run)(keys, slates))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def close_to(found, share, count):
    """A frequency of ``count`` draws is within four standard errors of what it should be."""
    return abs(found - share) < 4 * np.sqrt(share * (1 - share) / count)


def test_the_link_has_a_hard_range():
    for logit, rate in ((-1e4, 0.448), (1e4, 2.931)):
        assert float(link(jnp.float32(logit))) == pytest.approx(rate / 100, abs=5e-6)
    np.testing.assert_allclose(
        link(jnp.array([-5.0, 0.0, 7.5])),
        [sigmoid(5 * sigmoid(2 * sigmoid(0.3 * x) - 2) - 6) for x in (-5.0, 0.0, 7.5)],
        rtol=1e-5,
    )


def test_one_user_follows_the_definition(env):
    """Every number that a user draws is drawn here once more; the rest is NumPy."""
    params = jax.tree.map(lambda x: np.asarray(x, float), env.params)
    organic = params.organic
    gap = lambda x: max(-(-len(x) // 5) * 5 - len(x), 0)  # noqa: E731
    omega_key, phase_key = jax.random.split(jax.random.key(11))
    omega, events, ended = np.asarray(jax.random.normal(omega_key, (3,)), float), [], 0

    def phase(key, omega, drifts):
        """Blocks of five products each: a block is drawn, then a product of it."""
        views = 0
        while True:
            uniform_key, drift_key = jax.random.split(jax.random.fold_in(key, views))
            block_u, item_u, next_u = np.asarray(jax.random.uniform(uniform_key, (3,)), float)
            if drifts:
                omega = omega + 0.5 * np.asarray(jax.random.normal(drift_key, (3,)), float)
            odds = np.pad(softmax(organic.vectors @ omega + organic.bias), (0, gap(organic.bias))).reshape(-1, 5)
            block = int(np.searchsorted(np.cumsum(odds.sum(1)), block_u))
            item = int(np.searchsorted(np.cumsum(odds[block]) / odds[block].sum(), item_u))
            events.append((5 * block + item, Behaviour.VIEW))
            views, drifts = views + 1, True
            if next_u >= 0.6:
                return omega, next_u >= 0.9

    reset, step = jax.jit(env.reset), jax.jit(env.step)
    _, state = reset(jax.random.key(11), env.params, None)
    omega, _ = phase(phase_key, omega, False)
    for number, product in enumerate(np.random.default_rng(1).integers(ITEMS, size=12)):
        np.testing.assert_allclose(state.omega, omega, atol=1e-5)
        padded = [(PAD_ID, PAD_ID)] * (40 - len(events)) + events[-40:]
        np.testing.assert_array_equal(state.observation.history, [item for item, _ in padded])
        np.testing.assert_array_equal(state.observation.behaviour, [behaviour for _, behaviour in padded])
        key = jax.random.key(100 + number)
        after = step(key, state, jnp.array([product]), env.params, None)
        uniform_key, phase_key = jax.random.split(key)
        click_u, next_u = np.asarray(jax.random.uniform(uniform_key, (2,)), float)
        rate = sigmoid(5 * sigmoid(2 * sigmoid(0.3 * (params.vectors[product] @ omega + params.bias[product])) - 2) - 6)
        assert float(after.info["click_probability"]) == pytest.approx(rate, rel=1e-5)
        click, before = click_u < rate, len(events)
        assert float(after.response["click"][0]) == click
        events.append((int(product), Behaviour.CLICK if click else Behaviour.IMPRESSION))
        left = next_u >= 0.5 and not click
        if click or next_u < 0.4:
            omega, left = phase(phase_key, omega, next_u < 0.4)
        assert int(after.info["views"]) == len(events) - before - 1
        assert bool(after.terminated) == left
        ended, state = ended + left, after.state
    assert ended > 1, "and this one left, and was kept all the same"
    nothing = step(jax.random.key(0), state, jnp.array([PAD_ID]), env.params, None)
    assert float(nothing.info["click_probability"]) == 0.0
    recommended = [x.observation.behaviour > int(Behaviour.VIEW) for x in (state, nothing)]
    assert recommended[1].sum() <= recommended[0].sum()


def test_where_users_go_after_a_recommendation(followed):
    _, _, _, after = followed
    click, views = after.response["click"][..., 0] == 1, after.info["views"]
    assert (views[click] > 0).all(), "who clicks browses"
    assert click.sum() > 50
    waiting = ~click & (views == 0)
    assert close_to((views[~click] > 0).mean(), 0.4, (~click).sum())
    assert close_to(after.terminated[waiting].mean(), 0.5 / 0.6, waiting.sum())
    browsing = views > 0
    assert close_to(after.terminated[browsing].mean(), 0.25, browsing.sum())
    assert close_to(after.terminated[click].mean(), 0.25, click.sum()), "a click overrides leaving"
    for count in (1, 2, 3):
        assert close_to((views[browsing] == count).mean(), 0.4 * 0.6 ** (count - 1), browsing.sum())
    assert not after.truncated.any()


def test_tastes_drift_before_every_view_but_one_that_a_click_brings(followed):
    _, _, before, after = followed
    moved = np.mean((after.state.omega - before.omega) ** 2, axis=-1) / 0.5**2
    click, views = after.response["click"][..., 0] == 1, after.info["views"]
    assert (moved[views == 0] == 0).all()
    for count in (1, 2, 3):
        own = ~click & (views == count)
        assert moved[own].mean() == pytest.approx(count, rel=4 * np.sqrt(2 / 3 / own.sum()))
    # A user who clicks would have browsed anyway with probability .4, and drifts before the first view only then.
    extra = moved[click] - (views[click] - 1)
    assert extra.mean() == pytest.approx(0.4, abs=0.25)


def test_clicks_come_at_their_probability(followed):
    _, _, _, after = followed
    rate = after.info["click_probability"]
    clicks = after.response["click"].sum()
    assert abs(clicks - rate.sum()) < 4 * np.sqrt(np.sum(rate * (1 - rate)))
    assert rate.std() > 1e-3


def test_arrivals_have_browsed_and_are_never_gone(followed):
    _, (observation, users), _, _ = followed
    assert users.omega.std() == pytest.approx(np.sqrt(1 + 0.25 * 1.5), rel=0.03), "1.5 views after the first"
    views = (observation.history != PAD_ID).sum(axis=1)
    assert close_to((views == 1).mean(), 0.4, USERS)
    assert set(np.unique(observation.behaviour)) == {PAD_ID, int(Behaviour.VIEW)}


def test_first_views_are_drawn_from_the_softmax(env):
    organic = env.params.organic
    omega = jnp.array([0.7, -1.0, 0.3])
    uniform = jax.random.uniform(jax.random.key(2), (20_000, 2))
    draw = jax.jit(jax.vmap(lambda u: recogym_browsing._draw(organic.vectors @ omega + organic.bias, u[0], u[1])))
    counts = np.bincount(np.asarray(draw(uniform)), minlength=ITEMS)
    odds = softmax(np.asarray(organic.vectors, float) @ np.asarray(omega, float) + np.asarray(organic.bias, float))
    often = odds > 1e-3
    assert np.sum((counts - 20_000 * odds)[often] ** 2 / (20_000 * odds[often])) < 45, "chi-square, 22 at most"


def test_leaving_a_bandit_phase_is_a_quirk_when_faithful():
    setting = envs.RecogymSetting(leave_organic=0.1, leave_bandit=0.3)
    for faithful, leave in ((False, 0.3), (True, 0.1)):
        params = envs.recogym(num_items=4, setting=setting, faithful=faithful).params
        assert float(params.leave) == pytest.approx(leave)
        assert float(params.organic.leave) == pytest.approx(0.1)


@pytest.mark.parametrize("faithful", [False, True])
def test_flips_swap_the_most_similar_pairs(faithful):
    """By the definition: all pairs by falling inner product, where the original puts 0 for a product and itself."""
    for flips in (1, 3, 6):
        setting = envs.RecogymSetting(flips=flips)
        params = envs.recogym(num_items=12, setting=setting, faithful=faithful, key=jax.random.key(3)).params
        plain = np.asarray(params.organic.vectors, float)
        products = plain @ plain.T
        np.fill_diagonal(products, 0.0 if faithful else -np.inf)
        swapped, used, done = np.arange(12), set(), 0
        for flat in np.argsort(-products, axis=None):
            i, j = divmod(int(flat), 12)
            if done < flips and not {i, j} & used:
                swapped[i], swapped[j] = j, i
                used |= {i, j}
                done += 1
        np.testing.assert_array_equal(params.vectors, np.asarray(params.organic.vectors)[swapped])
        np.testing.assert_array_equal(params.bias, np.asarray(params.organic.bias)[swapped])
    assert np.any(swapped == np.arange(12)) == faithful, "the sixth pair is of a product and itself"
    unflipped = envs.recogym(num_items=12, key=jax.random.key(3)).params
    np.testing.assert_array_equal(unflipped.vectors, unflipped.organic.vectors)


def test_popularity_is_what_arriving_users_view(followed, env):
    _, (observation, _), _, _ = followed
    first = observation.history[np.arange(USERS), (observation.history == PAD_ID).sum(axis=1)]
    share = np.bincount(first, minlength=ITEMS) / USERS
    np.testing.assert_allclose(env.items.popularity, share, atol=0.03)
    assert float(env.items.popularity.sum()) == pytest.approx(1.0, rel=1e-5)


def test_users_of_several_seeds_browse_together(env):
    """Seeds, and catalogues, are axes of a map like users."""
    keys = jax.random.split(jax.random.key(9), (2, 5))
    users = jax.vmap(env.reset, in_axes=(0, None, None))
    by_seed = jax.jit(jax.vmap(users, in_axes=(0, None, None)))(keys, env.params, None)
    both = jax.tree.map(lambda x: jnp.stack([x, x]), env.params)
    by_catalogue = jax.jit(jax.vmap(users, in_axes=(0, 0, None)))(keys, both, None)
    for seed in range(2):
        alone = jax.jit(users)(keys[seed], env.params, None)
        for one, *others in zip(*map(jax.tree.leaves, (alone, by_seed, by_catalogue)), strict=True):
            for other in others:
                np.testing.assert_allclose(one, other[seed], rtol=1e-5, atol=1e-5)


def test_only_rows_of_a_view_are_as_wide_as_the_catalogue():
    env = envs.recogym(num_items=2500)
    visit = jax.vmap(lambda key: env.reset(key, env.params, None))
    program = str(jax.make_jaxpr(visit)(jax.random.split(jax.random.key(0), 640)))
    shapes = {tuple(map(int, shape.split(","))) for shape in re.findall(r"\[([\d,]+)\]", program)}
    assert max(np.prod(shape) for shape in shapes if shape[0] in (640, 20)) == 20 * 2500, "one in 32 users at a time"


def test_the_oracle_recommends_what_is_clicked_most_probably(followed, env):
    _, (observation, state), _, _ = followed
    users = Revealed(*jax.tree.map(lambda x: x[:50], (observation, state)), env.params, None)
    slates = np.asarray(jax.jit(env.oracles["myopic"].choose)(jax.random.key(0), users, None))
    logits = state.omega[:50].astype(float) @ np.asarray(env.params.vectors, float).T + np.asarray(env.params.bias)
    np.testing.assert_array_equal(slates[:, 0], logits.argmax(axis=1))
    assert len(set(slates[:, 0].tolist())) > 1


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"flips": -1}, "flips is -1; it must be >= 0"),
        ({"factors": 0}, "factors is 0; it must be >= 1"),
        ({"taste_scale": -1.0}, "taste_scale is -1.0"),
        ({"drift": -0.1}, "drift is -0.1"),
        ({"organic_to_bandit": 0.0}, r"organic_to_bandit is 0.0; it must be in \(0, 1\]"),
        ({"leave_organic": 0.8}, "leave_organic is 0.8"),
        ({"bandit_to_organic": 1.5}, "bandit_to_organic is 1.5"),
        ({"leave_bandit": 0.96}, r"leave_bandit is 0.96; it must be in \[0, 1 - bandit_to_organic\]"),
    ],
)
def test_bad_input_is_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        envs.RecogymSetting(**kwargs)


def test_more_pairs_than_products_are_refused():
    with pytest.raises(ValueError, match="flips is 6, but 10 items make 5 pairs"):
        envs.recogym(num_items=10, setting=envs.RecogymSetting(flips=6))
