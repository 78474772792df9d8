"""Choice models by hand and against enumeration; the best slates against all slates."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import envs
from recjax.envs.choice.models import draw

MODELS = {
    "logit": envs.multinomial_logit(no_click=0.5),
    "proportional": envs.multinomial_proportional(no_click=0.5, min_normalizer=-2.0),
    "exponential": envs.exponential_cascade(attention=0.8, scaling=0.3),
    "cascade": envs.proportional_cascade(attention=0.7, scaling=0.3, min_normalizer=-1.0),
}
SHOWN = np.array([True, True, False, True])
SCORES = np.array([0.4, -0.7, 0.9, 1.1])


def by_enumeration(chances):
    """Of all patterns of coins that fall for a slot or against it, the first that falls for it is clicked."""
    found = np.zeros(len(chances) + 1)
    for coins in itertools.product((False, True), repeat=len(chances)):
        probability = np.prod([c if coin else 1 - c for c, coin in zip(chances, coins, strict=True)])
        found[coins.index(True) if any(coins) else -1] += probability
    return found


def expected(name, scores, shown):
    """In float64, from the definitions."""
    if name == "logit":
        weights = np.append(np.exp(scores) * shown, np.exp(0.5))
        return weights / weights.sum()
    if name == "proportional":
        weights = np.append((scores + 2.0) * shown, 2.5)
        return weights / weights.sum()
    if name == "exponential":
        return by_enumeration(0.8 * 0.3 * np.exp(scores) * shown)
    return by_enumeration(0.7 * 0.3 * (scores + 1.0) * shown)


@pytest.mark.parametrize("name", MODELS)
def test_probabilities(name):
    found = MODELS[name].probabilities(jnp.float32(SCORES), jnp.array(SHOWN))
    np.testing.assert_allclose(found, expected(name, SCORES, SHOWN), rtol=2e-6)
    assert found[2] == 0


def test_by_hand():
    logit = envs.multinomial_logit(no_click=float(np.log(4)))
    scores, shown = jnp.log(jnp.array([1.0, 2.0, 3.0])), jnp.ones(3, bool)
    np.testing.assert_allclose(logit.probabilities(scores, shown), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    cascade = envs.proportional_cascade(attention=0.5, scaling=0.5, min_normalizer=-1.0)
    # Chances .5 * .5 * 2 = .5, .25 and 0.
    found = cascade.probabilities(jnp.array([1.0, 0.0, -1.0]), shown)
    np.testing.assert_allclose(found, [0.5, 0.125, 0.0, 0.375], rtol=1e-6)


def test_nothing_shown_is_no_click():
    for model in MODELS.values():
        np.testing.assert_array_equal(model.probabilities(jnp.zeros(3), jnp.zeros(3, bool)), [0, 0, 0, 1])


def test_scores_outside_of_what_is_a_probability_are_cut():
    far = jnp.array([-9.0, 9.0])
    shown = jnp.ones(2, bool)
    np.testing.assert_allclose(MODELS["proportional"].probabilities(far, shown), [0, 11 / 13.5, 2.5 / 13.5], rtol=1e-6)
    np.testing.assert_allclose(MODELS["cascade"].probabilities(far, shown), [0, 0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(MODELS["exponential"].probabilities(far, shown)[2], 0.2, rtol=1e-3)


def test_weights_are_what_the_probabilities_are_made_of():
    """Of multinomial models the odds of two slots; of cascades the probability of the first."""
    scores, shown = jnp.float32(SCORES), jnp.ones(4, bool)
    for name in ("logit", "proportional"):
        weights, found = MODELS[name].weights(scores), MODELS[name].probabilities(scores, shown)
        np.testing.assert_allclose(weights[1:] / weights[0], found[1:4] / found[0], rtol=1e-5)
    for name in ("exponential", "cascade"):
        np.testing.assert_allclose(
            MODELS[name].weights(scores)[0], MODELS[name].probabilities(scores, shown)[0], rtol=1e-6
        )


def test_draw_inverts_the_distribution_function():
    weights = jnp.array([0.0, 1.0, 0.0, 2.5, 0.5, 0.0])
    uniform = (jnp.arange(1000) + 0.5) / 1000
    found = np.bincount(draw(jnp.broadcast_to(weights, (1000, 6)), uniform), minlength=6)
    np.testing.assert_array_equal(found, [0, 250, 0, 625, 125, 0])
    assert draw(weights, jnp.float32(0.0)) == 1
    assert draw(weights, jnp.float32(1.0 - 2.0**-24)) == 4


def test_many_users_are_single_users():
    scores = jnp.stack([jnp.float32(SCORES), -jnp.float32(SCORES)])
    for model in MODELS.values():
        both = model.probabilities(scores, jnp.stack([jnp.array(SHOWN)] * 2))
        one = model.probabilities(scores[1], jnp.array(SHOWN))
        np.testing.assert_allclose(both[1], one, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_best_slate_is_the_best_of_all(name):
    """In the best order, too, which matters in a cascade; also where no click is worth more than some clicks."""
    users, candidates, slots = 12, 5, 3
    rng = np.random.default_rng(0)
    scores, values = rng.uniform(-0.9, 1.0, (users, candidates)), rng.normal(size=(users, candidates))
    nothing = rng.normal(size=users)
    found = np.asarray(
        jax.jit(MODELS[name].best_slate, static_argnums=3)(*map(jnp.float32, (scores, values, nothing)), slots)
    )
    for user in range(users):

        def worth(slate, user=user):
            chances = expected(name, scores[user, slate], np.ones(slots))
            return chances @ np.append(values[user, slate], nothing[user])

        assert len(set(found[user])) == slots
        best = max(worth(list(slate)) for slate in itertools.permutations(range(candidates), slots))
        np.testing.assert_allclose(worth(found[user]), best, rtol=1e-5, atol=1e-6)


def test_a_cascade_fills_its_slate_with_what_is_never_clicked():
    model = MODELS["cascade"]
    found = model.best_slate(jnp.array([[-1.0, 0.5, -1.0]]), jnp.array([[1.0, 2.0, 3.0]]), jnp.zeros(1), 3)
    assert sorted(np.asarray(found)[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (envs.multinomial_logit, {"no_click": -np.inf}, "no_click is -inf; it must be a finite score"),
        (envs.multinomial_proportional, {"no_click": -1.0, "min_normalizer": -1.0}, "no_click must be the larger"),
        (envs.exponential_cascade, {"attention": 1.5, "scaling": 0.1}, r"attention is 1\.5"),
        (envs.proportional_cascade, {"attention": 1.0, "scaling": -0.1, "min_normalizer": 0.0}, r"scaling is -0\.1"),
    ],
)
def test_bad_parameters_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
