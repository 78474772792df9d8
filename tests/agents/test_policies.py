"""What the policies that do not come from rewards rank by, against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, nn
from recjax.types import Observation, Response, Spec

SPEC = Spec(num_items=20, slate_size=3, history_length=2)


@pytest.fixture(scope="module")
def problem(kit):
    """Items, a network that is trained enough to have opinions, and observations."""
    items = kit.make_items(SPEC.num_items)
    network = nn.Recommendation.of(num_items=SPEC.num_items, dim=6, temperature=0.5)
    history = jnp.array([[-1, -1], [-1, 3], [7, 8]], jnp.int32)
    observation = Observation(history=history, behaviour=jnp.where(history < 0, -1, 1))
    params = jax.jit(network.init)(jax.random.key(2), observation, items)
    return items, network, params, observation


def best(scores, history, k=SPEC.slate_size):
    scores = np.array(scores, np.float64)
    for row, seen in enumerate(np.asarray(history)):
        scores[row, seen[seen >= 0]] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def slate_of(agent, items, observation):
    state = agent.init(jax.random.key(0), SPEC, items)
    return jax.jit(lambda state, o: agent.act(jax.random.key(0), state, o, explore=False).slate)(state, observation)


def test_popularity(problem):
    items, _, _, observation = problem
    slate = slate_of(agents.popularity(), items, observation)
    np.testing.assert_array_equal(slate, best(np.tile(items.popularity, (3, 1)), observation.history))


def test_greedy(problem):
    items, network, params, observation = problem
    slate = slate_of(agents.supervised_greedy(network, params), items, observation)
    np.testing.assert_array_equal(slate, best(network.apply(params, observation, items), observation.history))


@pytest.mark.parametrize("prior", ["policy", "popularity", "given"])
def test_similarity_times_prior(problem, prior):
    items, network, params, observation = problem
    logits = np.asarray(network.apply(params, observation, items), np.float64)
    cosine = 0.5 * logits
    assert (cosine < 0).any()
    given = jax.nn.softmax(jax.random.normal(jax.random.key(1), (3, SPEC.num_items)) * 3)
    probability = {
        "policy": np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        "popularity": np.tile(items.popularity / items.popularity.sum(), (3, 1)),
        "given": np.asarray(given),
    }[prior]
    agent = agents.similarity_prior(network, params, prior=(lambda o, i: given) if prior == "given" else prior)
    expected = best((1 + cosine) / 2 * probability, observation.history)
    np.testing.assert_array_equal(slate_of(agent, items, observation), expected)


def test_similarity_prior_refuses_what_it_cannot_do(problem):
    items, network, params, observation = problem
    with pytest.raises(ValueError, match="prior is 'popular'"):
        agents.similarity_prior(network, params, prior="popular")
    mlp = nn.MLPQ.of(num_items=SPEC.num_items, dim=4)
    agent = agents.similarity_prior(mlp, jax.jit(mlp.init)(jax.random.key(0), observation, items))
    with pytest.raises(ValueError, match="MLPQ has no item vectors"):
        slate_of(agent, items, observation)


def test_supervised_loss_is_the_cross_entropy_of_the_clicks(kit, problem):
    items, network, params, _ = problem
    sample = kit.windows(
        [[1], [2], [3]], [[[4, 5, 6]]] * 3, [[[1, 0, 1]], [[0, 1, 0]], [[1, 1, 1]]], [[0]] * 3, [[0]] * 3,
        valid=[True, True, False],
    )  # fmt: skip
    assert isinstance(sample.experience.response, Response)
    agent = agents.supervised(agents.ClickPrediction(network), optax.sgd(0.1))
    state = agent.init(jax.random.key(0), SPEC, items, params=params)
    _, metrics, _ = jax.jit(agent.learn)(jax.random.key(0), state, sample)
    observation = jax.tree.map(lambda x: x[:, 0], sample.experience.observation)
    logits = np.asarray(network.apply(params, observation, items), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert float(metrics["clicks"]) == 3
    np.testing.assert_allclose(metrics["loss"], -(log_p[0, 4] + log_p[0, 6] + log_p[1, 5]) / 3, rtol=1e-5)


def test_random_covers_the_catalogue(problem):
    items, _, _, observation = problem
    agent = agents.random()
    state = agent.init(jax.random.key(0), SPEC, items)
    many = jax.tree.map(lambda x: jnp.repeat(x[2:], 400, axis=0), observation)
    slate, log_prob, extras = jax.jit(lambda key: agent.act(key, state, many, explore=False))(jax.random.key(4))
    assert set(np.unique(slate).tolist()) == set(range(20)) - {7, 8}
    np.testing.assert_allclose(extras["propensity"], 1 / 18, rtol=1e-6)
    np.testing.assert_allclose(log_prob, -np.log(18 * 17 * 16), rtol=1e-6)


def test_tabular_bad_input_is_named(problem):
    items = problem[0]
    with pytest.raises(ValueError, match="step_size is 0"):
        agents.q_learning(step_size=0)
    with pytest.raises(ValueError, match="discount is -1"):
        agents.q_learning(discount=-1)
    with pytest.raises(ValueError, match=r"shape \(3, 20\); it must be \(21, 20\)"):
        agents.q_learning().init(jax.random.key(0), SPEC, items, params=jnp.zeros((3, 20)))
