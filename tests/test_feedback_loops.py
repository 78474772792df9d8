"""The parts of the study of feedback loops that would mislead if they were wrong."""

from __future__ import annotations

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import agents, envs, eval
from recjax.replay import Batch
from recjax.response import Response
from recjax.types import Step

FOLDER = Path(__file__).parents[1] / "experiments" / "loop"


@pytest.fixture
def module(monkeypatch):
    """``module(name)`` is one of the modules beside the script."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_a_click_weighs_as_much_as_its_slot_was_unlikely(module):
    feedback = module("_feedback")
    seen = []
    inner = agents.Agent(
        init=None, act=None, learn=lambda key, state, batch: seen.append(batch), hparams=agents.ExplorationHyper()
    )
    agent = feedback.weighed(inner)
    click, propensity = jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[[0.5, 0.1], [0.25, 0.01]]])
    step = Step(None, None, None, {"propensity": propensity}, Response(click=click, like=click), None, None, None)
    for most, expected in ((1.0, [[1, 0], [0, 1]]), (20.0, [[2, 0], [0, 20]])):
        state = type("State", (), {"hparams": agent.hparams.replace(most=most)})
        agent.learn(None, state, Batch(step, None, None, None))
        np.testing.assert_array_equal(seen[-1].experience.response["click"][0], expected)
        np.testing.assert_array_equal(seen[-1].experience.response["like"], click)


def test_what_is_measured_by_hand(module):
    env = envs.synthetic(num_items=6, slate_size=2, history_length=2, factors=2)
    draw = jax.jit(jax.vmap(lambda key: env.reset(key, env.params, None)[1]))
    users = draw(jax.random.split(jax.random.key(0), 8))
    rng = np.random.default_rng(0)
    slates = np.stack([[rng.permutation(6)[:2] for _ in range(8)] for _ in range(3)])
    clicks = (rng.random(slates.shape) < 0.4).astype(np.float32)
    pleasure = clicks * rng.random(slates.shape).astype(np.float32)
    measured = module("_feedback").measured
    found = jax.jit(lambda *seen: measured(env, *seen))(users, slates, clicks, pleasure)

    vectors, bias, own = (
        np.asarray(x, float) for x in (env.params.factors.vectors, env.params.factors.bias, users.vector)
    )
    likes = own @ vectors.T + bias + np.asarray(users.bias)[:, None]
    popularity, counts = (1 / (1 + np.exp(-likes))).mean(0), np.bincount(slates.ravel(), minlength=6)
    usual = (popularity**2).sum() / popularity.sum()
    assert found["popularity_lift"] == pytest.approx((counts @ popularity / counts.sum() - usual) / usual, abs=1e-5)

    cosine = own @ own.T / np.outer(np.linalg.norm(own, axis=1), np.linalg.norm(own, axis=1)) - 9 * np.eye(8)
    eaten = [set(slates[:, user][clicks[:, user] > 0].tolist()) for user in range(8)]
    pairs = [(eaten[a], eaten[b]) for a, b in enumerate(cosine.argmax(1)) if eaten[a] and eaten[b]]
    assert found["jaccard_alike"] == pytest.approx(np.mean([len(a & b) / len(a | b) for a, b in pairs]), abs=1e-5)

    each, mainstream = pleasure.sum((0, 2)) / 3, [np.corrcoef(row, bias)[0, 1] for row in likes]
    order = np.argsort(mainstream)
    assert found["pleasure"] == pytest.approx(each.mean(), abs=1e-5)
    assert found["niche_gap"] == pytest.approx(each[order[:2]].mean() - each[order[-2:]].mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "sign", "said"),
    [(1, 2, 1, "SAME"), (1, 2, -1, "OPPOSITE"), (-2, -1, -1, "SAME"), (-1, 2, 1, "UNTOLD"), (-1, 2, -1, "UNTOLD")],
)
def test_verdicts(module, low, high, sign, said):
    results = module("_feedback_results")
    known = results.Known("somebody", "something", "coverage", sign, "loop")
    interval = eval.Interval((low + high) / 2, low, high, 0.95, 9)
    assert known.verdict(interval) == getattr(results, said)
