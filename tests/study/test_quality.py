"""What can be counted on a log: how often items are liked, and what a user has just had."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, nn
from recjax.data import Behaviour, Dataset, IdMap, Interactions
from recjax.envs import PreferenceConfig
from recjax.study.quality import (
    BOREDOM_WEIGHT,
    DECAY,
    PRIOR,
    all_liked,
    liked_events,
    quality,
    rested_policy,
    session_memory,
)
from recjax.types import Items, Observation, Spec

NOBODY = Interactions([], [])


def made(log, items):
    users = int(log.user.max()) + 1
    return Dataset("made", log, IdMap(tuple(map(str, range(users)))), IdMap(tuple(map(str, range(items)))))


def logit(share):
    return np.log(share / (1 - share))


def test_ratings_are_shares_smoothed_by_the_mean_of_all():
    log = Interactions([0, 1, 2, 0, 1], [0, 0, 0, 1, 1], rating=[5.0, 4.0, 1.0, 2.0, 3.0])
    evidence = envs.read_evidence(made(log, 3))
    mean = 2 / 5
    expected = [(2 + PRIOR * mean) / (3 + PRIOR), PRIOR * mean / (2 + PRIOR), mean]
    np.testing.assert_allclose(quality(evidence, NOBODY), logit(np.array(expected)), rtol=1e-6)
    assert liked_events(log, evidence).tolist() == [True, True, False, False, False]
    unrated = Interactions([0, 1], [0, 1], rating=[np.nan, 4.0])
    assert liked_events(unrated, evidence).tolist() == [False, True]


def test_held_out_pairs_do_not_count():
    log = Interactions([0, 1, 2, 0, 1], [0, 0, 0, 1, 1], rating=[5.0, 4.0, 1.0, 2.0, 3.0])
    held_out = Interactions([1, 0], [0, 1])
    evidence = envs.read_evidence(made(log, 2))
    mean = 1 / 3
    expected = [(1 + PRIOR * mean) / (2 + PRIOR), PRIOR * mean / (1 + PRIOR)]
    np.testing.assert_allclose(quality(evidence, held_out), logit(np.array(expected)), rtol=1e-6)


def test_of_what_was_only_taken_it_is_the_share_of_all():
    log = Interactions([0, 1, 2, 0], [0, 0, 0, 1])
    evidence = envs.read_evidence(made(log, 3), PreferenceConfig(feedback="implicit"))
    np.testing.assert_allclose(quality(evidence, NOBODY), logit(np.array([4, 2, 1]) / 7), rtol=1e-6)
    assert liked_events(log, evidence) is None


def test_a_collected_log_may_have_everything():
    """Every user took every item, which says nothing of what was passed over."""
    log = Interactions([0, 0, 1, 1, 1], [0, 1, 0, 1, 1])
    np.testing.assert_allclose(quality(all_liked(made(log, 2)), NOBODY), logit(np.array([3, 4]) / 7), rtol=1e-6)
    assert liked_events(log, all_liked(made(log, 2))) is None


@pytest.fixture(scope="module")
def catalogue():
    items = Items(popularity=jnp.full(6, 1 / 6), is_new=jnp.zeros(6, bool))
    return items, Spec(num_items=6, slate_size=2, history_length=4)


def test_the_policy_shows_what_is_liked_most(catalogue):
    items, spec = catalogue
    logits = np.array([0.0, 3.0, 1.0, 2.0, -1.0, -2.0], np.float32)
    agent = agents.popularity()
    state = agent.init(jax.random.key(0), spec, items, params=logits)
    had = Observation(jnp.array([[-1, -1, -1, -1], [-1, -1, 1, 4]]), jnp.array([[-1] * 4, [-1, -1, 1, 1]]))
    assert agent.act(jax.random.key(1), state, had).slate.tolist() == [[1, 3], [3, 2]]


def test_what_was_clicked_makes_its_topic_boring(catalogue):
    """Against the formula in float64."""
    items, spec = catalogue
    model = nn.Recommendation.of(6, dim=4)
    click, view = int(Behaviour.CLICK), int(Behaviour.VIEW)
    had = Observation(jnp.array([[-1, 0, 3, 5]]), jnp.array([[-1, click, view, click]]))
    params = model.init(jax.random.key(2), had, items)
    logits = np.random.default_rng(0).normal(size=6).astype(np.float32)
    agent = rested_policy(model)
    state = agent.init(jax.random.key(0), spec, items, params=(logits, params))
    queries, scorer = agent.scores(state, had)

    vectors = np.asarray(model.apply(params, items, method="item_index").vectors, np.float64)
    topics = vectors - vectors.mean(axis=0)
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    memory = (1 - DECAY) * (topics[5] + DECAY * topics[0])
    expected = logits - BOREDOM_WEIGHT * np.maximum(topics @ memory, 0)
    np.testing.assert_allclose(scorer.score_block(queries, 0, 6)[0], expected, rtol=1e-5, atol=1e-5)


def test_memory_is_of_clicks_on_known_items():
    click = int(Behaviour.CLICK)
    unknown = Observation(jnp.array([[9, 1]]), jnp.array([[click, click]]))
    found = session_memory(unknown, jnp.eye(2))
    np.testing.assert_allclose(found, [[0.0, 1 - DECAY]], rtol=1e-6)
